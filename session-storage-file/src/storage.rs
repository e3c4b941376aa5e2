//! Implementation of the storage traits: check the arguments, hand over to a thread, translate the result.
//! Nothing blocking is held across an await. If a future is dropped, a job that has started runs to its end,
//! and a job that has not is skipped.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use session_core::backend::{
    Batch, ChangeFeed, Expected, HeadPage, RecordPage, SessionStorage, Sharing, StorageProfile, Tip,
};
use session_core::maintenance::{
    AcceptedLoss, ReconcileReport, RepairReport, SessionHealth, StorageMaintenance, StoreHealth,
};
use session_core::{Durability, Head, SessionFilter, SessionId, StorageError};
use tokio::sync::oneshot;

use crate::disk::{Disk, RealDisk};
use crate::error::IoContext;
use crate::format;
use crate::handle::CachedHandle;
use crate::layout::Layout;
use crate::options::FileStorageOptions;
use crate::pool::Pool;
use crate::reader::{Cursors, HeadCache};
use crate::session_queues::{QueueKey, SessionQueues};
use crate::store::{Purpose, Store};

/// A store in a folder. Clones share it.
#[derive(Debug, Clone)]
pub struct FileStorage {
    store: Arc<Store>,
    writers: Arc<SessionQueues>,
    readers: Arc<Pool>,
}

impl FileStorage {
    /// Opens a store. Nothing is created: a missing or empty path is a store without sessions, and becomes one
    /// on disk with its first session. Performs a few short system calls.
    ///
    /// # Errors
    /// [`Unavailable`](StorageError::Unavailable) if the path is not a store and cannot become one, cannot be
    /// read, or is on a network or FUSE file system; [`UnsupportedFormat`](StorageError::UnsupportedFormat) if
    /// a newer version created it; [`StoreDamaged`](StorageError::StoreDamaged) if its file `FORMAT` is damaged or
    /// missing, which [`open_for_repair`](Self::open_for_repair) accepts.
    pub fn open(options: FileStorageOptions) -> Result<Self, StorageError> {
        Self::with_disk(Arc::new(RealDisk), options)
    }

    /// Opens a store that may itself be damaged, to verify and repair it. Its sessions can be read;
    /// [`verify_all`](StorageMaintenance::verify_all) reports the damage, [`reconcile`](StorageMaintenance::reconcile)
    /// repairs it, and until then nothing can be written.
    ///
    /// # Errors
    /// Those of [`open`](Self::open), except [`StoreDamaged`](StorageError::StoreDamaged).
    pub fn open_for_repair(options: FileStorageOptions) -> Result<Self, StorageError> {
        Self::open_for(Purpose::Repair, Arc::new(RealDisk), options)
    }

    /// Opens a store on a disk that the caller supplies, for tests.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub fn with_disk(disk: Arc<dyn Disk>, options: FileStorageOptions) -> Result<Self, StorageError> {
        Self::open_for(Purpose::Work, disk, options)
    }

    /// Opens a store like [`open_for_repair`](Self::open_for_repair), on a disk that the caller supplies, for tests.
    ///
    /// # Errors
    /// Those of [`open_for_repair`](Self::open_for_repair).
    pub fn with_disk_for_repair(
        disk: Arc<dyn Disk>,
        options: FileStorageOptions,
    ) -> Result<Self, StorageError> {
        Self::open_for(Purpose::Repair, disk, options)
    }

    fn open_for(
        purpose: Purpose,
        disk: Arc<dyn Disk>,
        options: FileStorageOptions,
    ) -> Result<Self, StorageError> {
        let FileStorageOptions { path, lock_timeout, write_threads, read_threads, open_sessions } = options;
        let layout = Layout::new(path);
        let probe = format::probe(&*disk, &layout)?;
        if purpose == Purpose::Work {
            probe.intact(&layout)?;
        }
        let boot = disk.boot().context("read the boot id for", layout.root())?;
        let store = Store {
            disk,
            layout,
            boot,
            lock_timeout,
            cursors: Cursors::default(),
            heads: HeadCache::default(),
            purpose,
            ready: OnceLock::new(),
            root_synced: OnceLock::new(),
        };
        Ok(Self {
            store: Arc::new(store),
            writers: Arc::new(SessionQueues::new(
                Pool::new("session-file-write", write_threads),
                open_sessions,
            )),
            readers: Arc::new(Pool::new("session-file-read", read_threads)),
        })
    }

    /// Returns the store's folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.store.layout.root()
    }

    /// Runs an operation in a queue, on a thread that may block.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        key: QueueKey,
        operation: impl FnOnce(&Store, &mut Option<CachedHandle>) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let (sender, receiver) = oneshot::channel();
        let store = Arc::clone(&self.store);
        let job = move |cached: &mut Option<CachedHandle>| {
            if !sender.is_closed() {
                drop(sender.send(operation(&store, cached)));
            }
        };
        self.writers.submit(key, Box::new(job));
        receiver.await.unwrap_or_else(|_| Err(worker_lost()))
    }

    /// Runs a read on a thread that may block.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&Store) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let (sender, receiver) = oneshot::channel();
        let store = Arc::clone(&self.store);
        self.readers.spawn(move || {
            if !sender.is_closed() {
                drop(sender.send(store.exists().and_then(|_| operation(&store))));
            }
        });
        receiver.await.unwrap_or_else(|_| Err(worker_lost()))
    }
}

