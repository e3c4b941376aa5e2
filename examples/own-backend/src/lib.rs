//! A session storage on [redb](https://docs.rs/redb), an embedded database in one file. It is an example of a
//! third-party backend that only needs `session-core`; `docs/write-a-backend.md` explains it.
//!
//! ```
//! use std::sync::Arc;
//!
//! use own_backend::RedbStorage;
//! use session_core::backend::ProcessPresence;
//! use session_core::{ManagerOptions, PersistentSessionManager, SessionConfig, SessionManagerExt as _};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("sessions.redb");
//! let storage = Arc::new(RedbStorage::open(path)?);
//! let presence = Arc::new(ProcessPresence::default());
//! let manager = PersistentSessionManager::open(storage, presence, ManagerOptions::new()).await?;
//! let work = async |session: session_core::Session| {
//!     session.checkpoint(&7).await?;
//!     Ok(())
//! };
//! let report = manager.run(SessionConfig::new("import"), work).await?;
//! assert!(report.is_completed());
//! # Ok(())
//! # }
//! ```

mod engine;
mod error;
mod log;

use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use redb::backends::FileBackend;
use redb::{Database, ReadableDatabase as _, ReadableTable as _, StorageBackend};
use session_core::backend::{Batch, ChangeFeed, Expected, HeadPage, RecordPage, SessionStorage, Sharing, StorageProfile, Tip};
use session_core::{Durability, Head, SessionFilter, SessionId, StorageError};

use crate::engine::Engine;
use crate::error::IntoStorageError as _;
use crate::log::{HEADS, RECORDS, UNENDED, key};

/// A storage in a redb database. Clones share it; another process can open it only after the last clone is dropped.
#[derive(Clone)]
pub struct RedbStorage {
    engine: Arc<Engine>,
}

impl RedbStorage {
    /// Opens a database, or creates one.
    ///
    /// # Errors
    /// `Unavailable` if another handle has it open, `Io` if it cannot be opened.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StorageError> {
        let path = path.as_ref().to_owned();
        let name = path.display().to_string();
        Self::with_backend(&name, move || {
            let file = std::fs::OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)?;
            FileBackend::new(file).map_err(io::Error::other)
        })
    }

    /// Opens a database on a custom redb backend. `make` is called again whenever the database is reopened.
    ///
    /// # Errors
    /// The errors of [`open`](Self::open).
    pub fn with_backend<B: StorageBackend>(
        name: &str,
        make: impl Fn() -> io::Result<B> + Send + Sync + 'static,
    ) -> Result<Self, StorageError> {
        let engine = Engine::new(name, make);
        engine.database()?;
        Ok(Self { engine: Arc::new(engine) })
    }

    /// Runs blocking work on another thread. If the future is dropped, the work still completes: a batch is stored
    /// completely or not at all.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self, &Database) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let this = self.clone();
        let done = tokio::task::spawn_blocking(move || {
            let database = this.engine.database()?;
            work(&this, &database)
        });
        done.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }

    fn append_now(
        &self,
        database: &Database,
        id: SessionId,
        expected: Expected,
        batch: &Batch,
    ) -> Result<Tip, StorageError> {
        // redb allows one writer at a time, so nothing changes between these reads and the commit.
        let mut write = database.begin_write().storage_error()?;
        // Flushes the pages before the root that refers to them: a failed flush leaves the previous commit intact.
        write.set_two_phase_commit(true);
        let tip = {
            let mut heads = write.open_table(HEADS).storage_error()?;
            let mut records = write.open_table(RECORDS).storage_error()?;
            let mut unended = write.open_table(UNENDED).storage_error()?;
            let actual = log::head(&heads, id)?.map(|head| head.tip);
            let held = || {
                let mut held = 0;
                for entry in unended.iter().storage_error()? {
                    let other = SessionId::from_bytes(entry.storage_error()?.0.value().to_be_bytes());
                    // A damaged head may be that of a session with an owner.
                    let holds_place = log::head(&heads, other)
                        .map_or(true, |head| head.is_some_and(|head| head.holds_place()));
                    held += usize::from(other != id && holds_place);
                }
                Ok(held)
            };
            batch.check(id, expected, actual, held)?;
            if let Some(tip) = actual {
                // A damaged log must not be appended to.
                log::check_end(&records, id, tip)?;
            }
            let Some(head) = batch.head() else {
                // Every commit is flushed, so there is nothing left to flush.
                return actual.ok_or(StorageError::NotFound { id });
            };
            for record in batch.records() {
                let record = record?;
                records.insert((key(id), record.revision()), record.line()).storage_error()?;
            }
            let json = serde_json::to_string(head).expect("a head has string keys");
            heads.insert(key(id), json.as_str()).storage_error()?;
            if head.state().is_final() {
                unended.remove(key(id)).storage_error()?;
            } else {
                unended.insert(key(id), ()).storage_error()?;
            }
            head.tip
        };
        self.close_on_error(id, write.commit())?;
        Ok(tip)
    }

    fn delete_now(&self, database: &Database, id: SessionId, tip: Tip) -> Result<(), StorageError> {
        let mut write = database.begin_write().storage_error()?;
        write.set_two_phase_commit(true);
        {
            let mut heads = write.open_table(HEADS).storage_error()?;
            let actual = log::head(&heads, id)?.map(|head| head.tip).ok_or(StorageError::NotFound { id })?;
            if actual != tip {
                return Err(StorageError::Conflict { id, expected: Some(tip), actual: Some(actual) });
            }
            heads.remove(key(id)).storage_error()?;
            write.open_table(UNENDED).storage_error()?.remove(key(id)).storage_error()?;
            let all = (key(id), 0)..=(key(id), u64::MAX);
            write.open_table(RECORDS).storage_error()?.retain_in(all, |_, _| false).storage_error()?;
        }
        self.close_on_error(id, write.commit())
    }

    /// Closes the database after a failed commit, because what is on the disk is unknown. The next call reopens it.
    fn close_on_error(
        &self,
        id: SessionId,
        result: Result<(), redb::CommitError>,
    ) -> Result<(), StorageError> {
        result.map_err(|error| {
            self.engine.close();
            StorageError::OutcomeUnknown { id, source: Arc::new(redb::Error::from(error)) }
        })
    }
}

