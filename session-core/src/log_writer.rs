//! Appending to a log: decide, seal, append; on a conflict, read the new records and decide again. The decisions
//! themselves are made by the callers: managers, and the function that records the loss of a repair.
//!
//! Nothing else calls [`SessionStorage::append`].

mod import;
mod log_tail;
mod loss;
mod retry;

use std::num::NonZeroUsize;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

pub use self::import::{CheckedLog, Imported};
pub(crate) use self::log_tail::LogTail;
pub use self::loss::record_loss;
use self::retry::Retry;
use crate::error::{Result, SessionError};
use crate::event::SessionEvent;
use crate::head::Head;
use crate::id::SessionId;
use crate::limits;
use crate::reason::SessionSummary;
use crate::record::{Chain, Record, StoredRecord, Tip, UnsealedRecord};
use crate::storage::{Batch, Durability, Expected, PAGE, SessionStorage, StorageError, load};
use crate::time::{Clock, SystemClock};

/// The time for which a change is tried again after conflicts, unless a manager's options say otherwise.
pub(crate) const CONFLICT_TIMEOUT: Duration = Duration::from_secs(5);

/// Decides which events a log gets next. Called again after each conflict, with the head that then is current.
pub(crate) trait Decide: Send {
    /// Returns the events to append; `None` to leave the log as it is.
    fn decide(&mut self, head: &Head) -> impl Future<Output = Result<Option<Vec<SessionEvent>>>> + Send;
}

/// A decision that depends on the head alone.
impl<F: FnMut(&Head) -> Result<Vec<SessionEvent>> + Send> Decide for F {
    async fn decide(&mut self, head: &Head) -> Result<Option<Vec<SessionEvent>>> {
        self(head).map(Some)
    }
}

/// Appends events to logs, and reads what others appended. Knows the storage and the clock, but no owners, observers
/// or work: a caller must hold the lock of the session, and deliver the events of the tail.
#[derive(Debug)]
pub(crate) struct LogWriter<P = Arc<dyn SessionStorage>> {
    pub(crate) storage: P,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) conflict_timeout: Duration,
    /// The limit of sessions that hold a place, for each append that takes one.
    pub(crate) max_sessions: Option<NonZeroUsize>,
}

/// The outcome of one attempt to append.
enum Appended {
    /// The records are in the log.
    Done(Tip),
    /// Another process changed the log, and the tail has caught up: decide again.
    Moved,
}

/// Events sealed as the next records of a log, with the head that covers them.
struct Sealed {
    batch: Batch,
    head: Head,
    records: Vec<Record>,
}