/// Returns the error for a storage thread that ended in the middle of a job.
fn worker_lost() -> StorageError {
    StorageError::Closed { what: "storage thread".to_owned(), source: None }
}

#[async_trait]
impl SessionStorage for FileStorage {
    async fn append(
        &self,
        id: SessionId,
        expected: Expected,
        batch: Batch,
        durability: Durability,
    ) -> Result<Tip, StorageError> {
        let Some(at) = expected.tip() else {
            return self.write(QueueKey::Store, move |store, _| store.create(id, expected, &batch)).await;
        };
        let limit = expected.limit();
        if durability == Durability::Buffered
            && limit.is_none()
            && let Some(mut claim) = self.writers.try_claim(QueueKey::Session(id))
            && let Some(tip) = self.store.try_append_buffered(&mut claim.cached, at, &batch)?
        {
            return Ok(tip);
        }
        let appended = self.write(QueueKey::Session(id), move |store, cached| match limit {
            Some(limit) => store.append_within(cached, id, (at, limit), &batch, durability),
            None => store.append(cached, id, at, &batch, durability),
        });
        match appended.await {
            Err(StorageError::Closed { what, source }) => Err(StorageError::OutcomeUnknown {
                id,
                source: Arc::new(StorageError::Closed { what, source }),
            }),
            result => result,
        }
    }

    async fn head(&self, id: SessionId) -> Result<Option<Head>, StorageError> {
        self.read(move |store| store.read_head(id)).await
    }

    async fn records(
        &self,
        id: SessionId,
        after: u64,
        limit: NonZeroUsize,
    ) -> Result<RecordPage, StorageError> {
        self.read(move |store| store.read_records(id, after, limit)).await
    }

    async fn list(
        &self,
        filter: &SessionFilter,
        after: Option<SessionId>,
        limit: NonZeroUsize,
    ) -> Result<HeadPage, StorageError> {
        let filter = filter.clone();
        self.read(move |store| store.read_list(&filter, after, limit)).await
    }

    async fn delete(&self, id: SessionId, tip: Tip) -> Result<(), StorageError> {
        self.write(QueueKey::Store, move |store, _| store.delete(id, tip)).await
    }

    fn profile(&self) -> StorageProfile {
        StorageProfile::new("file", Some(Durability::Flushed), Sharing::Machine)
    }

    fn change_feed(&self) -> Option<Arc<dyn ChangeFeed>> {
        None
    }
}

#[async_trait]
impl StorageMaintenance for FileStorage {
    async fn verify(&self, id: SessionId) -> Result<SessionHealth, StorageError> {
        self.read(move |store| store.verify(id)?.ok_or(StorageError::NotFound { id })).await
    }

    async fn verify_all(&self) -> Result<StoreHealth, StorageError> {
        self.read(Store::verify_all).await
    }

    async fn repair(&self, id: SessionId, acceptance: AcceptedLoss) -> Result<RepairReport, StorageError> {
        self.write(QueueKey::Store, move |store, _| store.repair(id, &acceptance)).await
    }

    async fn reconcile(&self) -> Result<ReconcileReport, StorageError> {
        let (mut report, unended) = self.write(QueueKey::Store, |store, _| store.reconcile_store()).await?;
        for id in unended {
            let reconciled = self
                .write(QueueKey::Session(id), move |store, handle| store.reconcile_session(handle, id))
                .await;
            match reconciled {
                Ok(found) => report.repaired.extend(found.map(|condition| (id, condition))),
                Err(error) => report.failed.push((id, error)),
            }
        }
        Ok(report)
    }

    fn owners_dir(&self) -> PathBuf {
        self.store.layout.owners()
    }

    fn sessions_dir(&self) -> PathBuf {
        self.store.layout.sessions()
    }
}
