//! A storage for sessions over [redb](https://docs.rs/redb), an embedded store of one file: an example of a backend that
//! is written outside of the project, with `session-core` alone. `docs/write-a-backend.md` goes through it.
//!
//! ```
//! use std::sync::Arc;
//!
//! use own_backend::RedbStorage;
//! use session_core::{ManagerOptions, PersistentSessionManager, ProcessPresence, SessionConfig, SessionManagerExt as _};
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
use redb::{Database, ReadableDatabase as _, ReadableTableMetadata as _, StorageBackend};
use session_core::{
    Batch, ChangeFeed, Durability, Expected, Head, HeadPage, RecordPage, SessionFilter, SessionId,
    SessionStorage, Sharing, StorageError, StorageProfile, Tip,
};

use crate::engine::Engine;
use crate::error::IntoStorageError as _;
use crate::log::{HEADS, RECORDS, UNENDED, key};

/// Sessions in a redb database. Clones share it; another process has to wait until the last one is gone.
#[derive(Clone)]
pub struct RedbStorage {
    engine: Arc<Engine>,
}

impl RedbStorage {
    /// Opens a database, or makes one.
    ///
    /// # Errors
    /// `Unavailable` where another handle has it, `Io` where it cannot be opened.
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

    /// Opens a database that is kept somewhere else. The backend is made once more whenever the database has to be opened
    /// anew.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn with_backend<B: StorageBackend>(
        name: &str,
        make: impl Fn() -> io::Result<B> + Send + Sync + 'static,
    ) -> Result<Self, StorageError> {
        let engine = Engine::new(name, make);
        engine.database()?;
        Ok(Self { engine: Arc::new(engine) })
    }

    /// Runs what waits for the disk elsewhere. A future that is dropped leaves it to come to its end: all of a batch is
    /// stored, or nothing.
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
        // One writer at a time: what is read here is what is there when it is written.
        let mut write = database.begin_write().storage_error()?;
        // Pages first, then the root that names them: a flush that fails leaves the commit before it whole.
        write.set_two_phase_commit(true);
        let tip = {
            let mut heads = write.open_table(HEADS).storage_error()?;
            let mut records = write.open_table(RECORDS).storage_error()?;
            let mut unended = write.open_table(UNENDED).storage_error()?;
            let actual = log::head(&heads, id)?.map(|head| head.tip);
            let count = || unended.len().storage_error().map(|count| usize::try_from(count).unwrap_or(usize::MAX));
            batch.check(id, expected, actual, count)?;
            if let Some(tip) = actual {
                // Nothing is added to a log whose end is not the one that is known.
                log::check_end(&records, id, tip)?;
            }
            let Some(head) = batch.head() else {
                // Each commit is flushed, so an empty flush has nothing to do.
                return actual.ok_or(StorageError::NotFound { id });
            };
            for record in batch.records() {
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
        self.committed(id, write.commit())?;
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
        self.committed(id, write.commit())
    }

    /// After a commit that failed nobody knows what is on the disk. Whoever comes next opens the database anew.
    fn committed(&self, id: SessionId, result: Result<(), redb::CommitError>) -> Result<(), StorageError> {
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
        // redb keeps in memory what is not flushed, where the death of the process would take it. So all is flushed.
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
            // One snapshot: the log is as long as its head says.
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
