//! The parser of export streams. It takes a line at a time and checks everything: order, counts, checksums, every chain
//! of records and every transition.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use session_core::backend::{Chain, DecodeError, Tip};
use session_core::{Head, SessionId};
use session_runner::{Chunk, OutputCut, OutputStream};

use super::export::{StreamEnds, Xxh3Sum, text};
use super::{EXPORT_FORMAT, ExchangeError, Line, StreamName};

/// A parsed line.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Item {
    /// The first line, or the last.
    Frame,
    /// The start of a session.
    Session(SessionId),
    /// A stored record.
    Record,
    /// A piece of output.
    Output(Chunk),
    /// The place where its output was truncated.
    Cut(OutputCut),
    /// The end of a session.
    End(SessionId, Tip),
}

/// The parser's position in a stream.
#[derive(Debug, Default)]
pub(super) struct Parser {
    line: u64,
    sessions: u64,
    whole: Xxh3Sum,
    stage: Stage,
}

#[derive(Debug, Default)]
enum Stage {
    #[default]
    Begin,
    Between,
    Session(Box<Open>),
    Done,
}

#[derive(Debug)]
struct Open {
    id: SessionId,
    sum: Xxh3Sum,
    chain: Chain,
    head: Option<Head>,
    /// The end of the output so far, and of each stream.
    output: u64,
    stream_ends: StreamEnds,
    /// `true` once output has begun; no more records may follow.
    in_output: bool,
    cut: bool,
}

impl Parser {
    /// Parses the next line, which includes its line feed.
    ///
    /// # Errors
    /// The damage. The parser cannot continue after it.
    pub(super) fn line(&mut self, line: &[u8]) -> Result<Item, ExchangeError> {
        self.line += 1;
        let Some(content) = line.strip_suffix(b"\n") else { return self.damaged("no line feed at its end") };
        let stage = std::mem::replace(&mut self.stage, Stage::Done);
        if let Stage::Session(mut open) = stage {
            let item = if content.starts_with(b"{\"seq\":") {
                self.record(&mut open, content)?;
                Item::Record
            } else {
                self.in_session(&mut open, content)?
            };
            open.sum.add(line);
            self.whole.add(line);
            if let Item::End(..) = item {
                self.sessions += 1;
                self.stage = Stage::Between;
            } else {
                self.stage = Stage::Session(open);
            }
            return Ok(item);
        }
        let item = match (stage, self.parse(content)?) {
            (Stage::Begin, Line::Export { format: EXPORT_FORMAT }) => {
                self.stage = Stage::Between;
                Item::Frame
            }
            (Stage::Begin, Line::Export { format }) => {
                return Err(ExchangeError::Newer { line: self.line, what: format!("format {format}") });
            }
            (Stage::Between, Line::Session { id }) => {
                let mut sum = Xxh3Sum::default();
                sum.add(line);
                let chain = Chain::start(id);
                let open = Open {
                    id,
                    sum,
                    chain,
                    head: None,
                    output: 0,
                    stream_ends: StreamEnds::default(),
                    in_output: false,
                    cut: false,
                };
                self.stage = Stage::Session(Box::new(open));
                Item::Session(id)
            }
            (Stage::Between, Line::ExportEnd { sessions, sum }) => {
                if sessions != self.sessions || sum != self.whole.text() {
                    return self.damaged("a line before it is missing or was changed");
                }
                Item::Frame
            }
            (Stage::Begin, _) => return self.damaged("not the first line of an export"),
            (Stage::Done, _) => return self.damaged("it follows the end of the export"),
            (Stage::Between | Stage::Session(_), _) => return self.damaged("only allowed inside a session"),
        };
        self.whole.add(line);
        Ok(item)
    }