impl<P> LogWriter<P>
where
    P: Deref<Target: SessionStorage> + Send + Sync,
{
    /// Creates a writer with the system's clock, for changes outside a manager.
    pub(crate) fn of(storage: P) -> Self {
        let clock = Arc::new(SystemClock);
        Self { storage, clock, conflict_timeout: CONFLICT_TIMEOUT, max_sessions: None }
    }

    pub(crate) const fn storage(&self) -> &P {
        &self.storage
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Reads the end of a log.
    pub(crate) async fn load(&self, id: SessionId) -> Result<LogTail> {
        Ok(LogTail::new(self.head(id).await?))
    }

    /// Reads the head of a session that must exist.
    pub(crate) async fn head(&self, id: SessionId) -> Result<Head> {
        Ok(self.storage.head(id).await?.ok_or(StorageError::NotFound { id })?)
    }

    /// Reads one event of a log.
    pub(crate) async fn event(&self, id: SessionId, revision: u64) -> Result<SessionEvent> {
        let stored =
            load::record(&*self.storage, id, revision).await?.ok_or(StorageError::NotFound { id })?;
        Ok(decode(id, &stored)?.event)
    }

    /// Creates a log with its first event. Returns `None` if it already exists.
    pub(crate) async fn create(&self, id: SessionId, event: SessionEvent) -> Result<Option<LogTail>> {
        let Sealed { batch, head, records } = self.seal(id, None, 0, vec![event])?;
        let expected = self.max_sessions.map_or(Expected::Absent, Expected::AbsentWithin);
        match self.storage.append(id, expected, batch, Durability::Flushed).await {
            Ok(_) => {}
            Err(StorageError::Conflict { actual: Some(_), .. }) => return Ok(None),
            Err(error @ StorageError::OutcomeUnknown { .. }) => match self.storage.head(id).await? {
                // The flush settles whether it is stored.
                Some(stored) if stored.tip == head.tip => self.flush(id, head.tip).await?,
                Some(_) => return Ok(None),
                None => return Err(error.into()),
            },
            Err(error) => return Err(error.into()),
        }
        let mut tail = LogTail::new(head);
        for record in records {
            tail.add_pending(id, record);
        }
        tail.mark_flushed(1);
        Ok(Some(tail))
    }

    /// Decides and appends, again after each conflict, until it succeeds or the conflict timeout has passed.
    pub(crate) async fn commit(
        &self,
        tail: &mut LogTail,
        durability: Durability,
        mut decision: impl Decide,
    ) -> Result<Tip> {
        let retry = Retry::within(tail.head.id, self.conflict_timeout);
        loop {
            let known = tail.head.tip;
            match self.try_commit(tail, durability, &mut decision).await {
                Ok(Appended::Done(tip)) => return Ok(tip),
                Ok(Appended::Moved) if tail.is_copied => return Err(copied(tail.head.id)),
                Ok(Appended::Moved) => {}
                Err(error @ SessionError::Storage(_)) => return Err(error),
                // Refused, but perhaps for an outdated head: others may have appended, or a call of this process that was
                // dropped before it knew.
                Err(error) => {
                    if self.catch_up(tail).await.is_err() || tail.head.tip == known {
                        return Err(error);
                    }
                }
            }
            retry.check()?;
        }
    }

    async fn try_commit(
        &self,
        tail: &mut LogTail,
        durability: Durability,
        decision: &mut impl Decide,
    ) -> Result<Appended> {
        match decision.decide(&tail.head).await? {
            Some(events) => self.append(tail, events, durability).await,
            None => Ok(Appended::Done(tail.head.tip)),
        }
    }

    /// Deletes a log, if the decision does not refuse its current head.
    pub(crate) async fn delete(&self, id: SessionId, mut decision: impl Decide) -> Result<()> {
        let retry = Retry::within(id, self.conflict_timeout);
        loop {
            let head = self.head(id).await?;
            decision.decide(&head).await?;
            match self.storage.delete(id, head.tip).await {
                Ok(()) => return Ok(()),
                Err(StorageError::Conflict { .. }) => retry.check()?,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Tries once to append events at the known end of the log. Write, flush, acknowledge: in this order.
    async fn append(
        &self,
        tail: &mut LogTail,
        events: Vec<SessionEvent>,
        durability: Durability,
    ) -> Result<Appended> {
        let id = tail.head.id;
        if events.is_empty() && (durability == Durability::Buffered || tail.unflushed_since.is_none()) {
            return Ok(Appended::Done(tail.head.tip));
        }
        let Sealed { batch, head, records } = self.seal(id, Some(&tail.head), tail.flushed, events)?;
        let expected = tail.expected_for(&head, self.max_sessions);
        tail.begin_append(&records);
        match self.storage.append(id, expected, batch, durability).await {
            Ok(tip) => {
                tail.moved();
                tail.head = head;
                for record in records {
                    tail.add_pending(id, record);
                }
                tail.mark_flushed(if durability == Durability::Flushed { tip.revision } else { 0 });
                Ok(Appended::Done(tip))
            }
            Err(StorageError::Conflict { actual: None, .. }) => Err(StorageError::NotFound { id }.into()),
            Err(StorageError::Conflict { .. }) => {
                self.catch_up(tail).await?;
                Ok(Appended::Moved)
            }
            Err(error @ StorageError::OutcomeUnknown { .. }) => self.resolve(tail, head.tip, error).await,
            Err(error) => {
                tail.append_refused(records.len());
                Err(error.into())
            }
        }
    }

    /// Determines whether an append with unknown outcome took place. An empty flush makes the storage settle the log,
    /// which then shows whether it has our records.
    async fn resolve(&self, tail: &mut LogTail, ours: Tip, error: StorageError) -> Result<Appended> {
        let id = tail.head.id;
        let Ok(Some(found)) = self.storage.head(id).await else { return Err(error.into()) };
        if self.flush(id, found.tip).await.is_err() {
            return Err(error.into());
        }
        let before = tail.head.tip.revision;
        self.catch_up(tail).await?;
        let page = self.storage.records(id, before, PAGE).await?;
        if page.records.iter().any(|record| record.tip() == ours) {
            tail.mark_flushed(ours.revision);
            return Ok(Appended::Done(ours));
        }
        Ok(Appended::Moved)
    }

    /// Returns the head once everything that it covers survives power loss.
    pub(crate) async fn flushed_head(&self, id: SessionId) -> Result<Head, StorageError> {
        loop {
            let head = self.storage.head(id).await?.ok_or(StorageError::NotFound { id })?;
            match self.flush(id, head.tip).await {
                Ok(()) => return Ok(head),
                // Another process appended to the log or deleted it in between.
                Err(StorageError::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Makes the log durable up to its tip, which must be this one.
    async fn flush(&self, id: SessionId, tip: Tip) -> Result<(), StorageError> {
        self.storage.append(id, Expected::At(tip), Batch::empty(), Durability::Flushed).await?;
        Ok(())
    }

    /// Seals events as the records after a head; `None` for the first record of a log.
    fn seal(
        &self,
        id: SessionId,
        head: Option<&Head>,
        flushed: u64,
        events: Vec<SessionEvent>,
    ) -> Result<Sealed> {
        let mut chain = head.map_or_else(|| Chain::start(id), |head| Chain::at(id, head.tip));
        let max_iterations = head.and_then(|head| head.max_iterations);
        let mut head = head.cloned();
        let (mut stored, mut records) = (Vec::with_capacity(events.len()), Vec::with_capacity(events.len()));
        for mut event in events {
            let at = self.clock.now();
            let attempt = head.as_ref().map_or(0, |head| head.lifecycle.attempt_for(event.kind()));
            if let (SessionEvent::IterationStarted { number }, Some(max)) = (&event, max_iterations) {
                // A log that already has more, written by other means, stays valid.
                let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
                limits::at_most("the number of the iteration", count(*number), count(max))?;
            }
            if let (SessionEvent::Completed { summary }, Some(head)) = (&mut event, &head) {
                // The counters come from the log, including the records before this one.
                let SessionSummary { message, result, .. } = std::mem::take(summary);
                *summary = SessionSummary { message, result, ..head.summary(at) };
            }
            let (line, record) = chain.seal(UnsealedRecord { at, attempt, flushed, event })?;
            Head::fold(&mut head, id, &record).map_err(|source| SessionError::Transition { id, source })?;
            stored.push(line);
            records.push(record);
        }
        let head = head.ok_or_else(|| SessionError::InvalidArgument {
            what: format!("session {id} cannot be created without an event"),
        })?;
        let batch = if stored.is_empty() { Batch::empty() } else { Batch::new(stored, head.clone()) };
        Ok(Sealed { batch, head, records })
    }

    /// Reads and folds in the records that other processes appended. If the log no longer has the known records,
    /// because it was repaired with loss, the tail restarts from the stored head.
    pub(crate) async fn catch_up(&self, tail: &mut LogTail) -> Result<()> {
        let id = tail.head.id;
        loop {
            let known = tail.head.tip;
            let page = self.storage.records(id, known.revision, PAGE).await?;
            let mut chain = Chain::at(id, known);
            if page.records.is_empty() {
                let stored = self.head(id).await?;
                if stored.tip != tail.head.tip && stored.tip.revision <= tail.head.tip.revision {
                    tail.reset_to(stored);
                }
                return Ok(());
            }
            for stored in page.records {
                if chain.follow(&stored).is_err() {
                    let head = self.head(id).await?;
                    tail.reset_to(head);
                    return Ok(());
                }
                let record = decode(id, &stored)?;
                tail.head.apply(&record).map_err(|source| StorageError::Invalid {
                    id,
                    revision: stored.revision(),
                    source,
                })?;
                tail.read(stored.tip(), &record.event);
                let flushed = record.envelope.flushed;
                tail.add_pending(id, record);
                tail.mark_flushed(flushed);
            }
        }
    }
}

/// Returns the error of an owner whose log another copy of it continues.
pub(crate) fn copied(id: SessionId) -> SessionError {
    SessionError::Fenced {
        id,
        what: "another copy of its owner appended to it, on a cloned machine".to_owned(),
    }
}

/// Decodes a record of a session's log.
pub(crate) fn decode(id: SessionId, stored: &StoredRecord) -> Result<Record> {
    stored.decode().map_err(|error| StorageError::undecodable(id, stored.revision(), error).into())
}

#[cfg(test)]
mod tests;
