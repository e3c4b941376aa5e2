//! The memory storage: the reference of what the laws mean, and the strictest of all backends. It checks what others
//! may trust, so that a mistake shows in the first test.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;

use super::{
    Batch, ChangeFeed, Durability, Expected, HeadPage, RecordPage, SessionFilter, SessionStorage, Sharing,
    StorageError, StorageProfile,
};
use crate::head::Head;
use crate::id::SessionId;
use crate::record::{Chain, StoredRecord, Tip};

/// Logs in memory. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct MemoryStorage {
    logs: Arc<RwLock<BTreeMap<SessionId, Log>>>,
    changes: Arc<tokio::sync::Notify>,
}

#[derive(Debug)]
struct Log {
    head: Head,
    records: Vec<StoredRecord>,
}

impl MemoryStorage {
    /// An empty storage.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn read<T>(&self, look: impl FnOnce(&BTreeMap<SessionId, Log>) -> T) -> T {
        look(&self.logs.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, change: impl FnOnce(&mut BTreeMap<SessionId, Log>) -> T) -> T {
        let result = change(&mut self.logs.write().unwrap_or_else(PoisonError::into_inner));
        self.changes.notify_waiters();
        result
    }
}

#[async_trait]
impl SessionStorage for MemoryStorage {
    async fn append(
        &self,
        id: SessionId,
        expected: Expected,
        batch: Batch,
        _durability: Durability,
    ) -> Result<Tip, StorageError> {
        self.write(|logs| {
            let actual = logs.get(&id).map(|log| log.head.tip);
            let wanted = match expected {
                Expected::Absent | Expected::AbsentWithin(_) => None,
                Expected::At(tip) => Some(tip),
            };
            if actual != wanted {
                return Err(StorageError::Conflict { id, expected: wanted, actual });
            }
            if let Expected::AbsentWithin(limit) = expected
                && logs.values().filter(|log| !log.head.state().is_final()).count() >= limit.get()
            {
                return Err(StorageError::MaxSessions { limit: limit.get() });
            }
            if !batch.fits(expected) {
                return Err(StorageError::InvalidArgument {
                    what: format!("the batch does not begin where {expected:?} ends"),
                });
            }
            let Some(head) = batch.head() else {
                return actual.ok_or(StorageError::NotFound { id });
            };
            let mut chain = actual.map_or(Chain::start(id), |tip| Chain::at(id, tip));
            for record in batch.records() {
                chain.follow(record).map_err(|error| StorageError::InvalidArgument {
                    what: format!("revision {} does not follow: {error}", record.revision()),
                })?;
            }
            let log = logs.entry(id).or_insert_with(|| Log { head: head.clone(), records: Vec::new() });
            log.head = head.clone();
            log.records.extend_from_slice(batch.records());
            Ok(head.tip)
        })
    }

    async fn head(&self, id: SessionId) -> Result<Option<Head>, StorageError> {
        Ok(self.read(|logs| logs.get(&id).map(|log| log.head.clone())))
    }

    async fn records(
        &self,
        id: SessionId,
        after: u64,
        limit: NonZeroUsize,
    ) -> Result<RecordPage, StorageError> {
        self.read(|logs| {
            let log = logs.get(&id).ok_or(StorageError::NotFound { id })?;
            let after = usize::try_from(after).unwrap_or(usize::MAX);
            Ok(RecordPage::new(log.records.iter().skip(after).take(limit.get()).cloned().collect()))
        })
    }

    async fn list(
        &self,
        filter: &SessionFilter,
        after: Option<SessionId>,
        limit: NonZeroUsize,
    ) -> Result<HeadPage, StorageError> {
        self.read(|logs| {
            let from = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
            let mut heads: Vec<Head> = logs
                .range((from, std::ops::Bound::Unbounded))
                .map(|(_, log)| &log.head)
                .filter(|head| filter.matches(head))
                .take(limit.get().saturating_add(1))
                .cloned()
                .collect();
            let more = heads.len() > limit.get();
            heads.truncate(limit.get());
            let next = if more { heads.last().map(|head| head.id) } else { None };
            Ok(HeadPage::new(heads, Vec::new(), next))
        })
    }

    async fn delete(&self, id: SessionId, tip: Tip) -> Result<(), StorageError> {
        self.write(|logs| {
            let actual = logs.get(&id).map(|log| log.head.tip).ok_or(StorageError::NotFound { id })?;
            if actual != tip {
                return Err(StorageError::Conflict { id, expected: Some(tip), actual: Some(actual) });
            }
            logs.remove(&id);
            Ok(())
        })
    }

    fn profile(&self) -> StorageProfile {
        StorageProfile::new("memory", None, Sharing::Process)
    }

    fn change_feed(&self) -> Option<Arc<dyn ChangeFeed>> {
        Some(Arc::new(self.clone()))
    }
}

#[async_trait]
impl ChangeFeed for MemoryStorage {
    async fn changed(&self, id: SessionId, seen: Tip) {
        let changed = self.changes.notified();
        tokio::pin!(changed);
        // Registered before the look, so that no change falls in between.
        changed.as_mut().enable();
        if self.read(|logs| logs.get(&id).map(|log| log.head.tip)) == Some(seen) {
            changed.await;
        }
    }
}
