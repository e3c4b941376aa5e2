//! Waiting for the records and the states of a session, whichever process owns it.

use std::cmp::Ordering;

use super::engine::Engine;
use crate::error::Result;
use crate::head::Head;
use crate::id::SessionId;
use crate::machine::StateName;
use crate::record::StoredRecord;
use crate::storage::{PAGE, SessionStorageExt as _, StorageError};

/// Waits until the session has ended or is in one of these states, and that is flushed.
pub(crate) async fn wait_for(engine: &Engine, id: SessionId, states: &[StateName]) -> Result<Head> {
    let is_awaited = |head: &Head| head.state().is_final() || states.contains(&head.state().name());
    loop {
        let head = engine.writer.head(id).await?;
        if !is_awaited(&head) {
            engine.storage().changed(id, head.tip, engine.intervals.poll).await;
            continue;
        }
        let head = engine.storage().flushed_head(id).await?;
        if is_awaited(&head) {
            return Ok(head);
        }
    }
}

/// Waits for records after a revision; returns none once the session has ended and has no more.
pub(crate) async fn next_records(engine: &Engine, id: SessionId, after: u64) -> Result<Vec<StoredRecord>> {
    loop {
        let records = engine.storage().records(id, after, PAGE).await?.records;
        if !records.is_empty() {
            return Ok(records);
        }
        let head = engine.writer.head(id).await?;
        match head.tip.revision.cmp(&after) {
            Ordering::Less => {
                return Err(StorageError::Conflict { id, expected: None, actual: Some(head.tip) }.into());
            }
            Ordering::Equal if head.state().is_final() => return Ok(Vec::new()),
            Ordering::Equal => engine.storage().changed(id, head.tip, engine.intervals.poll).await,
            // The log has grown between the two reads.
            Ordering::Greater => {}
        }
    }
}
