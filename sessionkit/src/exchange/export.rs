//! The writer of export streams.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use session_core::backend::{SessionStorageExt as _, Tip, blocking};
use session_core::{SessionId, StorageError, StoredRecord};
use session_runner::{Chunk, OutputCut, OutputStream};
use xxhash_rust::xxh3::Xxh3;

use super::{EXPORT_FORMAT, ExchangeError, Line, StreamName};
use crate::store::Store;

/// Bytes of output read at a time.
const PAGE: usize = 256 * 1024;

/// Choice between exporting sessions with or without their captured output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Output {
    /// With output.
    #[default]
    Included,
    /// Without output.
    LeftOut,
}

/// The export of some sessions as a stream. A session that cannot be read is left out and reported by
/// [`failed`](Self::failed). If a session is deleted or damaged while it is exported, the stream ends without its last
/// line, so that no import accepts it. The memory that it takes does not grow with the sessions.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> sessionkit::Result<()> {
/// # use sessionkit::SessionManagerExt as _;
/// # let store = sessionkit::builder("memory:").open_store().await?;
/// # let id = store.manager().run(sessionkit::SessionConfig::new("work"), async |_| Ok(())).await?.id;
/// let mut export = store.export(vec![id], sessionkit::storage::Output::Included);
/// let mut file = Vec::new();
/// while let Some(piece) = export.next().await {
///     file.extend(piece);
/// }
/// assert!(export.failed().is_empty());
/// # let elsewhere = sessionkit::builder("memory:").open_store().await?;
/// let mut check = sessionkit::storage::ImportCheck::new();
/// for line in file.split_inclusive(|byte| *byte == b'\n') {
///     check.line(line).expect("the export is whole");
/// }
/// let mut import = elsewhere.import(check.finish().expect("it ends")).await.expect("there is room for it");
/// for line in file.split_inclusive(|byte| *byte == b'\n') {
///     import.line(line).await.expect("nothing changed since it was checked");
/// }
/// assert_eq!(import.finish().imported, [id]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Export {
    store: Store,
    ids: std::vec::IntoIter<SessionId>,
    with: Output,
    failed: Vec<(SessionId, ExchangeError)>,
    sessions: u64,
    /// The checksum of everything so far.
    whole: Xxh3Sum,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Begin,
    Between,
    Log { session: Box<OpenSession>, page: Vec<StoredRecord>, end: Tip },
    Output { session: Box<OpenSession>, from: u64 },
    Done,
}

#[derive(Debug)]
struct OpenSession {
    id: SessionId,
    records: u64,
    /// The end of each stream's output so far.
    stream_ends: StreamEnds,
    /// The checksum of the session's lines so far.
    sum: Xxh3Sum,
}

/// A running checksum.
#[derive(Default)]
pub(super) struct Xxh3Sum(Xxh3);

impl std::fmt::Debug for Xxh3Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text())
    }
}

impl Xxh3Sum {
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(super) fn text(&self) -> String {
        format!("{:016x}", self.0.digest())
    }
}

impl Store {
    /// Exports sessions, with or without their programs' output.
    #[must_use]
    pub fn export(&self, ids: Vec<SessionId>, with: Output) -> Export {
        Export {
            store: self.clone(),
            ids: ids.into_iter(),
            with,
            failed: Vec::new(),
            sessions: 0,
            whole: Xxh3Sum::default(),
            stage: Stage::Begin,
        }
    }
}

