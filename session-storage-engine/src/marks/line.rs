//! The lines of a file of marks: text of one length, each with a sum of its own, so that what is damaged or half written is
//! passed over and hides nothing else.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use session_core::{SessionId, Sum, Tip};
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

/// Bytes of a line, its end included.
pub(super) const LINE: usize = 16 + 1 + 36 + 1 + 16 + 1 + 16 + 1 + SUM + 1;
/// Bytes of a sum as text.
const SUM: usize = 16;
/// Bytes that a sum covers.
const BODY: usize = LINE - 1 - SUM;
const HEADER: &str = "session marks, format 1, store ";
/// In the place of a session: nothing but how far the database is flushed.
const NOBODY: SessionIdBytes = [0; 16];

type SessionIdBytes = [u8; 16];

/// The id of a store, which stands in the database and beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StoreId(Uuid);

impl StoreId {
    /// A new one.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl FromStr for StoreId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        Uuid::try_parse(text).map(Self)
    }
}

/// What one line says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    /// Whose marks these are.
    Store(StoreId),
    /// Up to this change the database was flushed.
    Change(u64),
    /// With this change the session's log was flushed up to this tip.
    Tip(u64, SessionId, Tip),
    /// With this change the session is about to be deleted.
    Leaving(u64, SessionId),
}

impl Line {
    /// Some of them as bytes that go to a file.
    pub(super) fn bytes(lines: &[Self]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(lines.len() * LINE);
        for line in lines {
            line.write(&mut bytes);
        }
        bytes
    }

    /// Adds it to bytes that go to a file.
    pub(super) fn write(self, bytes: &mut Vec<u8>) {
        let (change, id, revision, sum) = match self {
            Self::Store(store) => {
                let mut text = format!("{HEADER}{store}");
                let _ = write!(text, "{:1$}", "", BODY - text.len());
                return seal(bytes, &text);
            }
            Self::Change(change) => (change, SessionId::from_bytes(NOBODY), 0, 0),
            Self::Tip(change, id, tip) => (change, id, tip.revision, tip.sum.as_u64()),
            Self::Leaving(change, id) => (change, id, 0, 0),
        };
        seal(bytes, &format!("{change:016x} {id} {revision:016x} {sum:016x} "));
    }

    /// Reads one without its end; what stands before the last bytes that could be a line does not count.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let start = bytes.len().checked_sub(LINE - 1)?;
        let (body, sum) = bytes.get(start..)?.split_at_checked(BODY)?;
        if hex(sum)? != xxh3_64(body) {
            return None;
        }
        let text = std::str::from_utf8(body).ok()?;
        if let Some(store) = text.strip_prefix(HEADER) {
            return store.trim_end().parse().ok().map(Self::Store);
        }
        let mut words = text.split(' ');
        let change = hex(words.next()?.as_bytes())?;
        let id: SessionId = words.next()?.parse().ok()?;
        let revision = hex(words.next()?.as_bytes())?;
        let sum = Sum::from_u64(hex(words.next()?.as_bytes())?);
        Some(match revision {
            0 if *id.as_bytes() == NOBODY => Self::Change(change),
            0 => Self::Leaving(change, id),
            revision => Self::Tip(change, id, Tip { revision, sum }),
        })
    }
}

fn seal(bytes: &mut Vec<u8>, body: &str) {
    debug_assert_eq!(body.len(), BODY, "{body}");
    bytes.extend_from_slice(body.as_bytes());
    bytes.extend_from_slice(format!("{:016x}\n", xxh3_64(body.as_bytes())).as_bytes());
}

/// Without a branch for each digit: which of the two kinds comes next cannot be foreseen, and there may be millions.
fn hex(digits: &[u8]) -> Option<u64> {
    let digits: &[u8; SUM] = digits.try_into().ok()?;
    let (mut number, mut is_hex) = (0, true);
    for digit in digits {
        let (decimal, letter) = (digit.wrapping_sub(b'0'), digit.wrapping_sub(b'a'));
        is_hex &= decimal < 10 || letter < 6;
        let value = if decimal < 10 { decimal } else { letter.wrapping_add(10) };
        number = number << 4 | u64::from(value & 15);
    }
    is_hex.then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_of_one_length_and_come_back() {
        let id = SessionId::random();
        for line in [
            Line::Store(StoreId::random()),
            Line::Change(7),
            Line::Tip(u64::MAX, id, Tip { revision: 1, sum: Sum::from_u64(u64::MAX) }),
            Line::Leaving(0, id),
        ] {
            let mut bytes = Vec::new();
            line.write(&mut bytes);
            assert_eq!(bytes.len(), LINE, "{line:?}");
            assert_eq!(bytes.pop(), Some(b'\n'));
            assert_eq!(Line::parse(&bytes), Some(line));
            assert_eq!(Line::parse(&[b"half a line, then".as_slice(), &bytes].concat()), Some(line));
            for bit in 0..bytes.len() * 8 {
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Line::parse(&bytes), None, "{line:?} with bit {bit} changed");
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }

    /// A file of this format may be in use: these bytes never change.
    #[test]
    fn the_form_of_a_line_is_fixed() {
        let mut bytes = Vec::new();
        Line::Store("0f3a1c52-9e0b-4d86-a1f4-2c5b8e907d13".parse().unwrap()).write(&mut bytes);
        let id = "7f3a1c52-9e0b-4d86-a1f4-2c5b8e907d13".parse().unwrap();
        Line::Tip(2, id, Tip { revision: 12, sum: Sum::from_u64(0xabc) }).write(&mut bytes);
        Line::Leaving(3, id).write(&mut bytes);
        Line::Change(3).write(&mut bytes);
        assert_eq!(String::from_utf8(bytes).unwrap(), include_str!("fixture-1.txt"));
    }
}
