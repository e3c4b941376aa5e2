//! Records: events sealed into lines whose sums form a chain, and the check of that chain. Decoding of lines is in
//! `decode`, the meaning of events in `machine`.

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

/// Length of `,"sum":"0123456789abcdef"}`, the end of each line.
const ENDING: usize = 8 + 16 + 2;

/// The checksum of a record: 64 bits that cover the record and, through the previous sum, all records before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sum(u64);

impl Sum {
    /// Creates a sum from its number.
    #[must_use]
    pub const fn from_u64(sum: u64) -> Self {
        Self(sum)
    }

    /// Returns the sum as a number.
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

/// The end of a log: the number of records and the sum of the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tip {
    /// The number of records, which is the sequence number of the last one.
    pub revision: u64,
    /// The sum of the last one.
    pub sum: Sum,
}

impl fmt::Display for Tip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.revision, self.sum)
    }
}

/// A record as stored: one line, which no backend changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    tip: Tip,
    line: Arc<str>,
}

impl StoredRecord {
    /// Creates a record from a line read from storage and its revision. Only the end of the line is parsed; use
    /// [`Chain::check`] to verify that it belongs at this position of this log.
    ///
    /// # Errors
    /// [`ChainError::Form`] if the line does not end with a sum.
    pub fn from_storage(revision: u64, line: impl Into<Arc<str>>) -> Result<Self, ChainError> {
        let line = line.into();
        let (_, sum) = split(line.as_bytes())?;
        Ok(Self { tip: Tip { revision, sum }, line })
    }

    /// Returns the tip of the log that ends with this record.
    #[must_use]
    pub const fn tip(&self) -> Tip {
        self.tip
    }

    /// Returns the sequence number.
    #[must_use]
    pub const fn revision(&self) -> u64 {
        self.tip.revision
    }

    /// Returns the line, without the line end.
    #[must_use]
    pub fn line(&self) -> &str {
        &self.line
    }
}

/// A borrowed line that was verified to be the next record of its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckedLine<'a> {
    tip: Tip,
    line: &'a str,
}

impl CheckedLine<'_> {
    /// Returns the tip of the log that ends with this record.
    #[must_use]
    pub const fn tip(self) -> Tip {
        self.tip
    }

    /// Copies the line into an owned record.
    #[must_use]
    pub fn to_stored(self) -> StoredRecord {
        StoredRecord { tip: self.tip, line: self.line.into() }
    }
}

/// The fields of a record apart from its event and sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope {
    /// The sequence number: from 1, without gaps.
    pub seq: u64,
    /// The time of sealing, by the clock of the machine that sealed it.
    pub at: Timestamp,
    /// The attempt that the record belongs to.
    pub attempt: u32,
    /// The highest revision that was known to be flushed when this record was sealed.
    pub flushed: u64,
}

/// A decoded record.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The fields around the event.
    pub envelope: Envelope,
    /// The event.
    pub event: SessionEvent,
    /// The record's sum.
    pub sum: Sum,
}

impl Record {
    /// Returns the tip of the log that ends with this record.
    #[must_use]
    pub const fn tip(&self) -> Tip {
        Tip { revision: self.envelope.seq, sum: self.sum }
    }
}

/// The reason why a line is not the next record of its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// The line does not have the form of a record.
    #[error("the line does not have the form of a record")]
    Form,
    /// The sum does not match the bytes of the line and the previous sum.
    #[error("wrong checksum: a line was changed, removed, duplicated, moved or taken from another log")]
    Sum,
}

/// The content of a record before it is sealed.
#[derive(Debug, Clone)]
pub struct UnsealedRecord {
    /// The time of sealing.
    pub at: Timestamp,
    /// The attempt that the record belongs to.
    pub attempt: u32,
    /// The highest revision known to be flushed.
    pub flushed: u64,
    /// The event.
    pub event: SessionEvent,
}

/// The position after the last record of a log, from which the next record is sealed or checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain {
    id: SessionId,
    tip: Option<Tip>,
}

impl Chain {
    /// Creates the position before record 1 of a session's log.
    #[must_use]
    pub const fn start(id: SessionId) -> Self {
        Self { id, tip: None }
    }

    /// Creates the position after this tip of a session's log.
    #[must_use]
    pub const fn at(id: SessionId, tip: Tip) -> Self {
        Self { id, tip: Some(tip) }
    }

    /// Returns the tip at this position; `None` before record 1.
    #[must_use]
    pub const fn tip(&self) -> Option<Tip> {
        self.tip
    }

    /// Returns the number of records up to this position.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.tip.map_or(0, |tip| tip.revision)
    }

    /// Seals the next record and advances past it.
    ///
    /// # Errors
    /// [`LimitError`] if the event or the record exceeds a limit of the format. The position is then unchanged.
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

    /// Checks that a line, without its line end, is the next record, and advances past it.
    ///
    /// # Errors
    /// [`ChainError`] if it is not. The position is then unchanged.
    pub fn check(&mut self, line: &[u8]) -> Result<StoredRecord, ChainError> {
        self.pass(line).map(CheckedLine::to_stored)
    }

    /// Does the same as [`check`](Self::check) without copying the line.
    ///
    /// # Errors
    /// [`ChainError`] if it is not the next record. The position is then unchanged.
    pub fn pass<'a>(&mut self, line: &'a [u8]) -> Result<CheckedLine<'a>, ChainError> {
        let line = std::str::from_utf8(line).map_err(|_| ChainError::Form)?;
        let (body, sum) = split(line.as_bytes())?;
        if line.len() >= limits::RECORD_BYTES {
            return Err(ChainError::Form);
        }
        if self.sum(body) != sum {
            return Err(ChainError::Sum);
        }
        // A valid sum does not prove that the line is safe to print, nor that it is a single line.
        if !body.starts_with(b"{\"seq\":") || has_unsafe_char(line) {
            return Err(ChainError::Form);
        }
        let tip = Tip { revision: self.revision() + 1, sum };
        self.tip = Some(tip);
        Ok(CheckedLine { tip, line })
    }

    /// Checks that a record read from storage is the next one, and advances past it.
    ///
    /// # Errors
    /// [`ChainError`] if it is not. The position is then unchanged.
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
        // Most lines are short, and for those the streaming hasher costs more than the copy.
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

/// Checks a line against the one before it only, trusting the sum text of that line, and returns its envelope.
///
/// Use it for lines that an unbroken chain does not reach: records after a damaged part still prove which revision was
/// flushed.
#[must_use]
pub fn follows(previous: &[u8], line: &[u8]) -> Option<Envelope> {
    let (_, before) = split(previous).ok()?;
    // The id enters the sum of record 1 only.
    let mut chain = Chain::at(SessionId::from_bytes([0; 16]), Tip { revision: 0, sum: before });
    chain.pass(line).ok()?.envelope().ok()
}

/// Splits a line into the bytes that its sum covers, and the sum.
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

/// Writes the dangerous characters that JSON allows in strings as escapes, so that `cat` is safe on a log.
fn escape_into(line: &mut String, json: &str) {
    line.reserve(json.len() + ENDING);
    for c in json.chars() {
        if is_unsafe_char(c) {
            write!(line, "\\u{:04x}", u32::from(c)).expect("writing to a string cannot fail");
        } else {
            line.push(c);
        }
    }
}
