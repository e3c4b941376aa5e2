//! The lines of a file of marks: text of one length, each with a sum of its own, so that what is damaged or half written is
//! passed over and hides nothing else.

use std::fmt;
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
        let begin = bytes.len();
        let (change, id, revision, sum) = match self {
            Self::Store(store) => {
                let text = format!("{HEADER}{store}");
                bytes.extend_from_slice(format!("{text:BODY$}").as_bytes());
                return seal(bytes, begin);
            }
            Self::Change(change) => (change, SessionId::from_bytes(NOBODY), 0, 0),
            Self::Tip(change, id, tip) => (change, id, tip.revision, tip.sum.as_u64()),
            Self::Leaving(change, id) => (change, id, 0, 0),
        };
        put(bytes, change);
        bytes.push(b' ');
        let id = Uuid::from_bytes(*id.as_bytes()).hyphenated();
        bytes.extend_from_slice(id.encode_lower(&mut Uuid::encode_buffer()).as_bytes());
        bytes.push(b' ');
        put(bytes, revision);
        bytes.push(b' ');
        put(bytes, sum);
        bytes.push(b' ');
        seal(bytes, begin);
    }

    /// Reads one without its end; what stands before the last bytes that could be a line does not count.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let start = bytes.len().checked_sub(LINE - 1)?;
        let (body, sum) = bytes.get(start..)?.split_at_checked(BODY)?;
        let expected = xxh3_64(body);
        if sum != [expected >> 32, expected & LOW].map(to_digits).as_flattened() {
            return None;
        }
        if let Some(store) = body.strip_prefix(HEADER.as_bytes()) {
            return std::str::from_utf8(store).ok()?.trim_end().parse().ok().map(Self::Store);
        }
        // At fixed places: there may be very many lines, and whoever opens a store waits for them.
        let change = number(body.get(..16)?)?;
        let id = SessionId::from_bytes(Uuid::try_parse_ascii(body.get(17..53)?).ok()?.into_bytes());
        let revision = number(body.get(54..70)?)?;
        let sum = Sum::from_u64(number(body.get(71..87)?)?);
        Some(match revision {
            0 if *id.as_bytes() == NOBODY => Self::Change(change),
            0 => Self::Leaving(change, id),
            revision => Self::Tip(change, id, Tip { revision, sum }),
        })
    }
}

/// Ends a line, of which everything but its sum was written from here on.
fn seal(bytes: &mut Vec<u8>, begin: usize) {
    let body = bytes.get(begin..).unwrap_or_default();
    debug_assert_eq!(body.len(), BODY, "{body:?}");
    put(bytes, xxh3_64(body));
    bytes.push(b'\n');
}

/// Adds a number as text.
fn put(bytes: &mut Vec<u8>, number: u64) {
    let [first, last] = [number >> 32, number & LOW].map(to_digits);
    bytes.extend_from_slice(&first);
    bytes.extend_from_slice(&last);
}

/// Reads a number that was written so; of other bytes it makes some number.
fn number(digits: &[u8]) -> Option<u64> {
    let (first, last) = digits.split_at_checked(8)?;
    Some(of_digits(first.try_into().ok()?) << 32 | of_digits(last.try_into().ok()?))
}

/// The lower half of a number.
const LOW: u64 = 0xffff_ffff;
/// One in each byte.
const ONES: u64 = 0x0101_0101_0101_0101;

/// Eight digits at once, each a byte of one word: there may be millions of lines, and a store waits for them at its opening.
fn to_digits(half: u64) -> [u8; 8] {
    let pairs = (half | half << 16) & 0x0000_ffff_0000_ffff;
    let bytes = (pairs | pairs << 8) & 0x00ff_00ff_00ff_00ff;
    let values = (bytes | bytes << 4) & (ONES * 15);
    // One in each byte that needs a letter, which stand 39 places behind where ten would be in line with the digits.
    let letters = (values + ONES * 6) >> 4 & ONES;
    (values + ONES * u64::from(b'0') + letters * 39).to_be_bytes()
}

/// The way back.
fn of_digits(digits: [u8; 8]) -> u64 {
    let word = u64::from_be_bytes(digits);
    let values = (word & (ONES * 15)).wrapping_add((word >> 6 & ONES) * 9);
    let bytes = (values | values >> 4) & 0x00ff_00ff_00ff_00ff;
    let pairs = (bytes | bytes >> 8) & 0x0000_ffff_0000_ffff;
    (pairs | pairs >> 16) & LOW
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

    #[test]
    fn numbers_are_sixteen_digits() {
        for at in 0..64 {
            for number in [1 << at, u64::MAX >> at, 0x0123_4567_89ab_cdef_u64.rotate_left(at)] {
                let mut text = Vec::new();
                put(&mut text, number);
                assert_eq!(String::from_utf8(text.clone()).unwrap(), format!("{number:016x}"));
                assert_eq!(super::number(&text), Some(number));
            }
        }
        assert_eq!((number(b""), number(b"0123456789abcde")), (None, None));
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
