//! The append loop for all decisions of a manager: decide, seal, append, deliver; on a conflict, read the new
//! records and decide again. The decisions themselves are made by the callers.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::options::ManagerOptions;
use super::session_entry::{EntryGuard, LogTail, SessionEntry};
use super::{EventSink, RecoveryReport};
use crate::error::{Result, SessionError};
use crate::event::SessionEvent;
use crate::head::Head;
use crate::id::SessionId;
use crate::machine::StateName;
use crate::observer::EventContext;
use crate::owner::Owner;
use crate::presence::{Liveness, Presence, PresenceGuard};
use crate::reason::SessionSummary;
use crate::record::{Chain, Record, StoredRecord, Tip, UnsealedRecord};
use crate::storage::{
    Batch, Durability, Expected, SessionFilter, SessionStorage, SessionStorageExt as _, StorageError,
};

const PAGE: NonZeroUsize = NonZeroUsize::new(256).expect("256 is not 0");

/// The state shared by all clones of a manager.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) storage: Arc<dyn SessionStorage>,
    pub(crate) presence: Arc<dyn Presence>,
    pub(crate) options: ManagerOptions,
    me: OnceCell<Me>,
    entries: Mutex<HashMap<SessionId, Arc<SessionEntry>>>,
    sinks: RwLock<Vec<Arc<dyn EventSink>>>,
    /// The report of the recovery at opening, before any sink was registered.
    opening: OnceLock<RecoveryReport>,
    closed: AtomicBool,
}

#[derive(Debug)]
struct Me {
    owner: Owner,
    guard: Mutex<Option<Box<dyn PresenceGuard>>>,
}

/// The outcome of one attempt to append.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Appended {
    /// The records are in the log.
    Done(Tip),
    /// Another process changed the log, and the tail has caught up: decide again.
    Moved,
}

impl Engine {
    pub(crate) fn new(
        storage: Arc<dyn SessionStorage>,
        presence: Arc<dyn Presence>,
        options: ManagerOptions,
    ) -> Self {
        Self {
            storage,
            presence,
            options,
            me: OnceCell::new(),
            entries: Mutex::default(),
            sinks: RwLock::default(),
            opening: OnceLock::new(),
            closed: AtomicBool::new(false),
        }
    }

    /// Returns the identity of this manager. The first call announces it, so that a manager that only reads leaves no
    /// trace.
    pub(crate) async fn me(&self) -> Result<&Owner> {
        let me = self
            .me
            .get_or_try_init(|| async {
                let owner = self.presence.identify()?;
                let guard = self.presence.announce(&owner).await?;
                Ok::<_, StorageError>(Me { owner, guard: Mutex::new(Some(guard)) })
            })
            .await?;
        Ok(&me.owner)
    }

    /// Returns `true` if `owner` is this manager.
    pub(crate) fn is_me(&self, owner: &Owner) -> bool {
        self.me.get().is_some_and(|me| me.owner.instance == owner.instance)
    }

