//! The harness of the memory storage, which is the reference for the laws.

use std::sync::Arc;

use async_trait::async_trait;
use session_core::backend::{MemoryStorage, SessionStorage};
use session_core::{SessionId, StorageError};

use crate::harness::{Crash, Damage, Harness, NotSupported};

/// The harness of a memory storage, whose handles are clones.
#[derive(Debug, Clone, Default)]
pub struct MemoryHarness {
    storage: MemoryStorage,
}

#[async_trait]
impl Harness for MemoryHarness {
    async fn open(&self) -> Result<Arc<dyn SessionStorage>, StorageError> {
        Ok(Arc::new(self.storage.clone()))
    }

    async fn crash(&self, _crash: Crash) -> Result<(), NotSupported> {
        Err(NotSupported("the memory storage does not outlive its process"))
    }

    async fn fail_next_flush(&self) -> Result<(), NotSupported> {
        Err(NotSupported("the memory storage does not flush"))
    }

    async fn damage(&self, _id: SessionId, _damage: Damage) -> Result<(), NotSupported> {
        Err(NotSupported("only the memory storage itself can access its records"))
    }
}
