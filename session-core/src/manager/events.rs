//! Following the events of a session until it ends.

use std::collections::VecDeque;

use super::SessionManager;
use crate::error::Result;
use crate::id::SessionId;
use crate::log_writer::decode;
use crate::record::{Chain, Record, StoredRecord, Tip};
use crate::storage::StorageError;

/// The records of a session in order, each once, from those that are stored to the final one. Created by
/// [`events`](crate::SessionManagerExt::events).
#[derive(Debug)]
#[must_use = "nothing is read before `next`"]
pub struct Events<'a, M: ?Sized> {
    manager: &'a M,
    id: SessionId,
    after: u64,
    /// The last record that was read: the next one must continue its chain.
    seen: Option<Tip>,
    read: VecDeque<StoredRecord>,
}

impl<'a, M: SessionManager + ?Sized> Events<'a, M> {
    pub(super) const fn new(manager: &'a M, id: SessionId, after: u64) -> Self {
        Self { manager, id, after, seen: None, read: VecDeque::new() }
    }

    /// Waits for the next record. `None` after the final one, with which the session ended. Dropping the future misses
    /// none.
    ///
    /// # Errors
    /// `NOT_FOUND` if the session does not exist, or no longer; `CONFLICT` if its log is no longer the one that was
    /// followed, because it was deleted and created again, or repaired with loss; `UNSUPPORTED_FORMAT` if a newer
    /// version wrote the record; failures of the storage.
    pub async fn next(&mut self) -> Result<Option<Record>> {
        if self.read.is_empty() {
            let records = self.manager.next_records(self.id, self.after).await?;
            if let (Some(seen), Some(first)) = (self.seen, records.first())
                && Chain::at(self.id, seen).follow(first).is_err()
            {
                let (expected, actual) = (Some(seen), Some(first.tip()));
                return Err(StorageError::Conflict { id: self.id, expected, actual }.into());
            }
            self.read = records.into();
        }
        let Some(stored) = self.read.pop_front() else { return Ok(None) };
        self.after = stored.revision();
        self.seen = Some(stored.tip());
        decode(self.id, &stored).map(Some)
    }
}
