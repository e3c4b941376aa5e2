//! The storage port: passes requests to threads and translates their results. Nothing blocking is held across an await.
//! If a future is dropped, a change that has started completes, and an unstarted one is not made.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;

use async_trait::async_trait;
use session_core::backend::{
    Batch, ChangeFeed, Expected, HeadPage, RecordPage, SessionStorage, Sharing, StorageProfile, Tip,
};
use session_core::maintenance::{
    AcceptedLoss, ReconcileReport, RepairReport, SessionHealth, StorageMaintenance, StoreHealth,
};
use session_core::{Durability, Head, SessionFilter, SessionId, StorageError};

use crate::db::Db;
use crate::engine::Engine;
use crate::options::{Purpose, SledStorageOptions};
use crate::store::Store;
use crate::worker::{CreateIfMissing, Worker};
use crate::writer::{Append, Request, Response};

/// A store in a folder, over sled. Clones share it, and so do all handles of this process on the same folder.
///
/// The last handle closes the database when it is dropped, which blocks for as long as a flush takes. A process that
/// ends without that loses nothing; the next opening copies the database first, if the disk has room for that.
#[derive(Debug, Clone)]
pub struct SledStorage {
    store: Arc<Store>,
}

impl SledStorage {
    /// Opens a store, which blocks for as long as sled takes to read its database. Nothing is created: a path that is
    /// missing or empty is a store without sessions, and the first session creates it.
    ///
    /// If this process has the store open already, returns another handle on it, with the options of the first one.
    ///
    /// # Errors
    /// [`Unavailable`](StorageError::Unavailable) if another process has the store, if the path is not a store and
    /// cannot become one, is on a network or FUSE file system, or if its database cannot be opened;
    /// [`UnsupportedFormat`](StorageError::UnsupportedFormat) if a newer version created it;
    /// [`StoreDamaged`](StorageError::StoreDamaged) if its file `FORMAT` is damaged or missing, which
    /// [`open_for_repair`](Self::open_for_repair) accepts.
    pub fn open(options: SledStorageOptions) -> Result<Self, StorageError> {
        Ok(Self { store: Store::open(options)? })
    }

    /// Opens a store that may itself be damaged, to verify and repair it. Its sessions can be read;
    /// [`verify_all`](StorageMaintenance::verify_all) reports the damage, [`reconcile`](StorageMaintenance::reconcile)
    /// repairs it, and until then nothing can be written.
    ///
    /// # Errors
    /// Those of [`open`](Self::open); [`StoreDamaged`](StorageError::StoreDamaged) if the store's id cannot be read from
    /// its marks either.
    pub fn open_for_repair(mut options: SledStorageOptions) -> Result<Self, StorageError> {
        options.purpose = Purpose::Repair;
        Self::open(options)
    }

    /// Returns the store's folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.store.layout.root()
    }

    /// Returns the size of sled's files in bytes; 0 if there is no store yet.
    ///
    /// # Errors
    /// The error of opening or reading the store.
    pub async fn size_on_disk(&self) -> Result<u64, StorageError> {
        let size = self.read(|engine, db| {
            db.size().map_err(|error| StorageError::Unavailable {
                what: format!("cannot get the size of the database of {}", engine.layout.root().display()),
                source: Some(Arc::new(error)),
            })
        });
        Ok(size.await?.unwrap_or(0))
    }

    /// Sets a hook for the next flush of an open store.
    #[cfg(test)]
    pub(crate) async fn set_flush_hook(&self, hook: impl FnOnce() -> std::io::Result<()> + Send + 'static) {
        let worker = self.store.get(CreateIfMissing::No).await.unwrap().unwrap();
        *worker.flush_hook.lock().unwrap() = Some(Box::new(hook));
    }

    /// Reads the database on a thread that may block; `None` if there is no store.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Engine, &Db) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<Option<T>, StorageError> {
        let Some(worker) = self.store.get(CreateIfMissing::No).await? else { return Ok(None) };
        run_read(&worker, read).await.map(Some)
    }

    /// Submits a request for an existing session to the writer.
    async fn request_change(&self, id: SessionId, request: Request) -> Result<Response, StorageError> {
        match self.store.get(CreateIfMissing::No).await? {
            Some(worker) => worker.submit(request).await,
            None => Err(StorageError::NotFound { id }),
        }
    }
}

async fn run_read<T: Send + 'static>(
    worker: &Arc<Worker>,
    read: impl FnOnce(&Engine, &Db) -> Result<T, StorageError> + Send + 'static,
) -> Result<T, StorageError> {
    let engine = Arc::clone(&worker.engine);
    worker.readers.run(move || engine.read(read)).await
}