impl fmt::Debug for RedbStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbStorage").field("engine", &self.engine).finish()
    }
}

#[async_trait]
impl SessionStorage for RedbStorage {
    async fn append(
        &self,
        id: SessionId,
        expected: Expected,
        batch: Batch,
        // redb keeps unflushed commits in memory, where they would not survive the process. So every append is flushed.
        _durability: Durability,
    ) -> Result<Tip, StorageError> {
        self.blocking(move |this, database| this.append_now(database, id, expected, &batch)).await
    }

    async fn head(&self, id: SessionId) -> Result<Option<Head>, StorageError> {
        self.blocking(move |_, database| {
            let read = database.begin_read().storage_error()?;
            log::head(&read.open_table(HEADS).storage_error()?, id)
        })
        .await
    }

    async fn records(
        &self,
        id: SessionId,
        after: u64,
        limit: NonZeroUsize,
    ) -> Result<RecordPage, StorageError> {
        self.blocking(move |_, database| {
            // One snapshot, so that the head matches the records.
            let read = database.begin_read().storage_error()?;
            let head = log::head(&read.open_table(HEADS).storage_error()?, id)?;
            let tip = head.ok_or(StorageError::NotFound { id })?.tip;
            log::page(&read.open_table(RECORDS).storage_error()?, id, tip, after, limit)
        })
        .await
    }

    async fn list(
        &self,
        filter: &SessionFilter,
        after: Option<SessionId>,
        limit: NonZeroUsize,
    ) -> Result<HeadPage, StorageError> {
        let filter = filter.clone();
        self.blocking(move |_, database| {
            let read = database.begin_read().storage_error()?;
            log::list(&read.open_table(HEADS).storage_error()?, &filter, after, limit)
        })
        .await
    }

    async fn delete(&self, id: SessionId, tip: Tip) -> Result<(), StorageError> {
        self.blocking(move |this, database| this.delete_now(database, id, tip)).await
    }

    fn profile(&self) -> StorageProfile {
        StorageProfile::new("redb", Some(Durability::Flushed), Sharing::Process)
    }

    fn change_feed(&self) -> Option<Arc<dyn ChangeFeed>> {
        None
    }
}