    /// Checks that the stream is complete.
    ///
    /// # Errors
    /// [`ExchangeError::Damaged`] if the last line is missing.
    pub(super) fn finish(mut self) -> Result<(), ExchangeError> {
        self.line += 1;
        if self.sessions == 0 && matches!(self.stage, Stage::Begin) {
            return self.damaged("the export is empty");
        }
        if matches!(self.stage, Stage::Done) {
            Ok(())
        } else {
            self.damaged("it is missing: the export is truncated")
        }
    }

    fn record(&self, open: &mut Open, content: &[u8]) -> Result<(), ExchangeError> {
        if open.in_output {
            return self.damaged("record after output");
        }
        let record = match open.chain.check(content) {
            Ok(record) => record,
            Err(error) => return self.damaged(format!("invalid record: {error}")),
        };
        let record = record.decode().map_err(|error| {
            let (line, what) = (self.line, error.to_string());
            match error {
                DecodeError::Malformed(_) => ExchangeError::Damaged { line, what },
                // A reason that this version does not know comes from a newer version, too.
                DecodeError::UnknownKind { .. } | DecodeError::NewerFormat { .. } | _ => {
                    ExchangeError::Newer { line, what }
                }
            }
        })?;
        match Head::fold(&mut open.head, open.id, &record) {
            Ok(()) => Ok(()),
            Err(error) => self.damaged(format!("invalid transition: {error}")),
        }
    }

    fn in_session(&self, open: &mut Open, content: &[u8]) -> Result<Item, ExchangeError> {
        let tip = open.head.as_ref().map(|head| head.tip);
        match (self.parse(content)?, tip) {
            (_, None) => self.damaged("the session has no records"),
            (Line::Output { offset, stream, stream_offset, attempt, at, after_gap, base64 }, Some(_)) => {
                let bytes = STANDARD.decode(base64).unwrap_or_default();
                let stream = match stream {
                    StreamName::Stdout => OutputStream::Stdout,
                    StreamName::Stderr => OutputStream::Stderr,
                    StreamName::Tty => OutputStream::Terminal,
                };
                let end = *open.stream_ends.of(stream);
                let is_new_gap = |stream_offset| end < stream_offset && stream_offset <= offset;
                let follows = offset >= open.output && stream_offset.is_none_or(is_new_gap);
                let fits = offset.checked_add(bytes.len() as u64).is_some();
                if !follows || !fits || bytes.is_empty() || open.cut {
                    return self.damaged("output does not continue the preceding output");
                }
                let stream_offset = stream_offset.unwrap_or(end);
                let mut chunk = Chunk::new(offset, stream, stream_offset, attempt, at, bytes);
                chunk.after_gap = after_gap;
                *open.stream_ends.of(stream) = chunk.stream_end();
                (open.in_output, open.output) = (true, chunk.end());
                Ok(Item::Output(chunk))
            }
            (Line::OutputCut { attempt, at }, Some(_)) if !open.cut => {
                (open.in_output, open.cut) = (true, true);
                Ok(Item::Cut(OutputCut { attempt, at }))
            }
            (Line::End { id, records, sum }, Some(tip)) => {
                if id != open.id || records != tip.revision || sum != open.sum.text() {
                    return self.damaged("a line of its session is missing or was changed");
                }
                Ok(Item::End(id, tip))
            }
            (
                Line::OutputCut { .. } | Line::Export { .. } | Line::Session { .. } | Line::ExportEnd { .. },
                Some(_),
            ) => self.damaged("not allowed inside a session"),
        }
    }

    fn parse(&self, content: &[u8]) -> Result<Line, ExchangeError> {
        match serde_json::from_slice(content) {
            // One form only, so that an import exports again to the same bytes.
            Ok(line) if text(&line).strip_suffix(b"\n") == Some(content) => Ok(line),
            Ok(_) => self.damaged("not in canonical export form"),
            Err(error) => self.damaged(format!("cannot be parsed: {error}")),
        }
    }

    fn damaged<T>(&self, what: impl Into<String>) -> Result<T, ExchangeError> {
        Err(ExchangeError::Damaged { line: self.line, what: what.into() })
    }
}
