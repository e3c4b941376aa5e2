//! Entries of the index of a session's output: one line of 64 bytes for each chunk.
//!
//! A line never crosses a page, so a crash of the process never leaves half a line.

use session_core::Timestamp;
use xxhash_rust::xxh3::Xxh3;

use super::{OutputCut, OutputStream};

/// Bytes of an entry, its line end included.
pub(crate) const ENTRY: usize = 64;
/// Maximum bytes of a chunk.
pub(crate) const CHUNK: u64 = 64 * 1024;
/// The highest attempt number that fits; later attempts are stored as this one.
const LAST_ATTEMPT: u32 = 9_999_999;
/// The latest time that fits, in milliseconds since 1970 (the year 2286); later times are stored as this one.
const LAST_TIME: i64 = 9_999_999_999_999;
/// Bytes before the checksum.
const BODY: usize = ENTRY - 17;

/// The kind of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tag {
    Chunk {
        stream: OutputStream,
        /// `true` if output before it is missing.
        after_gap: bool,
    },
    /// The cut at the limit: the last entry, with length 0.
    Cut,
}

impl Tag {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Chunk { stream: OutputStream::Stdout, after_gap: false }, "out"),
        (Self::Chunk { stream: OutputStream::Stderr, after_gap: false }, "err"),
        (Self::Chunk { stream: OutputStream::Stdout, after_gap: true }, "OUT"),
        (Self::Chunk { stream: OutputStream::Stderr, after_gap: true }, "ERR"),
        (Self::Cut, "cut"),
    ];

    fn text(self) -> &'static str {
        Self::ALL.iter().find(|(tag, _)| *tag == self).map_or("cut", |(_, text)| text)
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, name)| *name == text).map(|(tag, _)| *tag)
    }
}

/// One line of the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The offset of its first byte.
    pub(crate) offset: u64,
    /// The number of its bytes.
    pub(crate) length: u64,
    pub(crate) tag: Tag,
    pub(crate) attempt: u32,
    /// The time at which its first byte arrived.
    pub(crate) at: Timestamp,
}

/// An entry as it was read. [`ReadEntry::matches_bytes`] checks the bytes against it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReadEntry {
    pub(crate) entry: Entry,
    sum: u64,
}

impl Entry {
    /// Returns the cut, if this is the entry of one.
    pub(crate) fn cut(&self) -> Option<OutputCut> {
        (self.tag == Tag::Cut).then_some(OutputCut { attempt: self.attempt, at: self.at })
    }

    pub(crate) const fn end(&self) -> u64 {
        self.offset + self.length
    }

    /// Formats the line; `bytes` is the hash of the chunk's bytes so far.
    pub(crate) fn line(&self, bytes: &Xxh3) -> String {
        let body = self.body();
        let sum = sum(bytes.clone(), &body);
        format!("{body}{sum:016x}\n")
    }

    pub(crate) fn parse(line: &[u8]) -> Option<ReadEntry> {
        let text = std::str::from_utf8(line).ok()?.strip_suffix('\n')?;
        let (body, sum) = text.split_at_checked(BODY)?;
        let mut fields = body.split(' ');
        let entry = Self {
            offset: fields.next()?.parse().ok()?,
            length: fields.next()?.parse().ok()?,
            tag: Tag::parse(fields.next()?)?,
            attempt: fields.next()?.parse().ok()?,
            at: Timestamp::from_millis(fields.next()?.parse().ok()?)?,
        };
        let sum = u64::from_str_radix(sum, 16).ok()?;
        // Only the canonical spelling: any other was not written by this code.
        (entry.body() == body && entry.length <= CHUNK).then_some(ReadEntry { entry, sum })
    }

    fn body(&self) -> String {
        let Self { offset, length, tag, attempt, at } = self;
        let attempt = (*attempt).min(LAST_ATTEMPT);
        let at = at.as_millis().clamp(0, LAST_TIME);
        format!("{offset:013} {length:06} {} {attempt:07} {at:013} ", tag.text())
    }
}

impl ReadEntry {
    /// Returns `true` if these are the bytes that the entry was written for.
    pub(crate) fn matches_bytes(&self, bytes: &[u8]) -> bool {
        let mut hash = Xxh3::new();
        hash.update(bytes);
        bytes.len() as u64 == self.entry.length && sum(hash, &self.entry.body()) == self.sum
    }
}

fn sum(mut bytes: Xxh3, body: &str) -> u64 {
    bytes.update(body.as_bytes());
    bytes.digest()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_64_bytes_round_trip() {
        let at = Timestamp::from_millis(1_795_253_400_123).unwrap();
        for (tag, _) in Tag::ALL {
            for (offset, length, attempt) in
                [(0, 0, 1), (64 << 20, CHUNK, 12), (9_999_999_999_999, 1, LAST_ATTEMPT)]
            {
                let entry = Entry { offset, length, tag, attempt, at };
                let bytes = vec![7; usize::try_from(length).unwrap()];
                let mut hash = Xxh3::new();
                hash.update(&bytes);
                let line = entry.line(&hash);
                assert_eq!(line.len(), ENTRY, "{line}");
                let read = Entry::parse(line.as_bytes()).unwrap();
                assert_eq!(read.entry, entry);
                assert!(read.matches_bytes(&bytes));
                if length > 0 {
                    assert!(!read.matches_bytes(&bytes[1..]));
                    let mut other = bytes.clone();
                    other[0] = 8;
                    assert!(!read.matches_bytes(&other));
                }
            }
        }
    }

    /// Regression: a clock in the year 2287 or later made a line of 65 bytes, and the output that it stood for was
    /// reported as damaged.
    #[test]
    fn entries_of_any_clock_and_attempt_have_64_bytes() {
        let bytes = Xxh3::new();
        for millis in [-1, 0, LAST_TIME, LAST_TIME + 1, 128_000_000_000_000] {
            for attempt in [0, LAST_ATTEMPT, LAST_ATTEMPT + 1, u32::MAX] {
                let at = Timestamp::from_millis(millis).unwrap();
                let entry = Entry { offset: 0, length: 0, tag: Tag::Cut, attempt, at };
                let line = entry.line(&bytes);
                assert_eq!(line.len(), ENTRY, "{line}");
                let read = Entry::parse(line.as_bytes()).expect("the line is canonical").entry;
                assert_eq!(read.at.as_millis(), millis.clamp(0, LAST_TIME));
                assert_eq!(read.attempt, attempt.min(LAST_ATTEMPT));
            }
        }
    }

    #[test]
    fn every_flipped_bit_of_an_entry_is_detected() {
        let at = Timestamp::from_millis(1_795_253_400_123).unwrap();
        let tag = Tag::Chunk { stream: OutputStream::Stdout, after_gap: false };
        let entry = Entry { offset: 5, length: 3, tag, attempt: 1, at };
        let mut hash = Xxh3::new();
        hash.update(b"abc");
        let line = entry.line(&hash).into_bytes();
        for place in 0..line.len() {
            for bit in 0..8 {
                let mut changed = line.clone();
                changed[place] ^= 1 << bit;
                let accepted = Entry::parse(&changed).is_some_and(|read| read.matches_bytes(b"abc"));
                // Hexadecimal digits have two spellings; only their case differs.
                assert!(!accepted || changed.eq_ignore_ascii_case(&line), "{place} {bit}");
            }
        }
    }
}
