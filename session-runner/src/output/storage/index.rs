//! Entries of an index: one line of 64 bytes for each chunk.
//!
//! A line never crosses a page, so a crash of the process never leaves half a line.

use session_core::Timestamp;
use xxhash_rust::xxh3::Xxh3;

use super::{OutputCut, OutputLength, OutputStream};

/// Bytes of an entry, its line end included.
pub(crate) const ENTRY: usize = 64;
/// Maximum bytes of a chunk.
pub(crate) const CHUNK: u64 = 64 * 1024;
/// The highest offset that fits: 256 TiB.
pub(crate) const MAX_OFFSET: u64 = 0xffff_ffff_ffff;
/// Bytes before the checksum.
const BODY: usize = ENTRY - 17;

/// The form of the lines of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Hexadecimal, in the index of a segment.
    Segment,
    /// Decimal, in the only index of a session before there were segments. Its chunks lie at their offsets.
    Single,
}

impl Form {
    /// Returns the highest attempt number that fits; later attempts are stored as this one.
    const fn last_attempt(self) -> u32 {
        match self {
            Self::Segment => 0xff_ffff,
            Self::Single => 9_999_999,
        }
    }

    /// Returns the latest time that fits, in milliseconds since 1970 (the years 2527 and 2286); later times are stored
    /// as this one.
    const fn last_time(self) -> i64 {
        match self {
            Self::Segment => 0xfff_ffff_ffff,
            Self::Single => 9_999_999_999_999,
        }
    }
}

/// The kind of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tag {
    Chunk {
        stream: OutputStream,
        /// `true` if output before it could not be stored.
        after_gap: bool,
    },
    /// The limit of an older version, with length 0: what was printed after it was not stored.
    Cut,
}

impl Tag {
    /// All tags, with their texts in a segment and in the single index of older versions, which had no terminals.
    const ALL: [(Self, &'static str, Option<&'static str>); 7] = [
        (Self::Chunk { stream: OutputStream::Stdout, after_gap: false }, "o", Some("out")),
        (Self::Chunk { stream: OutputStream::Stderr, after_gap: false }, "e", Some("err")),
        (Self::Chunk { stream: OutputStream::Terminal, after_gap: false }, "t", None),
        (Self::Chunk { stream: OutputStream::Stdout, after_gap: true }, "O", Some("OUT")),
        (Self::Chunk { stream: OutputStream::Stderr, after_gap: true }, "E", Some("ERR")),
        (Self::Chunk { stream: OutputStream::Terminal, after_gap: true }, "T", None),
        (Self::Cut, "x", Some("cut")),
    ];

    fn text(self, form: Form) -> Option<&'static str> {
        let (_, segment, single) = Self::ALL.iter().find(|(tag, ..)| *tag == self)?;
        match form {
            Form::Segment => Some(*segment),
            Form::Single => *single,
        }
    }

    fn parse(text: &str, form: Form) -> Option<Self> {
        Self::ALL.iter().map(|(tag, ..)| *tag).find(|tag| tag.text(form) == Some(text))
    }
}

/// One line of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The offset of its first byte in the session's output.
    pub(crate) offset: u64,
    /// The offset of its first byte in the file.
    pub(crate) position: u64,
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
    form: Form,
    sum: u64,
}

impl Entry {
    /// Extends a length to the end of this entry, the last one of its segment.
    pub(crate) fn extend(&self, length: &mut OutputLength) {
        // What is appended after a cut ends later, even if it is of the other stream.
        if self.end() > length.bytes || self.end() == length.bytes && length.cut.is_none() {
            let cut = OutputCut { attempt: self.attempt, at: self.at };
            *length = OutputLength { bytes: self.end(), cut: (self.tag == Tag::Cut).then_some(cut) };
        }
    }

    pub(crate) const fn end(&self) -> u64 {
        self.offset + self.length
    }

    /// Formats the line of a segment; `bytes` is the hash of the chunk's bytes so far.
    pub(crate) fn line(&self, bytes: &Xxh3) -> String {
        let body = self.body(Form::Segment);
        let sum = sum(bytes.clone(), &body);
        format!("{body}{sum:016x}\n")
    }

    pub(crate) fn parse(line: &[u8], form: Form) -> Option<ReadEntry> {
        let text = std::str::from_utf8(line).ok()?.strip_suffix('\n')?;
        let (body, sum) = text.split_at_checked(BODY)?;
        let mut fields = body.split(' ');
        let radix = if form == Form::Segment { 16 } else { 10 };
        let mut number = || u64::from_str_radix(fields.next()?, radix).ok();
        let offset = number()?;
        let position = if form == Form::Segment { number()? } else { offset };
        let length = number()?;
        let tag = Tag::parse(fields.next()?, form)?;
        let mut number = || u64::from_str_radix(fields.next()?, radix).ok();
        let attempt = u32::try_from(number()?).ok()?;
        let at = Timestamp::from_millis(i64::try_from(number()?).ok()?)?;
        let entry = Self { offset, position, length, tag, attempt, at };
        let sum = u64::from_str_radix(sum, 16).ok()?;
        // Only the canonical spelling: any other was not written by this code.
        (entry.body(form) == body && length <= CHUNK).then_some(ReadEntry { entry, form, sum })
    }

