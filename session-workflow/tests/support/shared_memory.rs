//! Storage in memory with the profile of one that other processes can open: questions can be answered from outside. Its
//! appends take turns of the runtime, so that they can be given up halfway.

use std::num::NonZeroUsize;
use std::sync::Arc;

use async_trait::async_trait;
use session_core::backend::{
    Batch, ChangeFeed, Expected, HeadPage, MemoryStorage, ProcessPresence, RecordPage, SessionStorage,
    Sharing, StorageProfile, Tip,
};
use session_core::{
    Durability, Head, ManagerOptions, PersistentSessionManager, SessionFilter, SessionId, StorageError,
};

/// A manager whose sessions can be asked about by other processes.
pub(crate) type SharedManager = PersistentSessionManager<SharedMemory>;

/// Storage in memory that pretends to be shared with other processes.
#[derive(Debug, Default)]
pub(crate) struct SharedMemory(MemoryStorage);

/// Opens an empty manager.
pub(crate) async fn open(options: ManagerOptions) -> SharedManager {
    let storage = Arc::new(SharedMemory::default());
    SharedManager::open(storage, Arc::new(ProcessPresence::default()), options).await.unwrap()
}

#[async_trait]
impl SessionStorage for SharedMemory {
    async fn append(
        &self,
        id: SessionId,
        expected: Expected,
        batch: Batch,
        durability: Durability,
    ) -> Result<Tip, StorageError> {
        tokio::task::yield_now().await;
        let appended = self.0.append(id, expected, batch, durability).await;
        tokio::task::yield_now().await;
        appended
    }

    async fn head(&self, id: SessionId) -> Result<Option<Head>, StorageError> {
        self.0.head(id).await
    }

    async fn records(
        &self,
        id: SessionId,
        after: u64,
        limit: NonZeroUsize,
    ) -> Result<RecordPage, StorageError> {
        self.0.records(id, after, limit).await
    }

    async fn list(
        &self,
        filter: &SessionFilter,
        after: Option<SessionId>,
        limit: NonZeroUsize,
    ) -> Result<HeadPage, StorageError> {
        self.0.list(filter, after, limit).await
    }

    async fn delete(&self, id: SessionId, tip: Tip) -> Result<(), StorageError> {
        self.0.delete(id, tip).await
    }

    fn profile(&self) -> StorageProfile {
        StorageProfile::new("shared memory", None, Sharing::Machine)
    }

    fn change_feed(&self) -> Option<Arc<dyn ChangeFeed>> {
        self.0.change_feed()
    }
}
