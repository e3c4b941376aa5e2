//! Records: events sealed into lines whose sums form a chain, and the check of that chain. How a line is read is
//! in `decode`, what its event means in `machine`.

mod decode;

use std::fmt::{self, Write as _};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

pub use self::decode::DecodeError;

use crate::event::SessionEvent;
use crate::id::SessionId;
use crate::limits::{self, LimitError};
use crate::text::{has_unsafe_char, is_unsafe_char};
use crate::time::Timestamp;

/// Bytes of `,"sum":"0123456789abcdef"}`, with which each line ends.
const ENDING: usize = 8 + 16 + 2;

/// The sum of a record: 64 bits that cover the record and, through the sum before it, all records before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sum(u64);

impl Sum {
    /// The sum from its number.
    #[must_use]
    pub const fn from_u64(sum: u64) -> Self {
        Self(sum)
    }

    /// The sum as a number.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Sum {
    type Err = ChainError;

    fn from_str(text: &str) -> Result<Self, ChainError> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() != 16 || !text.bytes().all(hex) {
            return Err(ChainError::Form);
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|_| ChainError::Form)
    }
}

impl Serialize for Sum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// The end of a log: how many records it has, and the sum of the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tip {
    /// The number of records; the sequence number of the last one.
    pub revision: u64,
    /// The sum of the last one.
    pub sum: Sum,
}

impl fmt::Display for Tip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.revision, self.sum)
    }
}

/// A record as it is stored: one line, which no backend changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    tip: Tip,
    line: Arc<str>,
}

impl StoredRecord {
    /// A line as it came back from storage, with its place in the log. Only its ending is read: whether it belongs
    /// to this place of this log is for [`Chain::check`] to find out.
    ///
    /// # Errors
    /// [`ChainError::Form`] where the line does not end as every record does.
    pub fn from_storage(revision: u64, line: impl Into<Arc<str>>) -> Result<Self, ChainError> {
        let line = line.into();
        let (_, sum) = split(line.as_bytes())?;
        Ok(Self { tip: Tip { revision, sum }, line })
    }

    /// The tip of the log that ends with this record.
    #[must_use]
    pub const fn tip(&self) -> Tip {
        self.tip
    }

    /// The sequence number.
    #[must_use]
    pub const fn revision(&self) -> u64 {
        self.tip.revision
    }

    /// The line, without the line end.
    #[must_use]
    pub fn line(&self) -> &str {
        &self.line
    }
}

/// A line that was found to be the next record of its log, where it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckedLine<'a> {
    tip: Tip,
    line: &'a str,
}

impl CheckedLine<'_> {
    /// The tip of the log that ends with this record.
    #[must_use]
    pub const fn tip(self) -> Tip {
        self.tip
    }

    /// The record, to keep.
    #[must_use]
    pub fn to_stored(self) -> StoredRecord {
        StoredRecord { tip: self.tip, line: self.line.into() }
    }
}

/// What a record says of itself, apart from its event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope {
    /// The record's number, from 1, without gaps.
    pub seq: u64,
    /// When it was sealed, by the clock of the machine that did.
    pub at: Timestamp,
    /// The attempt that it belongs to.
    pub attempt: u32,
    /// The highest revision that was known to be flushed when this record was sealed.
    pub flushed: u64,
}

/// A record as the machine reads it.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// What is around the event.
    pub envelope: Envelope,
    /// The event.
    pub event: SessionEvent,
    /// The record's sum.
    pub sum: Sum,
}

impl Record {
    /// The tip of the log that ends with this record.
    #[must_use]
    pub const fn tip(&self) -> Tip {
        Tip { revision: self.envelope.seq, sum: self.sum }
    }
}

/// A line that is not the next record of its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// It has not the form of a record.
    #[error("not the form of a record")]
    Form,
    /// Its sum does not follow from its bytes and the sum before it.
    #[error("the sum is wrong: something was changed, dropped, doubled, swapped or taken from another log")]
    Sum,
}

/// What the core wants to add to a log.
#[derive(Debug, Clone)]
pub struct UnsealedRecord {
    /// Now.
    pub at: Timestamp,
    /// The attempt that the record belongs to.
    pub attempt: u32,
    /// The highest revision known to be flushed.
    pub flushed: u64,
    /// The event.
    pub event: SessionEvent,
}

/// The place after the last record of a log: from here the next one is sealed or checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain {
    id: SessionId,
    tip: Option<Tip>,
}

impl Chain {
    /// Before record 1 of a session's log.
    #[must_use]
    pub const fn start(id: SessionId) -> Self {
        Self { id, tip: None }
    }

    /// After this tip of a session's log.
    #[must_use]
    pub const fn at(id: SessionId, tip: Tip) -> Self {
        Self { id, tip: Some(tip) }
    }

    /// The tip that was reached; `None` before record 1.
    #[must_use]
    pub const fn tip(&self) -> Option<Tip> {
        self.tip
    }