impl Export {
    /// Returns the next piece of the stream, which consists of complete lines; `None` at the end.
    pub async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            let piece = match std::mem::replace(&mut self.stage, Stage::Done) {
                Stage::Begin => {
                    self.stage = Stage::Between;
                    text(&Line::Export { format: EXPORT_FORMAT })
                }
                Stage::Between => match self.ids.next() {
                    Some(id) => match self.begin(id).await {
                        Ok(piece) => piece,
                        Err(error) => {
                            self.stage = Stage::Between;
                            self.failed.push((id, error));
                            continue;
                        }
                    },
                    None => text(&Line::ExportEnd { sessions: self.sessions, sum: self.whole.text() }),
                },
                Stage::Log { session, page, end } => match self.log(session, page, end).await {
                    Ok(piece) => piece,
                    Err((id, error)) => {
                        // A part of the session is in the stream already, which ends here.
                        self.failed.push((id, error));
                        return None;
                    }
                },
                Stage::Output { session, from } => self.output(session, from).await,
                Stage::Done => return None,
            };
            self.whole.add(&piece);
            return Some(piece);
        }
    }

    /// Returns the sessions that are missing from the stream or whose output is incomplete, with the reasons.
    #[must_use]
    pub fn failed(&self) -> &[(SessionId, ExchangeError)] {
        &self.failed
    }

    /// Begins a session whose complete log can be read, or fails.
    async fn begin(&mut self, id: SessionId) -> Result<Vec<u8>, ExchangeError> {
        let mut pages = self.store.storage().log(id, 0);
        let page = pages.next_page().await?.unwrap_or_default();
        let mut end = page.last().map(StoredRecord::tip).ok_or(StorageError::NotFound { id })?;
        // All pages are read once before the first one is exported, so that a damaged session is left out.
        while let Some(last) = pages.next_page().await?.and_then(|page| page.last().map(StoredRecord::tip)) {
            end = last;
        }
        let piece = text(&Line::Session { id });
        let mut sum = Xxh3Sum::default();
        sum.add(&piece);
        let session = OpenSession { id, records: 0, stream_ends: StreamEnds::default(), sum };
        self.stage = Stage::Log { session: Box::new(session), page, end };
        Ok(piece)
    }

    /// Returns a page of a session's log, up to its end as it was in the beginning.
    async fn log(
        &mut self,
        mut session: Box<OpenSession>,
        page: Vec<StoredRecord>,
        end: Tip,
    ) -> Result<Vec<u8>, (SessionId, ExchangeError)> {
        let (id, mut piece) = (session.id, Vec::new());
        let mut last = None;
        for record in page.iter().filter(|record| record.revision() <= end.revision) {
            piece.extend_from_slice(record.line().as_bytes());
            piece.push(b'\n');
            session.records += 1;
            last = Some(record.tip());
        }
        session.sum.add(&piece);
        let Some(last) = last else { return Err((id, changed(id, session.records))) };
        if last.revision < end.revision {
            let next = self.store.storage().log(id, last.revision).next_page().await;
            let page = next.map_err(|error| (id, error.into()))?.unwrap_or_default();
            self.stage = Stage::Log { session, page, end };
        } else if last == end {
            self.stage = Stage::Output { session, from: 0 };
        } else {
            return Err((id, changed(id, session.records)));
        }
        Ok(piece)
    }

    async fn output(&mut self, mut session: Box<OpenSession>, from: u64) -> Vec<u8> {
        let id = session.id;
        let read = match self.store.output().filter(|_| self.with == Output::Included) {
            Some(output) => {
                blocking(move || {
                    let page = output.read(id, from, PAGE)?;
                    let cut = if page.chunks.is_empty() { output.length(id)?.cut } else { None };
                    Ok((page.chunks, cut))
                })
                .await
            }
            None => Ok((Vec::new(), None)),
        };
        let (chunks, cut) = read.unwrap_or_else(|error: session_runner::OutputError| {
            self.failed.push((id, error.into()));
            (Vec::new(), None)
        });
        if let Some(last) = chunks.last() {
            let next = last.end();
            let ends = &mut session.stream_ends;
            let piece: Vec<u8> = chunks.iter().flat_map(|chunk| text(&line_of(chunk, ends))).collect();
            session.sum.add(&piece);
            self.stage = Stage::Output { session, from: next };
            return piece;
        }
        let mut piece = match cut {
            Some(OutputCut { attempt, at }) => text(&Line::OutputCut { attempt, at }),
            None => Vec::new(),
        };
        session.sum.add(&piece);
        piece.extend(text(&Line::End { id, records: session.records, sum: session.sum.text() }));
        self.sessions += 1;
        self.stage = Stage::Between;
        piece
    }
}

/// Creates the error of a log that was replaced while it was exported.
fn changed(id: SessionId, readable: u64) -> ExchangeError {
    let what = "its log was removed or replaced during the export".to_owned();
    StorageError::Corrupt { id, readable, what }.into()
}

fn line_of(chunk: &Chunk, ends: &mut StreamEnds) -> Line {
    let stream = match chunk.stream {
        OutputStream::Stdout => StreamName::Stdout,
        OutputStream::Stderr => StreamName::Stderr,
        OutputStream::Terminal => StreamName::Tty,
    };
    let end = std::mem::replace(ends.of(chunk.stream), chunk.stream_end());
    let stream_offset = (chunk.stream_offset != end).then_some(chunk.stream_offset);
    let Chunk { offset, attempt, at, after_gap, .. } = *chunk;
    Line::Output {
        offset,
        stream,
        stream_offset,
        attempt,
        at,
        after_gap,
        base64: STANDARD.encode(&chunk.bytes),
    }
}

/// The end of each stream's output so far.
#[derive(Debug, Default)]
pub(super) struct StreamEnds {
    stdout: u64,
    stderr: u64,
    terminal: u64,
}

impl StreamEnds {
    pub(super) fn of(&mut self, stream: OutputStream) -> &mut u64 {
        match stream {
            OutputStream::Stdout => &mut self.stdout,
            OutputStream::Stderr => &mut self.stderr,
            OutputStream::Terminal => &mut self.terminal,
        }
    }
}

pub(super) fn text(line: &Line) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(line).expect("our own lines have string keys");
    bytes.push(b'\n');
    bytes
}
