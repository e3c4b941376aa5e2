//! The memory storage: the reference implementation of the laws, and the strictest backend. It checks what other
//! backends may trust, so that a mistake shows in the first test.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::pin::pin;
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
///
/// Stricter than persistent backends: it rejects a batch whose sums do not continue the chain, whose events the state
/// machine does not allow, or whose head is not the fold of the log.
#[derive(Clone, Default)]
pub struct MemoryStorage {
    logs: Arc<RwLock<Logs>>,
    changes: Arc<tokio::sync::Notify>,
}

type Logs = BTreeMap<SessionId, Log>;

#[derive(Debug)]
struct Log {
    head: Head,
    records: Vec<StoredRecord>,
}

impl MemoryStorage {
    /// Creates an empty storage.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn read<T>(&self, read: impl FnOnce(&Logs) -> T) -> T {
        read(&self.logs.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Applies all of a change or nothing: a change validates before it modifies anything.
    fn write<T, E>(&self, change: impl FnOnce(&mut Logs) -> Result<T, E>) -> Result<T, E> {
        let result = change(&mut self.logs.write().unwrap_or_else(PoisonError::into_inner));
        if result.is_ok() {
            self.changes.notify_waiters();
        }
        result
    }

    fn tip(&self, id: SessionId) -> Option<Tip> {
        self.read(|logs| logs.get(&id).map(|log| log.head.tip))
    }
}

impl fmt::Debug for MemoryStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStorage").field("sessions", &self.read(BTreeMap::len)).finish_non_exhaustive()
    }
}

/// Validates a batch against the log that it extends: chain of sums, rules of the machine, and head.
fn check(id: SessionId, before: Option<&Head>, batch: &Batch) -> Result<(), StorageError> {
    let refused = |record: &StoredRecord, why: &dyn fmt::Display| StorageError::InvalidArgument {
        what: format!("revision {} of session {id} cannot be stored: {why}", record.revision()),
    };
    let mut chain = before.map_or(Chain::start(id), |head| Chain::at(id, head.tip));
    let mut head = before.cloned();
    for record in batch.records() {
        let record = record?;
        chain.follow(&record).map_err(|error| refused(&record, &error))?;
        let decoded = record.decode().map_err(|error| refused(&record, &error))?;
        Head::fold(&mut head, id, &decoded).map_err(|error| refused(&record, &error))?;
    }
    let what = format!("the head of session {id} is not the fold of its log");
    if head.as_ref() == batch.head() { Ok(()) } else { Err(StorageError::InvalidArgument { what }) }
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
            let holds_place = |(other, log): &(&SessionId, &Log)| **other != id && log.head.holds_place();
            batch.check(id, expected, actual, || Ok(logs.iter().filter(holds_place).count()))?;
            let Some(head) = batch.head() else {
                return actual.ok_or(StorageError::NotFound { id });
            };
            check(id, logs.get(&id).map(|log| &log.head), &batch)?;
            let records = batch.load()?;
            let log = logs.entry(id).or_insert_with(|| Log { head: head.clone(), records: Vec::new() });
            log.head = head.clone();
            log.records.extend(records);
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
            Ok(RecordPage::within(limit, log.records.iter().skip(after).cloned()))
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
        loop {
            let mut changed = pin!(self.changes.notified());
            // Registered before the tip is read, so that no change is missed in between.
            changed.as_mut().enable();
            if self.tip(id) != Some(seen) {
                return;
            }
            // All sessions share one notification: check again whether this one changed.
            changed.await;
        }
    }
}
