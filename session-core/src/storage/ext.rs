//! Convenience methods for every storage, built on the methods of the port alone.

use std::time::Duration;

use async_trait::async_trait;

use super::watch::{self, Watch};
use super::{HeadPage, PAGE, SessionFilter, SessionStorage, StorageError, load};
use crate::head::{Head, PersistedSession};
use crate::history::WorkHistory;
use crate::id::SessionId;
use crate::log_writer::{CheckedLog, Imported, LogWriter};
use crate::record::{StoredRecord, Tip};

/// All heads that match a filter, read page by page so that they need not all be in memory.
#[derive(Debug)]
pub struct Heads<'a, S: ?Sized> {
    storage: &'a S,
    filter: SessionFilter,
    after: Option<SessionId>,
    done: bool,
}

impl<S: SessionStorage + ?Sized> Heads<'_, S> {
    /// Returns the next page; `None` after the last one. An empty page is not necessarily the last. After an error, the
    /// next call reads the same page again.
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

/// The records of a log, read page by page so that they need not all be in memory.
#[derive(Debug)]
pub struct LogPages<'a, S: ?Sized> {
    storage: &'a S,
    id: SessionId,
    after: u64,
}

impl<S: SessionStorage + ?Sized> LogPages<'_, S> {
    /// Returns the next records; `None` after the last one. After an error, the next call reads the same page again.
    ///
    /// # Errors
    /// Those of [`records`](SessionStorage::records).
    pub async fn next_page(&mut self) -> Result<Option<Vec<StoredRecord>>, StorageError> {
        let page = self.storage.records(self.id, self.after, PAGE).await?.records;
        let Some(last) = page.last() else { return Ok(None) };
        self.after = last.revision();
        Ok(Some(page))
    }
}

/// Convenience methods for every [`SessionStorage`]. Implemented for all of them; do not implement it yourself.
#[async_trait]
pub trait SessionStorageExt: SessionStorage {
    /// Returns a cursor over the pages of records after a revision, ascending.
    fn log(&self, id: SessionId, after: u64) -> LogPages<'_, Self> {
        LogPages { storage: self, id, after }
    }

    /// Returns all records after a revision, ascending, in memory. A log may be larger than the memory:
    /// [`log`](Self::log) reads one page at a time.
    ///
    /// # Errors
    /// Those of [`records`](SessionStorage::records).
    async fn records_after(&self, id: SessionId, after: u64) -> Result<Vec<StoredRecord>, StorageError> {
        let (mut all, mut pages) = (Vec::new(), self.log(id, after));
        while let Some(page) = pages.next_page().await? {
            all.extend(page);
        }
        Ok(all)
    }

    /// Returns one record; `None` if the log has no such revision.
    ///
    /// # Errors
    /// Those of [`records`](SessionStorage::records).
    async fn record(&self, id: SessionId, revision: u64) -> Result<Option<StoredRecord>, StorageError> {
        load::record(self, id, revision).await
    }

    /// Returns all heads that match the filter, ascending by id, on one page.
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

    /// Returns a cursor over the pages of heads that match the filter, ascending by id.
    fn heads(&self, filter: SessionFilter) -> Heads<'_, Self> {
        Heads { storage: self, filter, after: None, done: false }
    }

    /// Returns the head of a session once everything that it covers survives power loss. Use it before reporting an
    /// ending to a caller that acts on it. Flushes only if that has not been done yet.
    ///
    /// # Errors
    /// `NotFound`; those of [`append`](SessionStorage::append) except `Conflict`.
    async fn flushed_head(&self, id: SessionId) -> Result<Head, StorageError> {
        LogWriter::of(self).flushed_head(id).await
    }

    /// Loads the full session from as few records of its log as possible. Read-only.
    ///
    /// # Errors
    /// `NotFound`; `UnsupportedFormat` if a newer version wrote one of these records; failures of the backend.
    async fn load(&self, id: SessionId) -> Result<PersistedSession, StorageError> {
        load::load(self, id).await
    }

    /// Returns the changed files, commits and commands of a session by name, with the number of distinct files over all
    /// iterations. Reads the whole log, page by page: its time grows with the log, its memory with the number of distinct
    /// files. Read-only.
    ///
    /// # Errors
    /// `NotFound`; `UnsupportedFormat` if a newer version wrote one of the records; failures of the backend.
    async fn history(&self, id: SessionId) -> Result<WorkHistory, StorageError> {
        load::history(self, id).await
    }

    /// Stores a complete log, given as its lines from record 1 on, without line ends. Every sum is checked and every
    /// event folded before anything is written; then all lines are appended as one batch, byte for byte, and flushed.
    /// If the log is already stored up to the same tip, it is left unchanged.
    ///
    /// # Errors
    /// `Conflict` if the session exists with another tip; `Corrupt` and `Invalid` if the lines are not a valid log;
    /// `UnsupportedFormat` if a newer version wrote them; `InvalidArgument` if there are none.
    async fn import<L: AsRef<[u8]> + Sync>(
        &self,
        id: SessionId,
        lines: &[L],
    ) -> Result<Imported, StorageError> {
        let mut log = CheckedLog::new(id);
        for line in lines {
            log.add(line.as_ref())?;
        }
        self.import_log(log).await
    }

    /// Stores a complete log as [`import`](Self::import) does, without holding it in memory.
    ///
    /// # Errors
    /// `Conflict` if the session exists with another tip; `InvalidArgument` if the log has no records.
    async fn import_log(&self, log: CheckedLog) -> Result<Imported, StorageError> {
        LogWriter::of(self).import(log).await
    }

    /// Follows a log after revision `after`. Reads when the storage reports a change, and at least every `poll`.
    fn watch(&self, id: SessionId, after: u64, poll: Duration) -> Watch<'_, Self> {
        Watch::new(self, id, after, poll)
    }

    /// Waits until the log may have grown beyond `seen`, at most for `poll`.
    async fn changed(&self, id: SessionId, seen: Tip, poll: Duration) {
        watch::changed(self, id, seen, poll).await;
    }
}

impl<S: SessionStorage + ?Sized> SessionStorageExt for S {}
