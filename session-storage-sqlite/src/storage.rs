//! The storage port: passes requests to threads and translates their results. Nothing blocking is held across an await.
//! If a future is dropped, a change that has started completes, and one that has not started is not made.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use session_core::backend::{
    Batch, ChangeFeed, Expected, HeadPage, NameCounter, RecordPage, SessionStorage, Sharing, StorageProfile,
    Tip,
};
use session_core::maintenance::{
    AcceptedLoss, ReconcileReport, RepairReport, SessionHealth, StorageMaintenance, StoreHealth,
};
use session_core::{Durability, Head, SessionFilter, SessionId, StorageError};
use session_storage_engine::{GroupCommit, Job, Limits, WorkerGone};
use tokio::sync::oneshot;

use crate::options::SqliteStorageOptions;
use crate::reader::Reader;
use crate::request::{Reply, Request, Response};
use crate::rows::HeadText;
use crate::store::{Access, Store};
use crate::writer::Writer;

type Task = Box<dyn FnOnce(&mut Reader) + Send>;

/// A store in an `SQLite` database. Clones share it.
#[derive(Debug, Clone)]
pub struct SqliteStorage {
    // Dropped before the writer: the last connection to close checkpoints the rest of the write-ahead log.
    readers: Arc<Readers>,
    writer: Arc<LazyThread<Request, Reply>>,
    store: Arc<Store>,
}

/// A worker thread that is started on first use.
struct LazyThread<Q, R>(Mutex<Option<Arc<GroupCommit<Q, R>>>>);

impl<Q, R> fmt::Debug for LazyThread<Q, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Threads").field(&self.0).finish()
    }
}

#[derive(Debug)]
struct Readers {
    threads: Vec<LazyThread<Task, ()>>,
    next: AtomicUsize,
}

impl<Q: Send + 'static, R: Send + 'static> LazyThread<Q, R> {
    fn get(
        &self,
        start: impl FnOnce() -> std::io::Result<GroupCommit<Q, R>>,
    ) -> Result<Arc<GroupCommit<Q, R>>, StorageError> {
        let mut thread = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = &*thread {
            return Ok(Arc::clone(thread));
        }
        let started = start().map(Arc::new).map_err(|error| StorageError::Unavailable {
            what: "cannot start a thread".to_owned(),
            source: Some(Arc::new(error)),
        })?;
        *thread = Some(Arc::clone(&started));
        Ok(started)
    }
}

impl<Q, R> Default for LazyThread<Q, R> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl SqliteStorage {
    /// Opens a store, reading the start of the database. Nothing is created: a path where nothing exists is a store
    /// without sessions, and the first session creates the database.
    ///
    /// # Errors
    /// [`Unavailable`](StorageError::Unavailable) if the path is not a store and cannot become one, cannot be read, or
    /// is on a network or FUSE file system, if its schema is not that of a store, or if the database is missing while the files next to it show that there
    /// were sessions; [`UnsupportedFormat`](StorageError::UnsupportedFormat) if a newer version created it.
    pub fn open(options: SqliteStorageOptions) -> Result<Self, StorageError> {
        let read_threads = options.read_threads;
        let store = Arc::new(Store::new(options)?);
        store.connect(Access::Read)?;
        let readers = Readers {
            threads: (0..read_threads.get()).map(|_| LazyThread::default()).collect(),
            next: AtomicUsize::new(0),
        };
        Ok(Self { readers: Arc::new(readers), writer: Arc::default(), store })
    }

    /// Returns the path of the database file.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.store.path()
    }

    async fn write(&self, request: Request, id: Option<SessionId>) -> Reply {
        let group = self.writer.get(|| {
            let mut writer = Writer::new(Arc::clone(&self.store));
            GroupCommit::start("session-sqlite-write", Limits::default(), move |jobs| writer.process(jobs))
        })?;
        let bytes = request.bytes();
        group.submit(request, bytes).await.unwrap_or_else(|gone| Err(self.worker_error(gone, id)))
    }

    fn worker_error(&self, gone: WorkerGone, id: Option<SessionId>) -> StorageError {
        let what = self.store.path().display().to_string();
        match id {
            Some(id) => gone.to_error(&what, id),
            None => StorageError::Closed { what, source: None },
        }
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut Reader) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let Readers { threads, next } = &*self.readers;
        let index = next.fetch_add(1, Ordering::Relaxed) % threads.len().max(1);
        let thread = threads.get(index).ok_or_else(|| self.worker_error(WorkerGone::NotStarted, None))?;
        let group = thread.get(|| {
            let mut reader = Reader::new(Arc::clone(&self.store));
            // Grouping gains nothing for reads: each starts as soon as a thread is free.
            let limits = Limits { jobs: NonZeroUsize::MIN, ..Limits::default() };
            GroupCommit::start("session-sqlite-read", limits, move |jobs: Vec<Job<Task, ()>>| {
                for job in jobs {
                    let (task, reply) = job.split();
                    task(&mut reader);
                    reply(());
                }
            })
        })?;
        let (reply, replied) = oneshot::channel();
        let task: Task = Box::new(move |reader| drop(reply.send(read(reader))));
        let submitted = group.submit(task, 0).await;
        replied.await.unwrap_or_else(|_| {
            Err(self.worker_error(submitted.err().unwrap_or(WorkerGone::NotStarted), None))
        })
    }
}

