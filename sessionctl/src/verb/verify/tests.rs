//! Repairs, and the check that follows each of them.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use sessionkit::async_trait::async_trait;
use sessionkit::backend::{
    Batch, ChangeFeed, Expected, HeadPage, MemoryStorage, RecordPage, SessionStorage, StorageProfile, Tip,
};

use sessionkit::manager::Durability;
use sessionkit::storage::{AcceptedLoss, ReconcileReport, RepairReport, StoreHealth};
use sessionkit::{Head, ManagerOptions, SessionConfig, SessionFilter};

use super::*;

/// A storage in which every session is corrupt, whatever a repair has reported.
#[derive(Debug, Default)]
struct AlwaysCorrupt(MemoryStorage);

#[async_trait]
impl SessionStorage for AlwaysCorrupt {
    async fn append(
        &self,
        id: SessionId,
        expected: Expected,
        batch: Batch,
        durability: Durability,
    ) -> std::result::Result<Tip, StorageError> {
        self.0.append(id, expected, batch, durability).await
    }

    async fn head(&self, id: SessionId) -> std::result::Result<Option<Head>, StorageError> {
        self.0.head(id).await
    }

    async fn records(
        &self,
        id: SessionId,
        after: u64,
        limit: NonZeroUsize,
    ) -> std::result::Result<RecordPage, StorageError> {
        self.0.records(id, after, limit).await
    }

    async fn list(
        &self,
        filter: &SessionFilter,
        after: Option<SessionId>,
        limit: NonZeroUsize,
    ) -> std::result::Result<HeadPage, StorageError> {
        self.0.list(filter, after, limit).await
    }

    async fn delete(&self, id: SessionId, tip: Tip) -> std::result::Result<(), StorageError> {
        self.0.delete(id, tip).await
    }

    fn profile(&self) -> StorageProfile {
        self.0.profile()
    }

    fn change_feed(&self) -> Option<std::sync::Arc<dyn ChangeFeed>> {
        self.0.change_feed()
    }
}

#[async_trait]
impl StorageMaintenance for AlwaysCorrupt {
    async fn verify(&self, id: SessionId) -> std::result::Result<SessionHealth, StorageError> {
        Ok(SessionHealth::new(id, Condition::Corrupt))
    }

    async fn verify_all(&self) -> std::result::Result<StoreHealth, StorageError> {
        Ok(StoreHealth::default())
    }

    async fn repair(
        &self,
        id: SessionId,
        _: AcceptedLoss,
    ) -> std::result::Result<RepairReport, StorageError> {
        Err(StorageError::NotFound { id })
    }

    async fn reconcile(&self) -> std::result::Result<ReconcileReport, StorageError> {
        Ok(ReconcileReport::default())
    }

    fn owners_dir(&self) -> PathBuf {
        PathBuf::new()
    }

    fn sessions_dir(&self) -> PathBuf {
        PathBuf::new()
    }
}

/// A backend that reports a repair makes a claim: the result is that of a second check of what it has stored.
#[tokio::test]
async fn a_repaired_session_is_checked_again() {
    let folder = tempfile::tempdir().unwrap();
    let options = ManagerOptions::new().recovery(None);
    let url = format!("file:{}", folder.path().join("store").display());
    let store = sessionkit::builder(&url).options(options).open_store().await.unwrap();
    let id = store.manager().create_session(SessionConfig::new("import")).await.unwrap();
    let storage = store.maintenance().unwrap();
    let log = storage.sessions_dir().join(id.to_string()).join("events.jsonl");
    let torn = [std::fs::read(&log).unwrap(), b"{\"seq\":2".to_vec()].concat();
    std::fs::write(&log, torn).unwrap();
    let found = storage.verify(id).await.unwrap();
    assert_eq!(found.condition, Condition::Torn);

    let args = Verify { ids: Vec::new(), repair: true, accept_loss: false };
    let checked = verify_one(&store, &AlwaysCorrupt::default(), &args, &found).await;
    assert_eq!((checked.verdict, checked.before), ("corrupt", Some("torn")));
    assert!(!checked.is_ok());
    let healthy = storage.verify(id).await.unwrap();
    assert_eq!(healthy.condition, Condition::Healthy, "the repair took place");
    store.manager().shutdown().await.unwrap();
}
