//! Conveniences over any storage, made of its verbs alone. Nobody implements them by hand.

use std::num::NonZeroUsize;
use std::time::Duration;

use async_trait::async_trait;

use super::{HeadPage, SessionFilter, SessionStorage, StorageError};
use crate::id::SessionId;
use crate::record::{StoredRecord, Tip};

const PAGE: NonZeroUsize = NonZeroUsize::new(256).expect("256 is not 0");

/// What can be made of a storage's verbs.
#[async_trait]
pub trait SessionStorageExt: SessionStorage {
    /// All records after a revision, ascending.
    ///
    /// # Errors
    /// Those of [`records`](SessionStorage::records).
    async fn records_after(&self, id: SessionId, mut after: u64) -> Result<Vec<StoredRecord>, StorageError> {
        let mut all = Vec::new();
        loop {
            let page = self.records(id, after, PAGE).await?.records;
            let Some(last) = page.last() else { return Ok(all) };
            after = last.revision();
            all.extend(page);
        }
    }

    /// One record.
    ///
    /// # Errors
    /// Those of [`records`](SessionStorage::records).
    async fn record(&self, id: SessionId, revision: u64) -> Result<Option<StoredRecord>, StorageError> {
        let page = self.records(id, revision.saturating_sub(1), NonZeroUsize::MIN).await?;
        Ok(page.records.into_iter().next().filter(|record| record.revision() == revision))
    }

    /// All heads that the filter lets through, ascending by id, on one page.
    ///
    /// # Errors
    /// Those of [`list`](SessionStorage::list).
    async fn list_all(&self, filter: &SessionFilter) -> Result<HeadPage, StorageError> {
        let mut all = HeadPage::default();
        loop {
            let page = self.list(filter, all.next, PAGE).await?;
            all.heads.extend(page.heads);
            all.unreadable.extend(page.unreadable);
            all.next = page.next;
            if all.next.is_none() {
                return Ok(all);
            }
        }
    }

    /// Waits until the log may have grown beyond `seen`, or for `poll` where the storage cannot tell of changes.
    async fn changed(&self, id: SessionId, seen: Tip, poll: Duration) {
        match self.change_feed() {
            // A feed is a hint: whoever relies on it still looks from time to time.
            Some(feed) => drop(tokio::time::timeout(poll, feed.changed(id, seen)).await),
            None => tokio::time::sleep(poll).await,
        }
    }
}

impl<S: SessionStorage + ?Sized> SessionStorageExt for S {}