    fn body(&self, form: Form) -> String {
        let Self { offset, position, length, tag, attempt, at } = self;
        let attempt = (*attempt).min(form.last_attempt());
        let at = at.as_millis().clamp(0, form.last_time());
        let tag = tag.text(form).unwrap_or_default();
        match form {
            Form::Segment => {
                format!("{offset:012x} {position:06x} {length:05x} {tag} {attempt:06x} {at:011x} ")
            }
            Form::Single => format!("{offset:013} {length:06} {tag} {attempt:07} {at:013} "),
        }
    }
}

impl ReadEntry {
    /// Returns `true` if these are the bytes that the entry was written for.
    pub(crate) fn matches_bytes(&self, bytes: &[u8]) -> bool {
        let mut hash = Xxh3::new();
        hash.update(bytes);
        bytes.len() as u64 == self.entry.length && sum(hash, &self.entry.body(self.form)) == self.sum
    }
}

fn sum(mut bytes: Xxh3, body: &str) -> u64 {
    bytes.update(body.as_bytes());
    bytes.digest()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Formats a line in the form of older versions, which is only read now.
    fn line(entry: &Entry, form: Form, bytes: &[u8]) -> String {
        let body = entry.body(form);
        let mut hash = Xxh3::new();
        hash.update(bytes);
        format!("{body}{:016x}\n", sum(hash, &body))
    }

    #[test]
    fn entries_of_64_bytes_round_trip() {
        let at = Timestamp::from_millis(1_795_253_400_123).unwrap();
        for form in [Form::Segment, Form::Single] {
            for (tag, ..) in Tag::ALL.into_iter().filter(|(tag, ..)| tag.text(form).is_some()) {
                for (offset, position, length, attempt) in
                    [(0, 0, 0, 1), (64 << 20, 8 << 20, CHUNK, 12), (9_999_999_999_999, 1, 1, 9_999_999)]
                {
                    let position = if form == Form::Single { offset } else { position };
                    let entry = Entry { offset, position, length, tag, attempt, at };
                    let bytes = vec![7; usize::try_from(length).unwrap()];
                    let line = line(&entry, form, &bytes);
                    assert_eq!(line.len(), ENTRY, "{line}");
                    let read = Entry::parse(line.as_bytes(), form).unwrap();
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
    }

    #[test]
    fn the_single_index_has_no_terminal() {
        let at = Timestamp::from_millis(1_795_253_400_123).unwrap();
        let tag = Tag::Chunk { stream: OutputStream::Terminal, after_gap: false };
        let entry = Entry { offset: 5, position: 5, length: 3, tag, attempt: 1, at };
        let line = line(&entry, Form::Single, b"abc");
        for field in ["tty", "TTY"] {
            let line = line.replacen("  ", &format!(" {field} "), 1);
            assert_eq!(Entry::parse(line.as_bytes(), Form::Single), None, "{line}");
        }
    }

    /// Regression: a clock in the year 2287 or later made a line of 65 bytes, and the output that it stood for was
    /// reported as damaged.
    #[test]
    fn entries_of_any_clock_and_attempt_have_64_bytes() {
        let form = Form::Segment;
        for millis in [-1, 0, form.last_time(), form.last_time() + 1, 128_000_000_000_000] {
            for attempt in [0, form.last_attempt(), form.last_attempt() + 1, u32::MAX] {
                let at = Timestamp::from_millis(millis).unwrap();
                let entry = Entry { offset: 0, position: 0, length: 0, tag: Tag::Cut, attempt, at };
                let line = entry.line(&Xxh3::new());
                assert_eq!(line.len(), ENTRY, "{line}");
                let read = Entry::parse(line.as_bytes(), form).expect("the line is canonical").entry;
                assert_eq!(read.at.as_millis(), millis.clamp(0, form.last_time()));
                assert_eq!(read.attempt, attempt.min(form.last_attempt()));
            }
        }
    }

    #[test]
    fn every_flipped_bit_of_an_entry_is_detected() {
        let at = Timestamp::from_millis(1_795_253_400_123).unwrap();
        let tag = Tag::Chunk { stream: OutputStream::Stdout, after_gap: false };
        let entry = Entry { offset: 5, position: 5, length: 3, tag, attempt: 1, at };
        for form in [Form::Segment, Form::Single] {
            let line = line(&entry, form, b"abc").into_bytes();
            for place in 0..line.len() {
                for bit in 0..8 {
                    let mut changed = line.clone();
                    changed[place] ^= 1 << bit;
                    let accepted =
                        Entry::parse(&changed, form).is_some_and(|read| read.matches_bytes(b"abc"));
                    // Hexadecimal digits have two spellings; only their case differs.
                    assert!(!accepted || changed.eq_ignore_ascii_case(&line), "{place} {bit}");
                }
            }
        }
    }
}
