//! World of a manager test: one storage, one manager per simulated process, and owners declared dead on demand.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use session_core::backend::*;
use session_core::*;

/// Presence in which a test declares owners dead while their managers still run: as with a wrong verdict, or a process
/// that wakes up after its session was taken over.
#[derive(Debug, Clone, Default)]
pub(crate) struct World {
    pub(crate) storage: MemoryStorage,
    presence: ProcessPresence,
    dead: Arc<Mutex<HashSet<InstanceId>>>,
    unknown: Arc<Mutex<HashSet<InstanceId>>>,
    swept: Arc<Mutex<Vec<HashSet<InstanceId>>>>,
}

#[async_trait]
impl Presence for World {
    fn identify(&self) -> Result<Owner, StorageError> {
        self.presence.identify()
    }

    async fn announce(&self, owner: &mut Owner) -> Result<Box<dyn PresenceGuard>, StorageError> {
        self.presence.announce(owner).await
    }

    async fn liveness(&self, owner: &Owner) -> Result<Liveness, StorageError> {
        if self.dead.lock().unwrap().contains(&owner.instance) {
            return Ok(Liveness::Dead { evidence: Evidence::LockReleased });
        }
        if self.unknown.lock().unwrap().contains(&owner.instance) {
            return Ok(Liveness::Unknown { last_seen: None });
        }
        self.presence.liveness(owner).await
    }

    async fn sweep(&self, keep: &HashSet<InstanceId>) -> Result<(), StorageError> {
        self.swept.lock().unwrap().push(keep.clone());
        self.presence.sweep(keep).await
    }
}

impl World {
    /// Opens a manager as another process would, without recovery on open.
    pub(crate) async fn process(&self) -> InMemorySessionManager {
        self.process_with(ManagerOptions::new().recovery(None)).await
    }

    pub(crate) async fn process_with(&self, options: ManagerOptions) -> InMemorySessionManager {
        PersistentSessionManager::open(Arc::new(self.storage.clone()), Arc::new(self.clone()), options)
            .await
            .unwrap()
    }

    /// Declares the responsible process of a session dead. That process does not notice.
    pub(crate) async fn declare_dead(&self, id: SessionId) {
        let owner = self.storage.head(id).await.unwrap().unwrap().responsible_process().unwrap().instance;
        self.dead.lock().unwrap().insert(owner);
    }

    /// Makes the liveness of the responsible process unknown.
    pub(crate) async fn lose_sight_of(&self, id: SessionId) {
        let owner = self.storage.head(id).await.unwrap().unwrap().responsible_process().unwrap().instance;
        self.unknown.lock().unwrap().insert(owner);
    }

    /// Returns the instances that each sweep had to keep, in order.
    pub(crate) fn swept(&self) -> Vec<HashSet<InstanceId>> {
        self.swept.lock().unwrap().clone()
    }

    /// Returns the kinds of the events in a session's log.
    pub(crate) async fn kinds(&self, id: SessionId) -> Vec<&'static str> {
        let records = self.storage.records_after(id, 0).await.unwrap();
        records.iter().map(|record| record.decode().unwrap().event.kind().name()).collect()
    }

    /// Returns the log, byte for byte.
    pub(crate) async fn log(&self, id: SessionId) -> Vec<String> {
        self.storage
            .records_after(id, 0)
            .await
            .unwrap()
            .iter()
            .map(|record| record.line().to_owned())
            .collect()
    }
}

/// Waits until a session's head satisfies a condition. The timeout is a backstop, in paused time.
pub(crate) async fn until(world: &World, id: SessionId, found: impl Fn(&Head) -> bool) -> Head {
    let wait = async {
        loop {
            if let Some(head) = world.storage.head(id).await.unwrap()
                && found(&head)
            {
                return head;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(600), wait)
        .await
        .expect("the session never got there")
}