#[async_trait]
impl SessionStorage for SledStorage {
    async fn append(
        &self,
        id: SessionId,
        expected: Expected,
        batch: Batch,
        durability: Durability,
    ) -> Result<Tip, StorageError> {
        let worker = if let Some(worker) = self.store.get(CreateIfMissing::No).await? {
            worker
        } else {
            // A request that can be refused without a store must not create one.
            batch.check(id, expected, None, || Ok(0))?;
            self.store.get(CreateIfMissing::Yes).await?.ok_or(StorageError::NotFound { id })?
        };
        let append = Append { id, expected, batch, durability };
        worker.submit(Request::Append(Box::new(append))).await?.tip()
    }

    async fn head(&self, id: SessionId) -> Result<Option<Head>, StorageError> {
        Ok(self.read(move |engine, db| engine.head(db, id)).await?.flatten())
    }

    async fn records(
        &self,
        id: SessionId,
        after: u64,
        limit: NonZeroUsize,
    ) -> Result<RecordPage, StorageError> {
        let page = self.read(move |engine, db| engine.records(db, id, after, limit)).await?;
        page.ok_or(StorageError::NotFound { id })
    }

    async fn list(
        &self,
        filter: &SessionFilter,
        after: Option<SessionId>,
        limit: NonZeroUsize,
    ) -> Result<HeadPage, StorageError> {
        let filter = filter.clone();
        let page = self.read(move |engine, db| engine.list(db, &filter, after, limit)).await?;
        Ok(page.unwrap_or_default())
    }

    async fn delete(&self, id: SessionId, tip: Tip) -> Result<(), StorageError> {
        self.request_change(id, Request::Delete { id, tip }).await.map(drop)
    }

    fn profile(&self) -> StorageProfile {
        StorageProfile::new("sled", Some(Durability::Flushed), Sharing::Process)
    }

    fn change_feed(&self) -> Option<Arc<dyn ChangeFeed>> {
        Some(Arc::new(self.clone()))
    }
}

#[async_trait]
impl ChangeFeed for SledStorage {
    async fn changed(&self, id: SessionId, seen: Tip) {
        loop {
            let mut changed = pin!(self.store.changes.notified());
            // Registered before the read, so that no change in between is missed.
            changed.as_mut().enable();
            let worker = self.store.get(CreateIfMissing::No).await;
            let known = match &worker {
                Ok(Some(worker)) => worker.engine.lock().tip(id),
                // A follower of a missing or closed store returns, and finds that out by its next call.
                Ok(None) | Err(_) => return,
            };
            let now = match known {
                Some(tip) => Some(tip),
                None => match self.head(id).await {
                    Ok(head) => head.map(|head| head.tip),
                    Err(_) => return,
                },
            };
            if now != Some(seen) {
                return;
            }
            drop(worker);
            changed.await;
        }
    }
}

#[async_trait]
impl StorageMaintenance for SledStorage {
    async fn verify(&self, id: SessionId) -> Result<SessionHealth, StorageError> {
        let health = self.read(move |engine, db| engine.verify(db, id)).await?;
        health.flatten().ok_or(StorageError::NotFound { id })
    }

    async fn verify_all(&self) -> Result<StoreHealth, StorageError> {
        let mut all = StoreHealth::default();
        // One read for each session: a write waits for one of them, not for all.
        for id in self.read(Engine::sessions).await?.unwrap_or_default() {
            match self.read(move |engine, db| engine.verify(db, id)).await {
                Ok(health) => all.sessions.extend(health.flatten()),
                Err(closed @ StorageError::Closed { .. }) => return Err(closed),
                Err(error) => all.failed.push((id, error)),
            }
        }
        let problems = |engine: &Engine, _: &Db| {
            engine.marks.refresh()?;
            Ok([engine.format_problem(), engine.marks.damage()])
        };
        all.problems.extend(self.read(problems).await?.into_iter().flatten().flatten());
        let foreign = |engine: &Engine, _: &Db| engine.layout.folders().list_session_folders();
        all.foreign = self.read(foreign).await?.map(|(_, foreign)| foreign).unwrap_or_default();
        Ok(all)
    }

    async fn repair(&self, id: SessionId, acceptance: AcceptedLoss) -> Result<RepairReport, StorageError> {
        self.request_change(id, Request::Repair { id, acceptance }).await?.repaired()
    }

    async fn reconcile(&self) -> Result<ReconcileReport, StorageError> {
        let Some(worker) = self.store.get(CreateIfMissing::No).await? else {
            return Ok(ReconcileReport::default());
        };
        worker.submit(Request::Reconcile).await?.reconciled()
    }

    fn owners_dir(&self) -> PathBuf {
        self.store.layout.folders().owners()
    }

    fn sessions_dir(&self) -> PathBuf {
        self.store.layout.folders().sessions()
    }
}
