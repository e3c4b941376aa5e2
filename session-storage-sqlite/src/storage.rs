//! The storage port over a database: check, hand to a thread, translate. Nothing blocking is held across an await; a future
//! that is dropped leaves a change that has begun to come to its end, and one that has not begun undone.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use session_core::{
    AcceptedLoss, Batch, ChangeFeed, Durability, Expected, Head, HeadPage, ReconcileReport, RecordPage,
    RepairReport, SessionFilter, SessionHealth, SessionId, SessionStorage, Sharing, StorageError,
    StorageMaintenance, StorageProfile, StoreHealth, Tip,
};
use session_storage_engine::{GroupCommit, Job, Limits, WorkerGone};
use tokio::sync::oneshot;

use crate::options::SqliteStorageOptions;
use crate::reader::Reader;
use crate::request::{Answer, Done, Request};
use crate::rows::HeadText;
use crate::store::{Store, Use};
use crate::writer::Writer;

type Task = Box<dyn FnOnce(&mut Reader) + Send>;

/// A store in a database. Clones share it.
#[derive(Debug, Clone)]
pub struct SqliteStorage {
    // The last connection to close is the writer's: it copies what is left of the write-ahead log into the database.
    readers: Arc<Readers>,
    writer: Arc<Threads<Request, Answer>>,
    store: Arc<Store>,
}

/// A thread that is started when there is work for it.
struct Threads<Q, A>(Mutex<Option<Arc<GroupCommit<Q, A>>>>);

impl<Q, A> fmt::Debug for Threads<Q, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Threads").field(&self.0).finish()
    }
}

#[derive(Debug)]
struct Readers {
    threads: Vec<Threads<Task, ()>>,
    next: AtomicUsize,
}

impl<Q: Send + 'static, A: Send + 'static> Threads<Q, A> {
    fn get(
        &self,
        start: impl FnOnce() -> std::io::Result<GroupCommit<Q, A>>,
    ) -> Result<Arc<GroupCommit<Q, A>>, StorageError> {
        let mut thread = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = &*thread {
            return Ok(Arc::clone(thread));
        }
        let started = start().map(Arc::new).map_err(|error| StorageError::Unavailable {
            what: "no thread can be started: see how many this user may have".to_owned(),
            source: Some(Arc::new(error)),
        })?;
        *thread = Some(Arc::clone(&started));
        Ok(started)
    }
}

impl<Q, A> Default for Threads<Q, A> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl SqliteStorage {
    /// Opens a store. Nothing is created: a path where nothing is is a store without sessions, and is made one by the first
    /// of them. Reads the beginning of the database.
    ///
    /// # Errors
    /// [`Unavailable`](StorageError::Unavailable) where the path is no store and cannot become one, cannot be read, or
    /// is on a network or FUSE file system, and where the database is gone and what lies beside it says that there were
    /// sessions; [`UnsupportedFormat`](StorageError::UnsupportedFormat) where a newer version made it.
    pub fn open(options: SqliteStorageOptions) -> Result<Self, StorageError> {
        let SqliteStorageOptions { path, lock_timeout, read_threads, max_pages } = options;
        let store = Arc::new(Store::new(&path, lock_timeout, max_pages)?);
        store.connect(Use::Read)?;
        let readers = Readers {
            threads: (0..read_threads.get()).map(|_| Threads::default()).collect(),
            next: AtomicUsize::new(0),
        };
        Ok(Self { readers: Arc::new(readers), writer: Arc::default(), store })
    }

    /// The database's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.store.path()
    }

    async fn write(&self, request: Request, id: Option<SessionId>) -> Answer {
        let group = self.writer.get(|| {
            let mut writer = Writer::new(Arc::clone(&self.store));
            GroupCommit::start("session-sqlite-write", Limits::default(), move |jobs| writer.work(jobs))
        })?;
        let weight = request.weight();
        group.submit(request, weight).await.unwrap_or_else(|gone| Err(self.worker_error(gone, id)))
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
        look: impl FnOnce(&mut Reader) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let Readers { threads, next } = &*self.readers;
        let turn = next.fetch_add(1, Ordering::Relaxed) % threads.len().max(1);
        let thread = threads.get(turn).ok_or_else(|| self.worker_error(WorkerGone::NotStarted, None))?;
        let group = thread.get(|| {
            let mut reader = Reader::new(Arc::clone(&self.store));
            // Nothing is gained by looking at many things at once: each is begun as soon as it can be.
            let one = Limits { jobs: NonZeroUsize::MIN, ..Limits::default() };
            GroupCommit::start("session-sqlite-read", one, move |jobs: Vec<Job<Task, ()>>| {
                for job in jobs {
                    let (task, answer) = job.split();
                    task(&mut reader);
                    answer(());
                }
            })
        })?;
        let (answer, answered) = oneshot::channel();
        let task: Task = Box::new(move |reader| drop(answer.send(look(reader))));
        let done = group.submit(task, 0).await;
        answered
            .await
            .unwrap_or_else(|_| Err(self.worker_error(done.err().unwrap_or(WorkerGone::NotStarted), None)))
    }
}

/// What a request of another kind would be answered.
fn mistaken() -> StorageError {
    unreachable!("the writer answers each request in kind")
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
            Done::Appended(tip) => Ok(tip),
            Done::Deleted | Done::Repaired(_) | Done::Reconciled(_) => Err(mistaken()),
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
            Done::Repaired(repaired) => Ok(repaired),
            Done::Appended(_) | Done::Deleted | Done::Reconciled(_) => Err(mistaken()),
        }
    }

    async fn reconcile(&self) -> Result<ReconcileReport, StorageError> {
        match self.write(Request::Reconcile, None).await? {
            Done::Reconciled(reconciled) => Ok(reconciled),
            Done::Appended(_) | Done::Deleted | Done::Repaired(_) => Err(mistaken()),
        }
    }

    fn owners_dir(&self) -> PathBuf {
        self.store.folders.owners()
    }

    fn sessions_dir(&self) -> PathBuf {
        self.store.folders.sessions()
    }
}
