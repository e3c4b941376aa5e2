//! Storage wrappers: a test overrides some calls, all others go to a storage in memory.

use std::fmt::Debug;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::sync::Arc;

use async_trait::async_trait;
use session_core::backend::*;
use session_core::*;

/// Calls that a test may override.
#[async_trait]
pub(crate) trait Overrides: Send + Sync + Debug {
    fn memory(&self) -> &MemoryStorage;

    fn change_feed(&self) -> Option<Arc<dyn ChangeFeed>> {
        self.memory().change_feed()
    }

    async fn append(
        &self,
        id: SessionId,
        expected: Expected,
        batch: Batch,
        durability: Durability,
    ) -> Result<Tip, StorageError> {
        self.memory().append(id, expected, batch, durability).await
    }

    async fn records(
        &self,
        id: SessionId,
        after: u64,
        limit: NonZeroUsize,
    ) -> Result<RecordPage, StorageError> {
        self.memory().records(id, after, limit).await
    }

    async fn list(
        &self,
        filter: &SessionFilter,
        after: Option<SessionId>,
        limit: NonZeroUsize,
    ) -> Result<HeadPage, StorageError> {
        self.memory().list(filter, after, limit).await
    }
}

/// A storage with those overrides.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wrapped<D>(pub(crate) D);

impl<D> Deref for Wrapped<D> {
    type Target = D;

    fn deref(&self) -> &D {
        &self.0
    }
}

#[async_trait]
impl<D: Overrides> SessionStorage for Wrapped<D> {
    async fn append(
        &self,
        id: SessionId,
        expected: Expected,
        batch: Batch,
        durability: Durability,
    ) -> Result<Tip, StorageError> {
        self.0.append(id, expected, batch, durability).await
    }

    async fn head(&self, id: SessionId) -> Result<Option<Head>, StorageError> {
        self.memory().head(id).await
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
        self.memory().delete(id, tip).await
    }

    fn profile(&self) -> StorageProfile {
        self.memory().profile()
    }

    fn change_feed(&self) -> Option<Arc<dyn ChangeFeed>> {
        self.0.change_feed()
    }
}
