//! The rows of a store in sled: one tree, whose keys start with the kind of row, so that one batch has all changes of
//! an append.
//!
//! | key | value |
//! |---|---|
//! | `m` | the id of the store, a space, its change counter, as text |
//! | `h` id | revision and sum of its tip (8 bytes each, big endian), 1 if it ended else 0 (1 byte); the head as JSON |
//! | `i` id | nothing: the session is being imported or removed, and its lines are no records |
//! | `r` id, revision (8 bytes), part (2 bytes) | a part of the record's line |

use session_core::backend::{Sum, Tip};
use session_core::{Head, SessionId};

/// Bytes of a part of a line. sled stores a page in a separate file ("blob") if it is larger than a quarter of a
/// segment of 512 KiB, and a page has up to 16 rows and a few more until it is split: parts of this size never reach
/// that limit. sled keeps at least one page of each of its 256 shards in memory: parts of this size are 8 MiB then. With
/// smaller ones its index of pages, which is in memory too, would be larger.
pub(crate) const PART: usize = 2 * 1024;

/// Splits a line into its parts, each with its number.
pub(crate) fn parts(line: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    (0..).zip(line.chunks(PART))
}

/// The key of the store's row.
pub(crate) const META: &[u8] = b"m";

/// Returns the key of a session's head.
pub(crate) fn head_key(id: SessionId) -> Vec<u8> {
    [b"h", id.as_bytes().as_slice()].concat()
}

/// Returns the session of a head's key.
pub(crate) fn parse_head_key(key: &[u8]) -> Option<SessionId> {
    key.strip_prefix(b"h")?.try_into().ok().map(SessionId::from_bytes)
}

/// Returns the key of the mark of an import.
pub(crate) fn import_key(id: SessionId) -> Vec<u8> {
    [b"i", id.as_bytes().as_slice()].concat()
}

/// Returns the session of the mark of an import.
pub(crate) fn parse_import_key(key: &[u8]) -> Option<SessionId> {
    key.strip_prefix(b"i")?.try_into().ok().map(SessionId::from_bytes)
}

/// Returns the key of a part of a record.
pub(crate) fn record_key(id: SessionId, revision: u64, part: u16) -> Vec<u8> {
    [b"r", id.as_bytes().as_slice(), &revision.to_be_bytes(), &part.to_be_bytes()].concat()
}

/// Returns the session and the revision of a record's key.
pub(crate) fn parse_record_key(key: &[u8]) -> Option<(SessionId, u64)> {
    let (id, rest) = key.strip_prefix(b"r")?.split_first_chunk()?;
    let (revision, part) = rest.split_first_chunk()?;
    (part.len() == 2).then(|| (SessionId::from_bytes(*id), u64::from_be_bytes(*revision)))
}

/// The part of a head's row before its JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HeadSummary {
    pub(crate) tip: Tip,
    pub(crate) ended: bool,
}

/// Encodes the value of a head's row.
pub(crate) fn head_value(head: &Head) -> Vec<u8> {
    let Tip { revision, sum } = head.tip;
    let mut value = Vec::with_capacity(1024);
    value.extend(revision.to_be_bytes());
    value.extend(sum.as_u64().to_be_bytes());
    value.push(u8::from(head.state().is_final()));
    serde_json::to_writer(&mut value, head).expect("a head is JSON, and a vector takes it");
    value
}

/// Parses the start of a head's row.
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

/// Parses the head in a row; `None` if it is damaged or belongs to another session.
pub(crate) fn head(id: SessionId, value: &[u8]) -> Option<Head> {
    let HeadSummary { tip, ended } = head_summary(value)?;
    let head: Head = serde_json::from_slice(value.get(17..)?).ok()?;
    (head.id == id && head.tip == tip && head.state().is_final() == ended).then_some(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_by_session_revision_and_part_and_parse_back() {
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
        assert_eq!(parse_import_key(&import_key(id(7))), Some(id(7)));
        assert_eq!(parse_import_key(&head_key(id(7))), None);
        assert_eq!(parse_head_key(b"h short"), None);
        assert_eq!(parse_record_key(&head_key(id(7))), None);
    }
}
