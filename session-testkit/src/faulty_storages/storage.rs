//! A wrapper around a storage that adds one fault.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use session_core::backend::{
    Batch, ChangeFeed, Expected, HeadPage, PAGE_BYTES, RecordPage, SessionStorage, SessionStorageExt as _,
    StorageProfile, Tip,
};
use session_core::{Durability, Head, SessionFilter, SessionId, StorageError, StoredRecord};

use super::{Fault, resealed};

/// The largest record, in bytes, that [`Fault::RefusesLargeRecords`] accepts.
const LARGE: usize = 64 * 1024;

/// A storage with one fault.
#[derive(Debug)]
pub struct FaultyStorage {
    inner: Arc<dyn SessionStorage>,
    fault: Fault,
    shared: Arc<Shared>,
    cache: Mutex<BTreeMap<SessionId, Head>>,
}

/// State that a fault shares between all handles of a store.
#[derive(Debug, Default)]
pub(super) struct Shared {
    deleted: Mutex<Vec<(SessionId, Batch)>>,
    deleted_ids: Mutex<BTreeSet<SessionId>>,
    old_heads: Mutex<BTreeMap<SessionId, Head>>,
    places: AtomicUsize,
    shown: Mutex<BTreeMap<SessionId, usize>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FaultyStorage {
    /// Wraps a storage with this fault. [`Fault::BuffersInProcessMemory`] has no effect here: only a
    /// [`FaultyHarness`](super::FaultyHarness) implements it.
    #[must_use]
    pub fn new(inner: Arc<dyn SessionStorage>, fault: Fault) -> Self {
        Self::with(inner, fault, Arc::default())
    }

    pub(super) fn with(inner: Arc<dyn SessionStorage>, fault: Fault, shared: Arc<Shared>) -> Self {
        Self { inner, fault, shared, cache: Mutex::default() }
    }

    async fn tip(&self, id: SessionId) -> Result<Option<Tip>, StorageError> {
        Ok(self.inner.head(id).await?.map(|head| head.tip))
    }

    /// Returns the whole log as one batch.
    async fn whole(&self, id: SessionId) -> Result<Option<Batch>, StorageError> {
        let Some(head) = self.inner.head(id).await? else { return Ok(None) };
        let mut records = self.inner.records_after(id, 0).await?;
        records.truncate(usize::try_from(head.tip.revision).unwrap_or(usize::MAX));
        Ok(Some(Batch::new(records, head)))
    }

    /// Stores a batch regardless of the stored log.
    async fn overwrite(
        &self,
        id: SessionId,
        expected: Expected,
        batch: Batch,
        durability: Durability,
    ) -> Result<Tip, StorageError> {
        let Some(head) = self.inner.head(id).await? else {
            return self.inner.append(id, expected, batch, durability).await;
        };
        if batch.fits(Expected::Absent) {
            self.inner.delete(id, head.tip).await?;
            return self.inner.append(id, Expected::Absent, batch, durability).await;
        }
        let at = Expected::At(head.tip);
        let claimed = batch.head().map_or(head.tip, |head| head.tip);
        let batch = resealed::reseal_after(id, &head, &batch).unwrap_or_else(Batch::empty);
        self.inner.append(id, at, batch, durability).await?;
        Ok(claimed)
    }

    /// Returns an error if the limit is reached by the other sessions that `holds_place` selects.
    async fn refuse_above(
        &self,
        id: SessionId,
        expected: Expected,
        holds_place: fn(&Head) -> bool,
    ) -> Result<(), StorageError> {
        let Some(limit) = expected.limit() else { return Ok(()) };
        let page = self.inner.list_all(&SessionFilter::all()).await?;
        let held = page.heads.iter().filter(|head| head.id != id && holds_place(head)).count();
        if held + page.unreadable.len() >= limit.get() {
            return Err(StorageError::MaxSessions { limit: limit.get() });
        }
        Ok(())
    }

    async fn rewrite(&self, id: SessionId, tip: Tip, batch: &Batch) -> Result<Option<Batch>, StorageError> {
        let Some(head) = batch.head().filter(|_| batch.fits(Expected::At(tip))) else { return Ok(None) };
        if self.tip(id).await? != Some(tip) {
            return Ok(None);
        }
        let Some(whole) = self.whole(id).await? else { return Ok(None) };
        self.inner.delete(id, tip).await?;
        tokio::task::yield_now().await;
        let records = [whole.load()?, batch.load()?].concat();
        Ok(Some(Batch::new(records, head.clone())))
    }

    async fn import_in_parts(&self, id: SessionId, batch: &Batch) -> Result<Tip, StorageError> {
        let Ok(log) = crate::logs::Log::from_records(id, batch.load()?) else {
            return Err(StorageError::InvalidArgument { what: "not a log".into() });
        };
        let first = log.up_to(1).whole();
        self.inner.append(id, first.expected, first.batch, Durability::Flushed).await?;
        tokio::task::yield_now().await;
        let rest = log.after(1);
        self.inner.append(id, rest.expected, rest.batch, Durability::Flushed).await
    }

    async fn bring_back(&self, but: SessionId) -> Result<(), StorageError> {
        let deleted = std::mem::take(&mut *lock(&self.shared.deleted));
        for (id, batch) in deleted {
            if id != but {
                self.inner.append(id, Expected::Absent, batch, Durability::Flushed).await?;
            }
        }
        Ok(())
    }

    async fn delete_in_steps(&self, id: SessionId, tip: Tip) -> Result<(), StorageError> {
        let Some(whole) = self.whole(id).await? else { return self.inner.delete(id, tip).await };
        self.inner.delete(id, tip).await?;
        let first = whole.load()?.into_iter().take(1).collect();
        let Ok(log) = crate::logs::Log::from_records(id, first) else { return Ok(()) };
        self.inner.append(id, Expected::Absent, log.whole().batch, Durability::Flushed).await?;
        tokio::task::yield_now().await;
        self.inner.delete(id, log.tip()).await
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "each method handles only its own faults")]
#[async_trait]
impl SessionStorage for FaultyStorage {
    async fn append(
        &self,
        id: SessionId,
        mut expected: Expected,
        mut batch: Batch,
        mut durability: Durability,
    ) -> Result<Tip, StorageError> {
        let claimed = batch.head().map(|head| head.tip);
        let before = expected.tip();
        match self.fault {
            Fault::IgnoresExpected => return self.overwrite(id, expected, batch, durability).await,
            Fault::ComparesRevisionsOnly => {
                let there = self.tip(id).await?;
                if before.is_some() && there.map(|tip| tip.revision) == before.map(|tip| tip.revision) {
                    return self.overwrite(id, expected, batch, durability).await;
                }
            }
            Fault::DropsLastRecord => {
                let head = self.inner.head(id).await?;
                batch = resealed::without_last(id, head, &batch).unwrap_or(batch);
            }
            Fault::AcknowledgesBeforeFlush => durability = Durability::Buffered,
            Fault::SkipsEmptyFlush if claimed.is_none() => durability = Durability::Buffered,
            Fault::ReturnsPreviousHead => {
                let old = self.inner.head(id).await?;
                lock(&self.shared.old_heads).extend(old.map(|head| (id, head)));
            }
            Fault::RacesTheLimit => {
                self.refuse_above(id, expected, Head::holds_place).await?;
                for _ in 0..16 {
                    tokio::task::yield_now().await;
                }
                expected = before.map_or(Expected::Absent, Expected::At);
            }
            Fault::IgnoresLimit if before.is_none() => expected = Expected::Absent,
            Fault::IgnoresLimitOfResumes => expected = before.map_or(expected, Expected::At),
            Fault::CountsEndedSessions => self.refuse_above(id, expected, |_| true).await?,
            Fault::CountsUnownedSessions => {
                self.refuse_above(id, expected, |head| !head.state().is_final()).await?;
            }
            Fault::ChecksLimitBeforeExistence => {
                // Any other id: the session itself is counted, too.
                self.refuse_above(SessionId::random(), expected, Head::holds_place).await?;
            }
            Fault::FlushesUnchecked if claimed.is_none() => {
                expected = self.tip(id).await?.map_or(expected, Expected::At);
            }
            Fault::RevivesDeletedSessions => self.bring_back(id).await?,
            Fault::NeverReusesIds if before.is_none() && lock(&self.shared.deleted_ids).contains(&id) => {
                return Err(StorageError::Conflict { id, expected: None, actual: None });
            }
            Fault::RewritesInPlace => {
                if let Some(tip) = before
                    && let Some(whole) = self.rewrite(id, tip, &batch).await?
                {
                    (expected, batch) = (Expected::Absent, whole);
                }
            }
            Fault::ImportsInParts if before.is_none() && batch.bytes() > PAGE_BYTES as u64 => {
                return self.import_in_parts(id, &batch).await;
            }
            Fault::LeaksPlaces => {
                if let Expected::AbsentWithin(limit) = expected {
                    let taken = self.shared.places.fetch_add(1, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                    let left = limit.get().checked_sub(taken).and_then(NonZeroUsize::new);
                    let answer = match left {
                        None => Err(StorageError::MaxSessions { limit: limit.get() }),
                        Some(left) => {
                            self.inner.append(id, Expected::AbsentWithin(left), batch, durability).await
                        }
                    };
                    self.shared.places.fetch_sub(1, Ordering::SeqCst);
                    return answer;
                }
            }
            Fault::RefusesLargeRecords if batch.load()?.iter().any(|record| record.line().len() > LARGE) => {
                return Err(StorageError::InvalidArgument { what: "too large".into() });
            }
            _ => {}
        }
        let answer = self.inner.append(id, expected, batch, durability).await;
        match (self.fault, answer) {
            (Fault::DropsLastRecord, Ok(tip)) => Ok(claimed.unwrap_or(tip)),
            (Fault::ReturnsOldTip, Ok(tip)) => Ok(before.unwrap_or(tip)),
            (Fault::OmitsStoredTip, Err(StorageError::Conflict { id, expected, .. })) => {
                Err(StorageError::Conflict { id, expected, actual: None })
            }
            (Fault::AcceptsHoles, Err(StorageError::InvalidArgument { what })) => {
                claimed.ok_or(StorageError::InvalidArgument { what })
            }
            (Fault::AcknowledgesFailedFlush, Err(StorageError::OutcomeUnknown { id, source })) => {
                claimed.or(before).ok_or(StorageError::OutcomeUnknown { id, source })
            }
            (_, answer) => answer,
        }
    }

    async fn head(&self, id: SessionId) -> Result<Option<Head>, StorageError> {
        let mut head = self.inner.head(id).await?;
        match (self.fault, &mut head) {
            (Fault::ReturnsPreviousHead, Some(head)) => {
                if let Some(old) = lock(&self.shared.old_heads).get(&id) {
                    *head = old.clone();
                }
            }
            (Fault::ServesStaleHeads, Some(head)) => {
                *head = lock(&self.cache).entry(id).or_insert_with(|| head.clone()).clone();
            }
            (Fault::TruncatesLabels, Some(head)) => {
                while head.labels.len() > 8 {
                    head.labels.pop_last();
                }
            }
            _ => {}
        }
        Ok(head)
    }

    async fn records(
        &self,
        id: SessionId,
        mut after: u64,
        limit: NonZeroUsize,
    ) -> Result<RecordPage, StorageError> {
        if self.fault == Fault::CountsFromZero {
            after = after.saturating_sub(1);
        }
        let mut answer = self.inner.records(id, after, limit).await;
        match (self.fault, &mut answer) {
            (Fault::IgnoresPageBytes, Ok(page)) => {
                page.records = self.inner.records_after(id, after).await?;
                page.records.truncate(limit.get());
            }
            (Fault::ReordersRecords, Ok(page)) => {
                if let [.., one, other] = page.records.as_mut_slice() {
                    std::mem::swap(one, other);
                }
            }
            (Fault::ReEncodes, Ok(page)) => {
                page.records =
                    page.records.drain(..).map(resealed::re_encoded).collect::<Vec<StoredRecord>>();
            }
            (Fault::ReturnsEmptyForMissing, Err(StorageError::NotFound { .. }))
            | (Fault::HidesDamage, Err(StorageError::Corrupt { .. })) => answer = Ok(RecordPage::default()),
            _ => {}
        }
        answer
    }

    async fn list(
        &self,
        filter: &SessionFilter,
        after: Option<SessionId>,
        limit: NonZeroUsize,
    ) -> Result<HeadPage, StorageError> {
        let mut filter = filter.clone();
        match self.fault {
            Fault::IgnoresLabels => filter.labels.clear(),
            Fault::PagesByOffset => {
                let all = self.inner.list_all(&filter).await?;
                // A deletion in between shifts all sessions that follow.
                tokio::task::yield_now().await;
                let from = after.and_then(|after| lock(&self.shared.shown).get(&after).copied()).unwrap_or(0);
                let heads: Vec<Head> = all.heads.into_iter().skip(from).take(limit.get()).collect();
                let next = heads.last().map(|head| head.id);
                lock(&self.shared.shown).extend(next.map(|next| (next, from + heads.len())));
                return Ok(HeadPage::new(heads, all.unreadable, next));
            }
            _ => {}
        }
        let mut page = self.inner.list(&filter, after, limit).await?;
        match (self.fault, after) {
            (Fault::RepeatsTheCursor, Some(after)) => {
                let again = self.inner.head(after).await?.filter(|head| filter.matches(head));
                page.heads.splice(0..0, again);
            }
            (Fault::HidesUnreadableSessions, _) => page.unreadable.clear(),
            (Fault::FailsOnUnreadableSessions, _) => {
                if let Some((_, error)) = page.unreadable.pop() {
                    return Err(error);
                }
            }
            _ => {}
        }
        Ok(page)
    }

    async fn delete(&self, id: SessionId, mut tip: Tip) -> Result<(), StorageError> {
        let whole = self.whole(id).await?;
        match self.fault {
            Fault::DeletesUnchecked => tip = self.tip(id).await?.unwrap_or(tip),
            Fault::DeletesInTwoSteps => return self.delete_in_steps(id, tip).await,
            _ => {}
        }
        self.inner.delete(id, tip).await?;
        match (self.fault, whole) {
            (Fault::RevivesDeletedSessions, Some(whole)) => lock(&self.shared.deleted).push((id, whole)),
            (Fault::NeverReusesIds, _) => drop(lock(&self.shared.deleted_ids).insert(id)),
            (Fault::DeletesByName, Some(whole)) => {
                let name = whole.head().map_or("", |head| &head.name);
                for head in self.inner.list_all(&SessionFilter::all().name(name)).await?.heads {
                    self.inner.delete(head.id, head.tip).await?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn profile(&self) -> StorageProfile {
        let mut profile = self.inner.profile();
        if self.fault == Fault::HasEmptyName {
            profile.name = "";
        }
        profile
    }

    fn change_feed(&self) -> Option<Arc<dyn ChangeFeed>> {
        if self.fault == Fault::NeverWakes { Some(Arc::new(SilentFeed)) } else { self.inner.change_feed() }
    }
}

/// A feed that never wakes.
#[derive(Debug)]
struct SilentFeed;

#[async_trait]
impl ChangeFeed for SilentFeed {
    async fn changed(&self, _id: SessionId, _seen: Tip) {
        std::future::pending::<()>().await;
    }
}