    /// How many records there are up to here.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.tip.map_or(0, |tip| tip.revision)
    }

    /// Seals the next record and moves behind it.
    ///
    /// # Errors
    /// [`LimitError`] where the event or the record has no room in the format. The place is then unchanged.
    pub fn seal(&mut self, draft: UnsealedRecord) -> Result<(StoredRecord, Record), LimitError> {
        let UnsealedRecord { at, attempt, flushed, event } = draft;
        event.check()?;
        let seq = self.revision() + 1;
        let mut line =
            format!(r#"{{"seq":{seq},"at":"{at}","attempt":{attempt},"flushed":{flushed},"event":"#);
        let json = serde_json::to_string(&event)
            .map_err(|_| LimitError::invalid("event", "has a path that is not UTF-8 text"))?;
        escape_into(&mut line, &json);
        limits::at_most("record (bytes)", line.len() + ENDING + 1, limits::RECORD_BYTES)?;
        let sum = self.sum(line.as_bytes());
        line.extend([r#","sum":""#, &sum.to_string(), r#""}"#]);
        let tip = Tip { revision: seq, sum };
        self.tip = Some(tip);
        let record = Record { envelope: Envelope { seq, at, attempt, flushed }, event, sum };
        Ok((StoredRecord { tip, line: line.into() }, record))
    }

    /// Checks that a line, without its line end, is the next record, and moves behind it.
    ///
    /// # Errors
    /// [`ChainError`] where it is not. The place is then unchanged.
    pub fn check(&mut self, line: &[u8]) -> Result<StoredRecord, ChainError> {
        self.pass(line).map(CheckedLine::to_stored)
    }

    /// As [`check`](Self::check), for whoever only looks at the line and does not keep it.
    ///
    /// # Errors
    /// [`ChainError`] where it is not the next record. The place is then unchanged.
    pub fn pass<'a>(&mut self, line: &'a [u8]) -> Result<CheckedLine<'a>, ChainError> {
        let line = std::str::from_utf8(line).map_err(|_| ChainError::Form)?;
        let (body, sum) = split(line.as_bytes())?;
        if line.len() >= limits::RECORD_BYTES {
            return Err(ChainError::Form);
        }
        if self.sum(body) != sum {
            return Err(ChainError::Sum);
        }
        // A right sum proves that somebody meant this line, not that showing it is safe, nor that it is one line.
        if !body.starts_with(b"{\"seq\":") || has_unsafe_char(line) {
            return Err(ChainError::Form);
        }
        let tip = Tip { revision: self.revision() + 1, sum };
        self.tip = Some(tip);
        Ok(CheckedLine { tip, line })
    }

    /// As [`check`](Self::check), for a record that a storage handed out.
    ///
    /// # Errors
    /// [`ChainError`] where it is not the next record.
    pub fn follow(&mut self, record: &StoredRecord) -> Result<(), ChainError> {
        let mut next = *self;
        let checked = next.pass(record.line.as_bytes())?;
        if checked.tip != record.tip {
            return Err(ChainError::Sum);
        }
        *self = next;
        Ok(())
    }

    fn sum(&self, body: &[u8]) -> Sum {
        let previous = self.tip.map(|tip| tip.sum.0.to_be_bytes());
        let before = previous.as_ref().map_or(self.id.as_bytes().as_slice(), |sum| sum);
        // Most lines are short, and for those the hasher that takes its input in parts costs more than the copy.
        let mut short = [0; 512];
        let length = before.len() + body.len();
        if let Some(input) = short.get_mut(..length)
            && let Some((start, rest)) = input.split_at_mut_checked(before.len())
        {
            start.copy_from_slice(before);
            rest.copy_from_slice(body);
            return Sum(xxh3_64(input));
        }
        let mut hasher = Xxh3::new();
        hasher.update(before);
        hasher.update(body);
        Sum(hasher.digest())
    }
}

/// Whether a line that cannot be reached through an unbroken chain is right if the line before it is: the sum
/// text of that line is taken for granted. This is how records behind a hole still prove what was flushed.
#[must_use]
pub fn follows(previous: &[u8], line: &[u8]) -> Option<Envelope> {
    let (_, before) = split(previous).ok()?;
    // The id has no part in the sum of any record but the first.
    let mut chain = Chain::at(SessionId::from_bytes([0; 16]), Tip { revision: 0, sum: before });
    chain.pass(line).ok()?.envelope().ok()
}

/// Splits a line into what its sum covers, and the sum.
fn split(line: &[u8]) -> Result<(&[u8], Sum), ChainError> {
    let (body, ending) =
        line.len().checked_sub(ENDING).and_then(|at| line.split_at_checked(at)).ok_or(ChainError::Form)?;
    let text = ending
        .strip_prefix(b",\"sum\":\"")
        .and_then(|rest| rest.strip_suffix(b"\"}"))
        .ok_or(ChainError::Form)?;
    let sum = std::str::from_utf8(text).map_err(|_| ChainError::Form)?.parse()?;
    Ok((body, sum))
}

/// `cat` is safe on a log: the dangerous characters that JSON allows in strings are written as escapes.
fn escape_into(line: &mut String, json: &str) {
    line.reserve(json.len() + ENDING);
    for c in json.chars() {
        if is_unsafe_char(c) {
            write!(line, "\\u{:04x}", u32::from(c)).expect("a string takes whatever is written");
        } else {
            line.push(c);
        }
    }
}
