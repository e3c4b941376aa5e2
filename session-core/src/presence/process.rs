//! Presence within one process, for sessions that do not outlive it.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use super::{Liveness, Presence, PresenceGuard};
use crate::id::InstanceId;
use crate::owner::{Evidence, Owner};
use crate::storage::StorageError;

/// Presence of the managers that share this value. In tests it replaces a machine: dropping a guard looks like a
/// death to the others.
#[derive(Debug, Clone, Default)]
pub struct ProcessPresence {
    alive: Arc<Mutex<HashSet<InstanceId>>>,
}

#[derive(Debug)]
struct Guard {
    instance: InstanceId,
    alive: Arc<Mutex<HashSet<InstanceId>>>,
}

impl PresenceGuard for Guard {
    fn retire(self: Box<Self>) {}
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.instance);
    }
}

#[async_trait]
impl Presence for ProcessPresence {
    fn identify(&self) -> Result<Owner, StorageError> {
        Ok(Owner::new(
            "localhost".to_owned(),
            "process".to_owned(),
            "process".to_owned(),
            std::process::id(),
            0,
        ))
    }

    async fn announce(&self, owner: &mut Owner) -> Result<Box<dyn PresenceGuard>, StorageError> {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner).insert(owner.instance);
        Ok(Box::new(Guard { instance: owner.instance, alive: Arc::clone(&self.alive) }))
    }

    async fn liveness(&self, owner: &Owner) -> Result<Liveness, StorageError> {
        // It is the owner of a log that was imported: its lock is in a folder.
        if owner.lock_folder.is_some() {
            return Ok(Liveness::Unknown { last_seen: None });
        }
        let alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(if alive.contains(&owner.instance) {
            Liveness::Alive
        } else {
            Liveness::Dead { evidence: Evidence::LockReleased }
        })
    }

    async fn sweep(&self, _keep: &HashSet<InstanceId>) -> Result<(), StorageError> {
        Ok(())
    }
}
