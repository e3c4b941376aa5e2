//! A storage in memory that supports power loss and failed flushes, because it keeps live and durable data apart. It
//! tests the laws themselves.

mod disk;

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use session_core::backend::{
    Batch, ChangeFeed, Expected, HeadPage, RecordPage, SessionStorage, Sharing, StorageProfile, Tip,
};
use session_core::{Durability, Head, SessionFilter, SessionId, StorageError, StoredRecord};

use self::disk::Disk;
use crate::harness::{Crash, Damage, Harness, Kept, NotSupported};
use crate::random::Random;

/// The harness of a store on a two-tiered disk in memory. It supports every operation of [`Harness`].
#[derive(Debug, Clone, Default)]
pub struct TieredHarness {
    disk: Arc<Mutex<Disk>>,
    after_failed_flush: AfterFailedFlush,
}

impl TieredHarness {
    /// Creates a store that keeps the laws.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a store that breaks law 6: after a failed flush it flushes again, and trusts the result.
    #[must_use]
    pub fn retrying_failed_flushes() -> Self {
        Self { after_failed_flush: AfterFailedFlush::Retry, ..Self::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The reaction to a failed flush.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum AfterFailedFlush {
    #[default]
    Rewrite,
    Retry,
}

#[async_trait]
impl Harness for TieredHarness {
    async fn open(&self) -> Result<Arc<dyn SessionStorage>, StorageError> {
        let generation = self.lock().generation;
        Ok(Arc::new(Handle { store: self.clone(), generation }))
    }

    async fn crash(&self, crash: Crash) -> Result<(), NotSupported> {
        let mut disk = self.lock();
        disk.generation += 1;
        if let Crash::PowerLoss(kept) = crash {
            let mut random = Random::new(if let Kept::Some(seed) = kept { seed } else { 0 });
            for (id, file) in &mut disk.files {
                file.lose_power(*id, kept, &mut random);
            }
            disk.files.retain(|id, file| file.mark > 0 || !file.read(*id).is_empty());
        }
        Ok(())
    }

    async fn fail_next_flush(&self) -> Result<(), NotSupported> {
        self.lock().fail_next_flush = true;
        Ok(())
    }

    async fn damage(&self, id: SessionId, damage: Damage) -> Result<(), NotSupported> {
        if let Some(file) = self.lock().files.get_mut(&id) {
            file.damage(damage);
        }
        Ok(())
    }
}

/// A handle, as one process would have it.
#[derive(Debug)]
struct Handle {
    store: TieredHarness,
    generation: u64,
}

impl Handle {
    fn disk(&self) -> Result<MutexGuard<'_, Disk>, StorageError> {
        let disk = self.store.lock();
        if disk.generation == self.generation {
            return Ok(disk);
        }
        Err(StorageError::Closed { what: "a handle of a crashed process".into(), source: None })
    }

    fn write(&self, id: SessionId, expected: Expected, batch: &Batch) -> Result<Tip, StorageError> {
        let mut disk = self.disk()?;
        if self.store.after_failed_flush == AfterFailedFlush::Rewrite && disk.needs_rewrite(id) {
            disk.rewrite(id)?;
        }
        let there = disk.files.get(&id).map(|file| file.intact(id)).transpose()?.unwrap_or_default();
        let actual = there.last().map(StoredRecord::tip);
        let wanted = expected.tip();
        if actual != wanted {
            return Err(StorageError::Conflict { id, expected: wanted, actual });
        }
        if !batch.fits(expected) {
            return Err(StorageError::InvalidArgument {
                what: "the batch does not follow the expected tip".into(),
            });
        }
        if let Some(limit) = expected.limit()
            && disk.places(id) >= limit.get()
        {
            return Err(StorageError::MaxSessions { limit: limit.get() });
        }
        if let Some(head) = batch.head() {
            let file = disk.files.entry(id).or_default();
            file.lines.truncate(there.len());
            file.write(batch)?;
            return Ok(head.tip);
        }
        actual.ok_or(StorageError::NotFound { id })
    }
}

#[async_trait]
impl SessionStorage for Handle {
    async fn append(
        &self,
        id: SessionId,
        expected: Expected,
        batch: Batch,
        durability: Durability,
    ) -> Result<Tip, StorageError> {
        let tip = self.write(id, expected, &batch)?;
        // The future may be dropped here, and another process may interleave.
        tokio::task::yield_now().await;
        if durability == Durability::Flushed {
            let mut disk = self.disk()?;
            match self.store.after_failed_flush {
                // A failed flush, even of another handle, may have lost this batch.
                AfterFailedFlush::Rewrite if disk.needs_rewrite(id) => disk.rewrite(id)?,
                AfterFailedFlush::Rewrite => disk.flush(id)?,
                AfterFailedFlush::Retry => disk.flush(id).or_else(|_| disk.flush(id))?,
            }
        }
        Ok(tip)
    }

    async fn head(&self, id: SessionId) -> Result<Option<Head>, StorageError> {
        self.disk()?.files.get(&id).map(|file| file.head(id)).transpose()
    }

    async fn records(
        &self,
        id: SessionId,
        after: u64,
        limit: NonZeroUsize,
    ) -> Result<RecordPage, StorageError> {
        let disk = self.disk()?;
        let file = disk.files.get(&id).ok_or(StorageError::NotFound { id })?;
        let follows = |record: &StoredRecord| record.revision() > after;
        let page = RecordPage::within(limit, file.read(id).into_iter().filter(follows));
        if page.records.is_empty() {
            file.intact(id)?;
        }
        Ok(page)
    }

    async fn list(
        &self,
        filter: &SessionFilter,
        after: Option<SessionId>,
        limit: NonZeroUsize,
    ) -> Result<HeadPage, StorageError> {
        let disk = self.disk()?;
        let (mut heads, mut unreadable, mut last) = (Vec::new(), Vec::new(), None);
        for (id, file) in disk.files.iter().filter(|(id, _)| after.is_none_or(|after| **id > after)) {
            if heads.len() == limit.get() {
                return Ok(HeadPage::new(heads, unreadable, last));
            }
            last = Some(*id);
            match file.head(*id) {
                Ok(head) if filter.matches(&head) => heads.push(head),
                Ok(_) => {}
                Err(error) => unreadable.push((*id, error)),
            }
        }
        Ok(HeadPage::new(heads, unreadable, None))
    }

    async fn delete(&self, id: SessionId, tip: Tip) -> Result<(), StorageError> {
        let mut disk = self.disk()?;
        let there = disk.files.get(&id).ok_or(StorageError::NotFound { id })?.intact(id)?;
        let actual = there.last().map(StoredRecord::tip);
        if actual != Some(tip) {
            return Err(StorageError::Conflict { id, expected: Some(tip), actual });
        }
        disk.files.remove(&id);
        Ok(())
    }

    fn profile(&self) -> StorageProfile {
        StorageProfile::new("tiered", Some(Durability::Flushed), Sharing::Process)
    }

    fn change_feed(&self) -> Option<Arc<dyn ChangeFeed>> {
        None
    }
}
