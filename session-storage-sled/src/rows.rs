//! How a store looks inside sled: one tree, whose keys begin with what the row is, so that one batch holds all that an
//! append changes.
//!
//! | key | value |
//! |---|---|
//! | `m` | the id of the store, a space, its counter of changes, as text |
//! | `h` id | how its log ends: revision, sum (8 bytes each, big endian), whether it ended (1 byte); then the head as JSON |
//! | `r` id, revision (8 bytes), part (2 bytes) | a part of the record's line |

use session_core::{Head, SessionId, Sum, Tip};

/// Bytes of a part of a line. sled keeps a page in a file of its own ("blob") once it is larger than a quarter of a
/// segment of 512 KiB, and a page has up to 16 rows and a few more until it is split: parts of this size never get there.
pub(crate) const PART: usize = 6 * 1024;

/// The row of the store itself.
pub(crate) const META: &[u8] = b"m";

/// The key of a session's head.
pub(crate) fn head_key(id: SessionId) -> Vec<u8> {
    [b"h", id.as_bytes().as_slice()].concat()
}

/// The session that a head's key is of.
pub(crate) fn parse_head_key(key: &[u8]) -> Option<SessionId> {
    key.strip_prefix(b"h")?.try_into().ok().map(SessionId::from_bytes)
}

/// The key of a part of a record.
pub(crate) fn record_key(id: SessionId, revision: u64, part: u16) -> Vec<u8> {
    [b"r", id.as_bytes().as_slice(), &revision.to_be_bytes(), &part.to_be_bytes()].concat()
}

/// The session and the revision that a record's key is of.
pub(crate) fn parse_record_key(key: &[u8]) -> Option<(SessionId, u64)> {
    let (id, rest) = key.strip_prefix(b"r")?.split_first_chunk()?;
    let (revision, part) = rest.split_first_chunk()?;
    (part.len() == 2).then(|| (SessionId::from_bytes(*id), u64::from_be_bytes(*revision)))
}

/// What a head's row says without its JSON being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HeadSummary {
    pub(crate) tip: Tip,
    pub(crate) ended: bool,
}

/// The value of a head's row.
pub(crate) fn head_value(head: &Head) -> Vec<u8> {
    let Tip { revision, sum } = head.tip;
    let mut value = Vec::with_capacity(1024);
    value.extend(revision.to_be_bytes());
    value.extend(sum.as_u64().to_be_bytes());
    value.push(u8::from(head.state().is_final()));
    serde_json::to_writer(&mut value, head).expect("a head is JSON, and a vector takes it");
    value
}

/// The start of a head's row.
pub(crate) fn head_summary(value: &[u8]) -> Option<HeadSummary> {
    let (revision, rest) = value.split_first_chunk()?;
    let (sum, rest) = rest.split_first_chunk()?;
    let tip = Tip { revision: u64::from_be_bytes(*revision), sum: Sum::from_u64(u64::from_be_bytes(*sum)) };
    let ended = match rest.first()? {
        0 => false,
        1 => true,
        _ => return None,
    };
    Some(HeadSummary { tip, ended })
}

/// The head in a row; `None` where it is not what was written there.
pub(crate) fn head(id: SessionId, value: &[u8]) -> Option<Head> {
    let HeadSummary { tip, ended } = head_summary(value)?;
    let head: Head = serde_json::from_slice(value.get(17..)?).ok()?;
    (head.id == id && head.tip == tip && head.state().is_final() == ended).then_some(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_by_session_then_revision_then_part_and_read_back() {
        let id = |first: u8| SessionId::from_bytes([first; 16]);
        let keys = [
            record_key(id(1), 1, 0),
            record_key(id(1), 1, 1),
            record_key(id(1), 2, 0),
            record_key(id(1), 256, 0),
            record_key(id(2), 1, 0),
        ];
        assert!(keys.is_sorted());
        assert_eq!(parse_record_key(&record_key(id(7), 300, 2)), Some((id(7), 300)));
        assert_eq!(parse_head_key(&head_key(id(7))), Some(id(7)));
        assert_eq!(parse_head_key(b"h short"), None);
        assert_eq!(parse_record_key(&head_key(id(7))), None);
    }
}
