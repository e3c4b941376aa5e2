//! Reads the stream, a line at a time, and believes nothing of it: order, counts and sums, every chain of records and
//! every transition.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use session_core::{Chain, DecodeError, Head, SessionId, Tip};
use session_runner::{Chunk, OutputCut, OutputStream};

use super::export::{Xxh3Sum, text};
use super::{EXPORT_FORMAT, ExchangeError, Line, StreamName};

/// What a line was.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Item {
    /// The first line, or the last.
    Frame,
    /// A session begins.
    Session(SessionId),
    /// A stored record.
    Record,
    /// Some output.
    Output(Chunk),
    /// Where its output was cut.
    Cut(OutputCut),
    /// It ends.
    End(SessionId, Tip),
}

/// Where in the stream it is.
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
    /// Bytes of output so far.
    output: u64,
    /// Whether output has begun: no more records.
    in_output: bool,
    cut: bool,
}

impl Parser {
    /// The next line, its line end included.
    ///
    /// # Errors
    /// What is wrong with it. Nothing that comes later is of any use then.
    pub(super) fn line(&mut self, line: &[u8]) -> Result<Item, ExchangeError> {
        self.line += 1;
        let Some(content) = line.strip_suffix(b"\n") else { return self.damaged("it has no end") };
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
                let open = Open { id, sum, chain, head: None, output: 0, in_output: false, cut: false };
                self.stage = Stage::Session(Box::new(open));
                Item::Session(id)
            }
            (Stage::Between, Line::ExportEnd { sessions, sum }) => {
                if sessions != self.sessions || sum != self.whole.text() {
                    return self.damaged("something before it is missing or was changed");
                }
                Item::Frame
            }
            (Stage::Begin, _) => return self.damaged("an export does not begin so"),
            (Stage::Done, _) => return self.damaged("the export has ended before it"),
            (Stage::Between | Stage::Session(_), _) => return self.damaged("it belongs into a session"),
        };
        self.whole.add(line);
        Ok(item)
    }

    /// The end of the stream.
    ///
    /// # Errors
    /// Where it has not come to its last line.
    pub(super) fn finish(mut self) -> Result<(), ExchangeError> {
        self.line += 1;
        if self.sessions == 0 && matches!(self.stage, Stage::Begin) {
            return self.damaged("it is empty");
        }
        if matches!(self.stage, Stage::Done) {
            Ok(())
        } else {
            self.damaged("it is missing: the export was cut")
        }
    }

    fn record(&self, open: &mut Open, content: &[u8]) -> Result<(), ExchangeError> {
        if open.in_output {
            return self.damaged("a record after output");
        }
        let record = match open.chain.check(content) {
            Ok(record) => record,
            Err(broken) => return self.damaged(format!("the record is {broken}")),
        };
        let record = record.decode().map_err(|error| {
            let (line, what) = (self.line, error.to_string());
            match error {
                DecodeError::Malformed(_) => ExchangeError::Damaged { line, what },
                // A reason that this version does not know either is a newer one.
                DecodeError::UnknownKind { .. } | DecodeError::NewerFormat { .. } | _ => {
                    ExchangeError::Newer { line, what }
                }
            }
        })?;
        match Head::fold(&mut open.head, open.id, &record) {
            Ok(()) => Ok(()),
            Err(rejected) => self.damaged(format!("the record breaks a rule: {rejected}")),
        }
    }

    fn in_session(&self, open: &mut Open, content: &[u8]) -> Result<Item, ExchangeError> {
        let tip = open.head.as_ref().map(|head| head.tip);
        match (self.parse(content)?, tip) {
            (_, None) => self.damaged("a session needs records first"),
            (Line::Output { offset, stream, attempt, at, after_gap, base64 }, Some(_)) => {
                let bytes = STANDARD.decode(base64).unwrap_or_default();
                if offset != open.output || bytes.is_empty() || open.cut {
                    return self.damaged("output that does not follow");
                }
                let stream = match stream {
                    StreamName::Stdout => OutputStream::Stdout,
                    StreamName::Stderr => OutputStream::Stderr,
                };
                let mut chunk = Chunk::new(offset, stream, attempt, at, bytes);
                chunk.after_gap = after_gap;
                (open.in_output, open.output) = (true, chunk.end());
                Ok(Item::Output(chunk))
            }
            (Line::OutputCut { attempt, at }, Some(_)) if !open.cut => {
                (open.in_output, open.cut) = (true, true);
                Ok(Item::Cut(OutputCut { attempt, at }))
            }
            (Line::End { id, records, sum }, Some(tip)) => {
                if id != open.id || records != tip.revision || sum != open.sum.text() {
                    return self.damaged("something of its session is missing or was changed");
                }
                Ok(Item::End(id, tip))
            }
            (
                Line::OutputCut { .. } | Line::Export { .. } | Line::Session { .. } | Line::ExportEnd { .. },
                Some(_),
            ) => self.damaged("it does not belong into a session"),
        }
    }

    fn parse(&self, content: &[u8]) -> Result<Line, ExchangeError> {
        match serde_json::from_slice(content) {
            // One form each, so that what goes in comes out again byte for byte.
            Ok(line) if text(&line).strip_suffix(b"\n") == Some(content) => Ok(line),
            Ok(_) => self.damaged("it is not written as an export writes it"),
            Err(error) => self.damaged(format!("it cannot be read: {error}")),
        }
    }

    fn damaged<T>(&self, what: impl Into<String>) -> Result<T, ExchangeError> {
        Err(ExchangeError::Damaged { line: self.line, what: what.into() })
    }
}
