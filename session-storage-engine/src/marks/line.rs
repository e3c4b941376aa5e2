//! The line format of a marks file: text of a fixed length, each line with its own checksum, so that a damaged or
//! partly written line is skipped and hides no other.

use std::fmt;
use std::str::FromStr;

use session_core::SessionId;
use session_core::backend::{Sum, Tip};
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

/// Bytes of a line, including its end.
pub(super) const LINE: usize = 16 + 1 + 36 + 1 + 16 + 1 + 16 + 1 + SUM + 1;
/// Bytes of a checksum as text.
const SUM: usize = 16;
/// Bytes that a checksum covers.
const BODY: usize = LINE - 1 - SUM;
const HEADER: &str = "session marks, format 1, store ";
/// The session id of lines that record only the flushed change of the database.
const NO_SESSION: SessionIdBytes = [0; 16];

type SessionIdBytes = [u8; 16];

/// The id of a store, stored in the database and next to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StoreId(Uuid);

impl StoreId {
    /// Creates a random id.
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

/// The content of one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    /// The store that the marks belong to.
    Store(StoreId),
    /// The database was flushed up to this change.
    Change(u64),
    /// The session's log was flushed up to this tip with this change.
    Tip(u64, SessionId, Tip),
    /// The session is about to be deleted with this change.
    Deletion(u64, SessionId),
}

impl Line {
    /// Encodes lines for the file.
    pub(super) fn encode_all(lines: &[Self]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(lines.len() * LINE);
        for line in lines {
            line.encode(&mut bytes);
        }
        bytes
    }

    /// Appends the encoded line to `bytes`.
    pub(super) fn encode(self, bytes: &mut Vec<u8>) {
        let start = bytes.len();
        let (change, id, revision, sum) = match self {
            Self::Store(store) => {
                let text = format!("{HEADER}{store}");
                bytes.extend_from_slice(format!("{text:BODY$}").as_bytes());
                return seal(bytes, start);
            }
            Self::Change(change) => (change, SessionId::from_bytes(NO_SESSION), 0, 0),
            Self::Tip(change, id, tip) => (change, id, tip.revision, tip.sum.as_u64()),
            Self::Deletion(change, id) => (change, id, 0, 0),
        };
        push_hex(bytes, change);
        bytes.push(b' ');
        let id = Uuid::from_bytes(*id.as_bytes()).hyphenated();
        bytes.extend_from_slice(id.encode_lower(&mut Uuid::encode_buffer()).as_bytes());
        bytes.push(b' ');
        push_hex(bytes, revision);
        bytes.push(b' ');
        push_hex(bytes, sum);
        bytes.push(b' ');
        seal(bytes, start);
    }

    /// Parses a line without its end. Bytes before the last ones that could be a line are ignored.
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
        // At fixed offsets: there may be very many lines, and opening a store waits for them.
        let change = parse_hex(body.get(..16)?)?;
        let id = SessionId::from_bytes(Uuid::try_parse_ascii(body.get(17..53)?).ok()?.into_bytes());
        let revision = parse_hex(body.get(54..70)?)?;
        let sum = Sum::from_u64(parse_hex(body.get(71..87)?)?);
        Some(match revision {
            0 if *id.as_bytes() == NO_SESSION => Self::Change(change),
            0 => Self::Deletion(change, id),
            revision => Self::Tip(change, id, Tip { revision, sum }),
        })
    }
}

/// Ends the line that starts at `start`, of which all but the checksum is written.
fn seal(bytes: &mut Vec<u8>, start: usize) {
    let body = bytes.get(start..).unwrap_or_default();
    debug_assert_eq!(body.len(), BODY, "{body:?}");
    push_hex(bytes, xxh3_64(body));
    bytes.push(b'\n');
}

/// Appends a number as 16 hexadecimal digits.
fn push_hex(bytes: &mut Vec<u8>, number: u64) {
    let [high, low] = [number >> 32, number & LOW].map(to_digits);
    bytes.extend_from_slice(&high);
    bytes.extend_from_slice(&low);
}

/// Parses such a number; other bytes give an arbitrary number.
fn parse_hex(digits: &[u8]) -> Option<u64> {
    let (high, low) = digits.split_at_checked(8)?;
    Some(of_digits(high.try_into().ok()?) << 32 | of_digits(low.try_into().ok()?))
}

/// The lower half of a number.
const LOW: u64 = 0xffff_ffff;
/// The value 1 in each byte.
const ONES: u64 = 0x0101_0101_0101_0101;

/// Formats eight digits in parallel, each a byte of one word: there may be millions of lines, and opening a store waits
/// for them.
fn to_digits(half: u64) -> [u8; 8] {
    let pairs = (half | half << 16) & 0x0000_ffff_0000_ffff;
    let bytes = (pairs | pairs << 8) & 0x00ff_00ff_00ff_00ff;
    let values = (bytes | bytes << 4) & (ONES * 15);
    // 1 in each byte that needs a letter: `a` is 39 above the code that follows `9`.
    let letters = (values + ONES * 6) >> 4 & ONES;
    (values + ONES * u64::from(b'0') + letters * 39).to_be_bytes()
}

/// Parses eight digits, the inverse of [`to_digits`].
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
    fn encoded_lines_have_one_length_and_parse_back() {
        let id = SessionId::random();
        for line in [
            Line::Store(StoreId::random()),
            Line::Change(7),
            Line::Tip(u64::MAX, id, Tip { revision: 1, sum: Sum::from_u64(u64::MAX) }),
            Line::Deletion(0, id),
        ] {
            let mut bytes = Vec::new();
            line.encode(&mut bytes);
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
    fn numbers_are_sixteen_hexadecimal_digits() {
        for at in 0..64 {
            for number in [1 << at, u64::MAX >> at, 0x0123_4567_89ab_cdef_u64.rotate_left(at)] {
                let mut text = Vec::new();
                push_hex(&mut text, number);
                assert_eq!(String::from_utf8(text.clone()).unwrap(), format!("{number:016x}"));
                assert_eq!(parse_hex(&text), Some(number));
            }
        }
        assert_eq!((parse_hex(b""), parse_hex(b"0123456789abcde")), (None, None));
    }

    /// Files of this format may be in use: these bytes never change.
    #[test]
    fn the_encoding_of_lines_matches_the_fixture() {
        let mut bytes = Vec::new();
        Line::Store("0f3a1c52-9e0b-4d86-a1f4-2c5b8e907d13".parse().unwrap()).encode(&mut bytes);
        let id = "7f3a1c52-9e0b-4d86-a1f4-2c5b8e907d13".parse().unwrap();
        Line::Tip(2, id, Tip { revision: 12, sum: Sum::from_u64(0xabc) }).encode(&mut bytes);
        Line::Deletion(3, id).encode(&mut bytes);
        Line::Change(3).encode(&mut bytes);
        assert_eq!(String::from_utf8(bytes).unwrap(), include_str!("fixture-1.txt"));
    }
}
