//! Following a log as it grows, on any storage.

use std::time::Duration;

use super::{PAGE, SessionStorage, StorageError};
use crate::id::SessionId;
use crate::record::{Chain, StoredRecord, Tip};

/// A log being followed: returns each record once and in order.
#[derive(Debug)]
pub struct Watch<'a, S: ?Sized> {
    storage: &'a S,
    id: SessionId,
    after: u64,
    /// The last record that was returned: the next one must continue its chain.
    seen: Option<Tip>,
    poll: Duration,
}

impl<'a, S: SessionStorage + ?Sized> Watch<'a, S> {
    pub(super) const fn new(storage: &'a S, id: SessionId, after: u64, poll: Duration) -> Self {
        Self { storage, id, after, seen: None, poll }
    }

    /// Waits for the next records and returns them, at least one. Dropping the future misses none.
    ///
    /// # Errors
    /// `NotFound` if the session does not exist, or no longer; `Conflict` if its log is no longer the one that was
    /// followed: it was deleted and created again, or repaired with loss. Failures of the backend.
    pub async fn next(&mut self) -> Result<Vec<StoredRecord>, StorageError> {
        loop {
            let records = self.storage.records(self.id, self.after, PAGE).await?.records;
            if let (Some(first), Some(last)) = (records.first(), records.last()) {
                if let Some(seen) = self.seen
                    && Chain::at(self.id, seen).follow(first).is_err()
                {
                    return Err(self.log_replaced(Some(first.tip())));
                }
                self.after = last.revision();
                self.seen = Some(last.tip());
                return Ok(records);
            }
            let head = self.storage.head(self.id).await?.ok_or(StorageError::NotFound { id: self.id })?;
            if head.tip.revision < self.after {
                return Err(self.log_replaced(Some(head.tip)));
            }
            // If the log has grown between the two reads, there is no need to wait.
            if head.tip.revision == self.after {
                if *self.seen.get_or_insert(head.tip) != head.tip {
                    return Err(self.log_replaced(Some(head.tip)));
                }
                changed(self.storage, self.id, head.tip, self.poll).await;
            }
        }
    }

    const fn log_replaced(&self, actual: Option<Tip>) -> StorageError {
        StorageError::Conflict { id: self.id, expected: self.seen, actual }
    }
}

/// Waits until the log may have grown beyond `seen`, at most for `poll`.
pub(super) async fn changed<S>(storage: &S, id: SessionId, seen: Tip, poll: Duration)
where
    S: SessionStorage + ?Sized,
{
    match storage.change_feed() {
        // Notifications are hints: poll as well.
        Some(feed) => drop(tokio::time::timeout(poll, feed.changed(id, seen)).await),
        None => tokio::time::sleep(poll).await,
    }
}