/// The case of a response that does not match its request, which is impossible.
fn unexpected_response() -> StorageError {
    unreachable!("the writer sends the response that matches the request")
}

/// Numbers of automatic names, read from the index of names. Two processes that create at the same time get the same.
#[async_trait]
impl NameCounter for SqliteStorage {
    async fn next(&self, prefix: &str) -> Option<u64> {
        let prefix = prefix.to_owned();
        let highest = self.read(move |reader| reader.highest_number(&prefix)).await;
        highest.ok()?.checked_add(1)
    }

    async fn counted(&self, prefix: &str, highest: &BTreeMap<String, u64>) -> u64 {
        highest.get(prefix).map_or(1, |number| number.saturating_add(1))
    }

    async fn unused(&self, _prefix: &str, _number: u64) {}

    async fn used(&self, _prefix: &str, _number: u64) {}
}

#[async_trait]
impl SessionStorage for SqliteStorage {
    async fn append(
        &self,
        id: SessionId,
        expected: Expected,
        batch: Batch,
        durability: Durability,
    ) -> Result<Tip, StorageError> {
        let head = batch.head().map(HeadText::of).transpose()?;
        let request = Request::Append { id, expected, batch: Box::new(batch), head, durability };
        match self.write(request, Some(id)).await? {
            Response::Appended(tip) => Ok(tip),
            Response::Deleted | Response::Repaired(_) | Response::Reconciled(_) => Err(unexpected_response()),
        }
    }

    async fn head(&self, id: SessionId) -> Result<Option<Head>, StorageError> {
        self.read(move |reader| reader.head(id)).await
    }

    async fn records(
        &self,
        id: SessionId,
        after: u64,
        limit: NonZeroUsize,
    ) -> Result<RecordPage, StorageError> {
        self.read(move |reader| reader.records(id, after, limit)).await
    }

    async fn list(
        &self,
        filter: &SessionFilter,
        after: Option<SessionId>,
        limit: NonZeroUsize,
    ) -> Result<HeadPage, StorageError> {
        let filter = filter.clone();
        self.read(move |reader| reader.list(&filter, after, limit)).await
    }

    async fn delete(&self, id: SessionId, tip: Tip) -> Result<(), StorageError> {
        self.write(Request::Delete { id, tip }, Some(id)).await.map(drop)
    }

    fn profile(&self) -> StorageProfile {
        StorageProfile::new("sqlite", Some(Durability::Flushed), Sharing::Machine)
    }

    fn change_feed(&self) -> Option<Arc<dyn ChangeFeed>> {
        None
    }
}

#[async_trait]
impl StorageMaintenance for SqliteStorage {
    async fn verify(&self, id: SessionId) -> Result<SessionHealth, StorageError> {
        self.read(move |reader| reader.verify(id)?.ok_or(StorageError::NotFound { id })).await
    }

    async fn verify_all(&self) -> Result<StoreHealth, StorageError> {
        self.read(Reader::verify_all).await
    }

    async fn repair(&self, id: SessionId, acceptance: AcceptedLoss) -> Result<RepairReport, StorageError> {
        match self.write(Request::Repair { id, acceptance }, Some(id)).await? {
            Response::Repaired(repaired) => Ok(repaired),
            Response::Appended(_) | Response::Deleted | Response::Reconciled(_) => Err(unexpected_response()),
        }
    }

    async fn reconcile(&self) -> Result<ReconcileReport, StorageError> {
        match self.write(Request::Reconcile, None).await? {
            Response::Reconciled(reconciled) => Ok(reconciled),
            Response::Appended(_) | Response::Deleted | Response::Repaired(_) => Err(unexpected_response()),
        }
    }

    fn owners_dir(&self) -> PathBuf {
        self.store.folders.owners()
    }

    fn sessions_dir(&self) -> PathBuf {
        self.store.folders.sessions()
    }
}
