//! Conveniences over any storage, made of its verbs alone. Nobody implements them by hand.

use std::time::Duration;

use async_trait::async_trait;

use super::import::{self, Imported};
use super::watch::{self, Watch};
use super::{Batch, Durability, Expected, HeadPage, PAGE, SessionFilter, SessionStorage, StorageError, load};
use crate::head::{Head, PersistedSession};
use crate::id::SessionId;
use crate::record::{StoredRecord, Tip};

/// All heads that a filter lets through, a page at a time, so that they need not all be held at once.
#[derive(Debug)]
pub struct Heads<'a, S: ?Sized> {
    storage: &'a S,
    filter: SessionFilter,
    after: Option<SessionId>,
    done: bool,
}

impl<S: SessionStorage + ?Sized> Heads<'_, S> {
    /// The next page; `None` after the last one. A page may be empty and not the last. After an error the same page
    /// can be asked for again.
    ///
    /// # Errors
    /// Those of [`list`](SessionStorage::list).
    pub async fn next_page(&mut self) -> Result<Option<HeadPage>, StorageError> {
        if self.done {
            return Ok(None);
        }
        let page = self.storage.list(&self.filter, self.after, PAGE).await?;
        self.done = page.next.is_none();
        self.after = page.next;
        Ok(Some(page))
    }
}

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
        load::record(self, id, revision).await
    }

    /// All heads that the filter lets through, ascending by id, on one page.
    ///
    /// # Errors
    /// Those of [`list`](SessionStorage::list).
    async fn list_all(&self, filter: &SessionFilter) -> Result<HeadPage, StorageError> {
        let (mut all, mut pages) = (HeadPage::default(), self.heads(filter.clone()));
        while let Some(page) = pages.next_page().await? {
            all.heads.extend(page.heads);
            all.unreadable.extend(page.unreadable);
        }
        Ok(all)
    }

    /// All heads that the filter lets through, ascending by id, a page at a time.
    fn heads(&self, filter: SessionFilter) -> Heads<'_, Self> {
        Heads { storage: self, filter, after: None, done: false }
    }

    /// The head of a session, once all that it stands for survives power loss: for whoever reports an ending to somebody
    /// who acts on it. Flushes only where that has not been done yet.
    ///
    /// # Errors
    /// `NotFound`; those of [`append`](SessionStorage::append) except `Conflict`.
    async fn flushed_head(&self, id: SessionId) -> Result<Head, StorageError> {
        loop {
            let head = self.head(id).await?.ok_or(StorageError::NotFound { id })?;
            match self.append(id, Expected::At(head.tip), Batch::empty(), Durability::Flushed).await {
                Ok(_) => return Ok(head),
                // Somebody appended between the two, or removed it.
                Err(StorageError::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Loads a session whole, from as few records of its log as tell the whole of it. Changes nothing.
    ///
    /// # Errors
    /// `NotFound`; `UnsupportedFormat` where a newer version wrote what is needed; whatever the storage suffers.
    async fn load(&self, id: SessionId) -> Result<PersistedSession, StorageError> {
        load::load(self, id).await
    }

    /// Stores a whole log: its lines, without line ends, from record 1 on. Every sum is checked and every event folded
    /// before anything is written; then all of it is stored at once, byte for byte, and flushed. A log that is there
    /// already, up to the same tip, is left as it is.
    ///
    /// # Errors
    /// `Conflict` where the session is there and ends elsewhere; `Corrupt` and `Invalid` where the lines are no log;
    /// `UnsupportedFormat` where a newer version wrote them; `InvalidArgument` where there are none.
    async fn import<L: AsRef<[u8]> + Sync>(
        &self,
        id: SessionId,
        lines: &[L],
    ) -> Result<Imported, StorageError> {
        import::import(self, id, lines).await
    }

    /// Follows a log from behind revision `after`: hears of changes where the storage can tell of them, and looks at
    /// least every `poll`.
    fn watch(&self, id: SessionId, after: u64, poll: Duration) -> Watch<'_, Self> {
        Watch::new(self, id, after, poll)
    }

    /// Waits until the log may have grown beyond `seen`, or for `poll` where the storage cannot tell of changes.
    async fn changed(&self, id: SessionId, seen: Tip, poll: Duration) {
        watch::changed(self, id, seen, poll).await;
    }
}

impl<S: SessionStorage + ?Sized> SessionStorageExt for S {}
