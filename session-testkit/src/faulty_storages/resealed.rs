//! Changed records for the faults to store, with valid checksums of their own.

use session_core::backend::{Batch, Chain, UnsealedRecord};
use session_core::{Head, SessionId, StoredRecord};

/// Seals the events of a batch again behind another tip. `None` if the state machine does not allow them there.
pub(super) fn reseal_after(id: SessionId, head: &Head, batch: &Batch) -> Option<Batch> {
    let mut chain = Chain::at(id, head.tip);
    let mut head = head.clone();
    let mut records = Vec::new();
    for stored in batch.records() {
        let record = stored.ok()?.decode().ok()?;
        let (at, attempt) = (record.envelope.at, record.envelope.attempt);
        let (stored, record) =
            chain.seal(UnsealedRecord { at, attempt, flushed: 0, event: record.event }).ok()?;
        head.apply(&record).ok()?;
        records.push(stored);
    }
    if records.is_empty() {
        return None;
    }
    Some(Batch::new(records, head))
}

/// Returns a batch without its last record, if any record is left; `before` is the head that it follows.
pub(super) fn without_last(id: SessionId, before: Option<Head>, batch: &Batch) -> Option<Batch> {
    let records = batch.load().ok()?;
    let (_, kept) = records.split_last()?;
    let mut head = before;
    for record in kept {
        Head::fold(&mut head, id, &record.decode().ok()?).ok()?;
    }
    if kept.is_empty() {
        return None;
    }
    Some(Batch::new(kept.to_vec(), head?))
}

/// Returns a record whose event was parsed to a JSON value and serialized again.
pub(super) fn re_encoded(record: StoredRecord) -> StoredRecord {
    let line = record.line();
    let parts = line.split_once(r#","event":"#).zip(line.rsplit_once(r#","sum":"#));
    let Some(((start, _), (body, sum))) = parts else { return record };
    let event = body.get(start.len() + r#","event":"#.len()..).unwrap_or_default();
    let Ok(event) = serde_json::from_str::<serde_json::Value>(event) else { return record };
    let line = format!(r#"{start},"event":{event},"sum":{sum}"#);
    StoredRecord::from_storage(record.revision(), line).unwrap_or(record)
}
