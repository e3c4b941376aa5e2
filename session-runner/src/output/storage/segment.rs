//! A segment of a session's output: a file of bytes, and an index of their chunks. Its name says what it holds.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use session_core::SessionId;

use super::OutputStream;
use super::index::{ENTRY, Entry, Form, ReadEntry};
use super::output_error::OutputError;

/// Attempts to read an entry that may be changing concurrently.
const READ_ATTEMPTS: usize = 5;

/// The part of a stream for which a segment is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// The start of the session or of an attempt: kept.
    First,
    /// Anything else: removed once enough of the stream lies behind it.
    Last,
}

/// The identity of a segment, which is the name of its files. Ordered by offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SegmentName {
    /// The offset of its first byte in the session's output.
    pub(crate) offset: u64,
    pub(crate) stream: OutputStream,
    /// The offset of its first byte in its stream.
    pub(crate) stream_offset: u64,
    pub(crate) part: Part,
}

impl SegmentName {
    pub(crate) fn bytes(&self) -> String {
        format!("{self}.bytes")
    }

    pub(crate) fn index(&self) -> String {
        format!("{self}.index")
    }

    /// Parses the name of an index.
    pub(crate) fn of_index(file: &str) -> Option<Self> {
        Self::parse(file.strip_suffix(".index")?)
    }

    /// Parses the name of a file of bytes.
    pub(crate) fn of_bytes(file: &str) -> Option<Self> {
        Self::parse(file.strip_suffix(".bytes")?)
    }

    fn parse(name: &str) -> Option<Self> {
        let mut fields = name.split('-');
        let offset = u64::from_str_radix(fields.next()?, 16).ok()?;
        let field = fields.next()?;
        let stream = OutputStream::ALL.into_iter().find(|stream| stream_field(*stream) == field)?;
        let stream_offset = u64::from_str_radix(fields.next()?, 16).ok()?;
        let part = match fields.next()? {
            "first" => Part::First,
            "last" => Part::Last,
            _ => return None,
        };
        let parsed = Self { offset, stream, stream_offset, part };
        (parsed.to_string() == name).then_some(parsed)
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stream = stream_field(self.stream);
        let part = if self.part == Part::First { "first" } else { "last" };
        write!(f, "{:012x}-{stream}-{:012x}-{part}", self.offset, self.stream_offset)
    }
}

/// Returns the stream in the name of a segment.
const fn stream_field(stream: OutputStream) -> &'static str {
    match stream {
        OutputStream::Stdout => "out",
        OutputStream::Stderr => "err",
        OutputStream::Terminal => "tty",
    }
}

/// The two open files of a segment.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) id: SessionId,
    pub(crate) form: Form,
    pub(crate) bytes: File,
    pub(crate) index: File,
    /// The path of the index, for errors.
    pub(crate) path: PathBuf,
}

impl Segment {
    /// Returns the number of complete entries.
    pub(crate) fn entries(&self) -> Result<u64, OutputError> {
        let length = self.index.metadata().map_err(self.error("stat"))?.len();
        Ok(length / ENTRY as u64)
    }

    /// Returns the last valid entry and its number. Anything after it was torn by a crash.
    pub(crate) fn last(&self) -> Result<Option<(u64, Entry)>, OutputError> {
        for number in (0..self.entries()?).rev() {
            if let Some((entry, _)) = self.read_verified(number)? {
                return Ok(Some((number, entry)));
            }
        }
        Ok(None)
    }

    /// Returns an entry with its bytes; `None` at the end. In a segment that is `complete`, because a later one exists,
    /// every entry has to be valid.
    pub(crate) fn checked(
        &self,
        number: u64,
        complete: bool,
    ) -> Result<Option<(Entry, Vec<u8>)>, OutputError> {
        // A writer may be changing the last entry concurrently.
        for _ in 0..READ_ATTEMPTS {
            if let Some(found) = self.read_verified(number)? {
                return Ok(Some(found));
            }
            if number >= self.entries()? {
                return Ok(None);
            }
            std::thread::yield_now();
        }
        // Torn by a crash, unless a later entry is valid.
        let mut damaged = complete;
        for later in number + 1..self.entries()? {
            damaged |= self.read_verified(later)?.is_some();
        }
        if damaged {
            let before = match number.checked_sub(1) {
                Some(before) => self.entry(before)?,
                None => None,
            };
            return Err(OutputError::Damaged {
                id: self.id,
                offset: before.map_or(0, |read| read.entry.end()),
            });
        }
        Ok(None)
    }

    /// Reads an entry and its bytes; `None` if it is missing or they do not match.
    fn read_verified(&self, number: u64) -> Result<Option<(Entry, Vec<u8>)>, OutputError> {
        let Some(read) = self.entry(number)? else { return Ok(None) };
        let mut bytes = vec![0; usize::try_from(read.entry.length).unwrap_or(0)];
        match self.bytes.read_exact_at(&mut bytes, read.entry.position) {
            Ok(()) => Ok(read.matches_bytes(&bytes).then_some((read.entry, bytes))),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(self.error("read")(error)),
        }
    }

    /// Reads an entry without its bytes.
    pub(crate) fn entry(&self, number: u64) -> Result<Option<ReadEntry>, OutputError> {
        let mut line = [0; ENTRY];
        match self.index.read_exact_at(&mut line, number * ENTRY as u64) {
            Ok(()) => Ok(Entry::parse(&line, self.form)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(self.error("read")(error)),
        }
    }

    /// Returns the number of the entry that contains an offset, or of an earlier one. The binary search trusts offsets
    /// that may be damaged. If its result is wrong, reading starts at 0, so that the damage is reported at its offset.
    pub(crate) fn entry_at(&self, offset: u64) -> Result<u64, OutputError> {
        let (mut low, mut high) = (0, self.entries()?);
        while low + 1 < high {
            let middle = low + (high - low) / 2;
            match self.entry(middle)? {
                Some(read) if read.entry.offset <= offset => low = middle,
                Some(_) | None => high = middle,
            }
        }
        let found = self.read_verified(low)?.is_some_and(|(entry, _)| entry.offset <= offset);
        Ok(if found { low } else { 0 })
    }

    /// Makes the error of a failed call.
    pub(crate) fn error(&self, action: &'static str) -> impl FnOnce(io::Error) -> OutputError {
        OutputError::io(action, self.path.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_by_offset_and_have_one_form() {
        for (stream, field) in OutputStream::ALL.into_iter().zip(["out", "err", "tty"]) {
            let name = SegmentName { offset: 255, stream, stream_offset: 16, part: Part::Last };
            assert_eq!(name.index(), format!("0000000000ff-{field}-000000000010-last.index"));
            assert_eq!(SegmentName::of_index(&name.index()), Some(name));
            assert_eq!(SegmentName::of_bytes(&name.bytes()), Some(name));
        }
        for wrong in [
            "ff-err-10-last",
            "0000000000FF-err-000000000010-last",
            "0000000000ff-TTY-000000000010-last",
            "x",
            "",
            "0000000000ff-err-000000000010",
        ] {
            assert_eq!(SegmentName::parse(wrong), None, "{wrong}");
        }
    }
}