    /// Withdraws the announcement of this manager, unless a session that it created and that was never started still
    /// names it.
    pub(crate) async fn retire_if_unnamed(&self) -> Result<()> {
        let Some(me) = self.me.get() else { return Ok(()) };
        let created = SessionFilter::all().state(StateName::Created);
        let page = self.storage.list_all(&created).await?;
        let named = page
            .heads
            .iter()
            .filter_map(Head::responsible_process)
            .any(|owner| owner.instance == me.owner.instance);
        if !named
            && page.unreadable.is_empty()
            && let Some(guard) = me.guard.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            guard.retire();
        }
        Ok(())
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::SeqCst) { Err(SessionError::ShutDown) } else { Ok(()) }
    }

    /// Returns the liveness of an owner, which may be this manager.
    pub(crate) async fn liveness(&self, owner: &Owner) -> Result<Liveness> {
        if self.is_me(owner) {
            return Ok(Liveness::Alive);
        }
        Ok(self.presence.liveness(owner).await?)
    }

    pub(super) fn entries(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<SessionEntry>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn entry(&self, id: SessionId) -> EntryGuard<'_> {
        let mut entries = self.entries();
        let entry = entries.entry(id).or_insert_with(|| Arc::new(SessionEntry::new(id)));
        EntryGuard::new(self, Arc::clone(entry))
    }

    pub(crate) fn in_memory(&self) -> usize {
        self.entries().len()
    }

    /// Returns the sessions that this manager owns.
    pub(crate) async fn owned(&self) -> Vec<SessionId> {
        let entries: Vec<Arc<SessionEntry>> = self.entries().values().map(Arc::clone).collect();
        let mut owned = Vec::new();
        for entry in entries {
            if entry.state.lock().await.owned.is_some() {
                owned.push(entry.id());
            }
        }
        owned
    }

    pub(crate) async fn load(&self, id: SessionId) -> Result<LogTail> {
        let head = self.storage.head(id).await?.ok_or(StorageError::NotFound { id })?;
        Ok(LogTail::new(head))
    }

    /// Registers a sink, and delivers the report of the recovery at opening to it.
    pub(crate) fn add_sink(&self, sink: Arc<dyn EventSink>) {
        if let Some(report) = self.opening.get() {
            sink.recovered(report);
        }
        self.sinks.write().unwrap_or_else(PoisonError::into_inner).push(sink);
    }

    pub(crate) fn opened_with(&self, report: RecoveryReport) {
        // An engine is opened once.
        let _ = self.opening.set(report);
    }

    pub(crate) fn deliver_recovery(&self, report: &RecoveryReport) {
        for sink in &*self.sinks.read().unwrap_or_else(PoisonError::into_inner) {
            sink.recovered(report);
        }
    }

    /// Creates a session. Returns `None` if its log already exists.
    pub(crate) async fn create(&self, id: SessionId, event: SessionEvent) -> Result<Option<Head>> {
        let draft = UnsealedRecord { at: self.options.clock.now(), attempt: 0, flushed: 0, event };
        let (stored, record) = Chain::start(id).seal(draft)?;
        let head = Head::begin(id, &record).map_err(|source| SessionError::Transition { id, source })?;
        let expected = self.options.max_sessions.map_or(Expected::Absent, Expected::AbsentWithin);
        let batch = Batch::new(vec![stored], head.clone());
        match self.storage.append(id, expected, batch.clone(), Durability::Flushed).await {
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
        let mut tail = LogTail::new(head.clone());
        tail.pending_events.push_back(to_notification(id, record));
        tail.mark_flushed(1);
        self.deliver(&mut tail);
        Ok(Some(head))
    }

    async fn flush(&self, id: SessionId, tip: Tip) -> Result<()> {
        self.storage.append(id, Expected::At(tip), Batch::empty(), Durability::Flushed).await?;
        Ok(())
    }

    /// Decides and appends, again after each conflict, until it succeeds or the conflict timeout has passed.
    pub(crate) async fn commit(
        &self,
        tail: &mut LogTail,
        durability: Durability,
        mut decide: impl FnMut(&Head) -> Result<Vec<SessionEvent>> + Send,
    ) -> Result<Tip> {
        let deadline = Instant::now() + self.options.conflict_timeout;
        loop {
            let events = decide(&tail.head)?;
            match self.append(tail, events, durability).await? {
                Appended::Done(tip) => return Ok(tip),
                Appended::Moved if Instant::now() >= deadline => {
                    return Err(SessionError::Contended { id: tail.head.id });
                }
                Appended::Moved => {}
            }
        }
    }

    /// Tries once to append events at the known end of the log. Write, flush, acknowledge, deliver: in this order.
    pub(crate) async fn append(
        &self,
        tail: &mut LogTail,
        events: Vec<SessionEvent>,
        durability: Durability,
    ) -> Result<Appended> {
        let id = tail.head.id;
        if events.is_empty() && (durability == Durability::Buffered || tail.unflushed_since.is_none()) {
            return Ok(Appended::Done(tail.head.tip));
        }
        let (batch, head, records) = self.seal(tail, events)?;
        let expected = Expected::At(tail.head.tip);
        match self.storage.append(id, expected, batch, durability).await {
            Ok(tip) => {
                tail.head = head;
                tail.pending_events.extend(records.into_iter().map(|record| to_notification(id, record)));
                tail.mark_flushed(if durability == Durability::Flushed { tip.revision } else { 0 });
                self.deliver(tail);
                Ok(Appended::Done(tip))
            }
            Err(StorageError::Conflict { actual: None, .. }) => Err(StorageError::NotFound { id }.into()),
            Err(StorageError::Conflict { .. }) => {
                self.catch_up(tail).await?;
                Ok(Appended::Moved)
            }
            Err(error @ StorageError::OutcomeUnknown { .. }) => self.resolve(tail, head.tip, error).await,
            Err(error) => Err(error.into()),
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
            self.deliver(tail);
            return Ok(Appended::Done(ours));
        }
        Ok(Appended::Moved)
    }

    fn seal(&self, tail: &LogTail, events: Vec<SessionEvent>) -> Result<(Batch, Head, Vec<Record>)> {
        let id = tail.head.id;
        let mut head = tail.head.clone();
        let mut chain = Chain::at(id, head.tip);
        let (mut stored, mut records) = (Vec::with_capacity(events.len()), Vec::with_capacity(events.len()));
        for mut event in events {
            let (at, attempt) = (self.options.clock.now(), head.lifecycle.attempt_for(event.kind()));
            if let SessionEvent::Completed { summary } = &mut event {
                // The counters come from the log, including the records before this one.
                let SessionSummary { message, result, .. } = std::mem::take(summary);
                *summary = SessionSummary { message, result, ..head.summary(at) };
            }
            let draft = UnsealedRecord { at, attempt, flushed: tail.flushed, event };
            let (line, record) = chain.seal(draft)?;
            head.apply(&record).map_err(|source| SessionError::Transition { id, source })?;
            stored.push(line);
            records.push(record);
        }
        let batch = if stored.is_empty() { Batch::empty() } else { Batch::new(stored, head.clone()) };
        Ok((batch, head, records))
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
                let stored = self.storage.head(id).await?.ok_or(StorageError::NotFound { id })?;
                if stored.tip != tail.head.tip && stored.tip.revision <= tail.head.tip.revision {
                    tail.reset_to(stored);
                }
                return Ok(());
            }
            for stored in page.records {
                if chain.follow(&stored).is_err() {
                    let head = self.storage.head(id).await?.ok_or(StorageError::NotFound { id })?;
                    tail.reset_to(head);
                    return Ok(());
                }
                let record = decode(id, &stored)?;
                tail.head.apply(&record).map_err(|source| StorageError::Invalid {
                    id,
                    revision: stored.revision(),
                    source,
                })?;
                tail.interrupted |= matches!(record.event, SessionEvent::Interrupted { .. });
                let flushed = record.envelope.flushed;
                tail.pending_events.push_back(to_notification(id, record));
                tail.mark_flushed(flushed);
            }
            self.deliver(tail);
        }
    }

    /// Delivers the events that are flushed by now.
    fn deliver(&self, tail: &mut LogTail) {
        let sinks = self.sinks.read().unwrap_or_else(PoisonError::into_inner);
        while tail.pending_events.front().is_some_and(|(context, _)| context.revision <= tail.flushed) {
            let Some((context, event)) = tail.pending_events.pop_front() else { break };
            for sink in sinks.iter() {
                sink.event(&context, &event);
            }
        }
    }
}

fn to_notification(id: SessionId, record: Record) -> (EventContext, Arc<SessionEvent>) {
    let envelope = record.envelope;
    (EventContext::new(id, envelope.seq, envelope.at, envelope.attempt), Arc::new(record.event))
}

/// Decodes a record of a session's log.
pub(crate) fn decode(id: SessionId, stored: &StoredRecord) -> Result<Record> {
    stored.decode().map_err(|error| StorageError::undecodable(id, stored.revision(), error).into())
}
