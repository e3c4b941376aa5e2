//! The storage port over a store: check, hand to a thread, translate. Nothing blocking is held across an await; a future that
//! is dropped leaves a change that has begun to come to its end, and one that has not begun undone.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;

use async_trait::async_trait;
use session_core::{
    AcceptedLoss, Batch, ChangeFeed, Durability, Expected, Head, HeadPage, ReconcileReport, RecordPage,
    RepairReport, SessionFilter, SessionHealth, SessionId, SessionStorage, Sharing, StorageError,
    StorageMaintenance, StorageProfile, StoreHealth, Tip,
};

use crate::db::Db;
use crate::engine::Engine;
use crate::options::SledStorageOptions;
use crate::store::Store;
use crate::worker::{CreateIfMissing, Worker};
use crate::writer::{Append, Request, Response};

/// A store in a folder, over sled. Clones share it, and so do all that this process opens on the same folder.
///
/// The last handle closes the database when it is dropped, which blocks for as long as a flush takes. A process that ends
/// without that has lost nothing; the next opening copies the database before it goes on.
#[derive(Debug, Clone)]
pub struct SledStorage {
    store: Arc<Store>,
}

impl SledStorage {
    /// Opens a store, which blocks for as long as sled takes to read its database. Nothing is created: a path that is
    /// missing or empty is a store without sessions, and is made one by the first of them.
    ///
    /// Where this process has the store open already, this is another handle on it, with the options of the first one.
    ///
    /// # Errors
    /// [`Unavailable`](StorageError::Unavailable) where another process has it, where the path is no store and cannot become
    /// one, is on a network or FUSE file system, or its database cannot be opened;
    /// [`UnsupportedFormat`](StorageError::UnsupportedFormat) where a newer version made it.
    pub fn open(options: SledStorageOptions) -> Result<Self, StorageError> {
        Ok(Self { store: Store::open(options)? })
    }

    /// The store's folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.store.layout.root()
    }

    /// Bytes of sled's own files; 0 where there is no store yet.
    ///
    /// # Errors
    /// Whatever keeps one from looking.
    pub async fn size_on_disk(&self) -> Result<u64, StorageError> {
        let size = self.read(|engine, db| {
            db.size().map_err(|error| StorageError::Unavailable {
                what: format!("the database of {} cannot be measured", engine.layout.root().display()),
                source: Some(Arc::new(error)),
            })
        });
        Ok(size.await?.unwrap_or(0))
    }

    /// What happens at the next flush, where the store is open.
    #[cfg(test)]
    pub(crate) async fn set_flush_hook(&self, hook: impl FnOnce() -> std::io::Result<()> + Send + 'static) {
        let worker = self.store.get(CreateIfMissing::No).await.unwrap().unwrap();
        *worker.flush_hook.lock().unwrap() = Some(Box::new(hook));
    }

    /// Looks at the database on a thread that may block; `None` where there is no store.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Engine, &Db) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<Option<T>, StorageError> {
        let Some(worker) = self.store.get(CreateIfMissing::No).await? else { return Ok(None) };
        run_read(&worker, read).await.map(Some)
    }

    /// Has the writer do something to a session that must be there.
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
            // What can be refused without a store makes none.
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
            // Registered before the look, so that no change falls in between.
            changed.as_mut().enable();
            let worker = self.store.get(CreateIfMissing::No).await;
            let known = match &worker {
                Ok(Some(worker)) => worker.engine.lock().tip(id),
                // Whoever waits for a store that is not there, or not any more, is to find that out.
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
        // One look for each session: a writer waits for one of them, not for all.
        for id in self.read(Engine::sessions).await?.unwrap_or_default() {
            match self.read(move |engine, db| engine.verify(db, id)).await {
                Ok(health) => all.sessions.extend(health.flatten()),
                Err(closed @ StorageError::Closed { .. }) => return Err(closed),
                Err(error) => all.failed.push((id, error)),
            }
        }
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
