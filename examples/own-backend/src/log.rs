//! The rows of a session, checked when they are read: redb returns what is in its pages, and only the checksums of the
//! records show whether that is what was written.

use std::num::NonZeroUsize;
use std::ops::Bound;

use redb::{ReadableTable, TableDefinition};
use session_core::backend::{Chain, HeadPage, PageRoom, RecordPage, Tip};
use session_core::{Head, SessionFilter, SessionId, StorageError, StoredRecord};

use crate::error::IntoStorageError as _;

/// Heads as JSON, by session.
pub const HEADS: TableDefinition<'_, u128, &str> = TableDefinition::new("heads");
/// Lines, by session and revision.
pub const RECORDS: TableDefinition<'_, (u128, u64), &str> = TableDefinition::new("records");
/// The sessions that have not ended, so that they can be counted without reading heads.
pub const UNENDED: TableDefinition<'_, u128, ()> = TableDefinition::new("unended");

/// Returns an id as a number, which has the same order.
pub fn key(id: SessionId) -> u128 {
    u128::from_be_bytes(*id.as_bytes())
}

pub fn parse(id: SessionId, json: &str) -> Result<Head, StorageError> {
    let head = serde_json::from_str::<Head>(json).ok().filter(|head| head.id == id);
    head.ok_or_else(|| corrupt(id, 0, "its head cannot be read"))
}

pub fn head(
    heads: &impl ReadableTable<u128, &'static str>,
    id: SessionId,
) -> Result<Option<Head>, StorageError> {
    heads.get(key(id)).storage_error()?.map(|json| parse(id, json.value())).transpose()
}

/// Checks that the log ends with this tip.
pub fn check_end(
    records: &impl ReadableTable<(u128, u64), &'static str>,
    id: SessionId,
    tip: Tip,
) -> Result<(), StorageError> {
    match record(records, id, tip.revision)? {
        Some(last) if last.tip() == tip => Ok(()),
        _ => Err(corrupt(id, tip.revision.saturating_sub(1), "its last record is missing or damaged")),
    }
}

/// Reads a page of at most `limit` records after a revision of the log that ends with `tip`, and checks that each follows the
/// one before.
pub fn page(
    records: &impl ReadableTable<(u128, u64), &'static str>,
    id: SessionId,
    tip: Tip,
    after: u64,
    limit: NonZeroUsize,
) -> Result<RecordPage, StorageError> {
    if after >= tip.revision {
        return Ok(RecordPage::default());
    }
    let missing =
        |revision: u64| corrupt(id, revision - 1, &format!("revision {revision} is missing or damaged"));
    let mut chain = match after {
        0 => Chain::start(id),
        _ => Chain::at(id, record(records, id, after)?.ok_or_else(|| missing(after))?.tip()),
    };
    let (mut page, mut room) = (Vec::new(), PageRoom::new(limit));
    while room.is_left() && chain.revision() < tip.revision {
        let revision = chain.revision() + 1;
        let row = records.get((key(id), revision)).storage_error()?.ok_or_else(|| missing(revision))?;
        let record = chain.check(row.value().as_bytes()).map_err(|_| missing(revision))?;
        room.take(record.line().len());
        page.push(record);
    }
    if chain.revision() == tip.revision && chain.tip() != Some(tip) {
        return Err(missing(tip.revision));
    }
    Ok(RecordPage::new(page))
}

/// Reads at most `limit` heads that match the filter, with ids above `after`.
pub fn list(
    heads: &impl ReadableTable<u128, &'static str>,
    filter: &SessionFilter,
    after: Option<SessionId>,
    limit: NonZeroUsize,
) -> Result<HeadPage, StorageError> {
    let from = after.map_or(Bound::Unbounded, |id| Bound::Excluded(key(id)));
    let mut page = HeadPage::default();
    for row in heads.range((from, Bound::Unbounded)).storage_error()? {
        if page.heads.len() == limit.get() {
            page.next = page.heads.last().map(|head| head.id);
            break;
        }
        let (id, json) = row.storage_error()?;
        let id = SessionId::from_bytes(id.value().to_be_bytes());
        match parse(id, json.value()) {
            Ok(head) if filter.matches(&head) => page.heads.push(head),
            Ok(_) => {}
            Err(error) => page.unreadable.push((id, error)),
        }
    }
    Ok(page)
}

fn record(
    records: &impl ReadableTable<(u128, u64), &'static str>,
    id: SessionId,
    revision: u64,
) -> Result<Option<StoredRecord>, StorageError> {
    let row = records.get((key(id), revision)).storage_error()?;
    Ok(row.and_then(|line| StoredRecord::from_storage(revision, line.value()).ok()))
}

fn corrupt(id: SessionId, readable: u64, what: &str) -> StorageError {
    StorageError::Corrupt { id, readable, what: what.to_owned() }
}
