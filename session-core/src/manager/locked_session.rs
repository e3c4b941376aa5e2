//! A session that is locked for a change by this process: as its owner, or as any other process.

use std::sync::Arc;

use tokio::sync::OwnedMutexGuard;

use super::engine::Engine;
use super::identity::Identity;
use super::owned_session::{End, EndedBy, OwnedSession};
use super::ownership::{AsClaimant, OwnerStatus, owned_error};
use super::registry::{EntryGuard, EntryState};
use super::wakers::wake_owners;
use crate::error::{FailureError, Result, SessionError};
use crate::event::SessionEvent;
use crate::head::Head;
use crate::id::SessionId;
use crate::log_writer::{Decide, LogTail, copied};
use crate::machine::SessionState;
use crate::owner::Evidence;
use crate::record::Tip;
use crate::storage::{Durability, StorageError};

/// A session that is locked for a change: no other task of this process changes it meanwhile.
pub(crate) struct LockedSession<'a> {
    engine: &'a Engine,
    id: SessionId,
    changed_by: EndedBy,
    /// Dropped before the entry, which is removed if it is unlocked and unowned.
    state: OwnedMutexGuard<EntryState>,
    _entry: EntryGuard<'a>,
}

impl<'a> LockedSession<'a> {
    /// Waits for other tasks of this process that change the session.
    pub(crate) async fn lock(engine: &'a Engine, id: SessionId) -> Self {
        let entry = engine.registry.entry(id);
        let state = Arc::clone(&entry.state).lock_owned().await;
        Self { engine, id, changed_by: EndedBy::Other, state, _entry: entry }
    }

    /// Attributes the changes to the work itself, which then knows that it ended the session.
    pub(crate) const fn by_work(mut self) -> Self {
        self.changed_by = EndedBy::Work;
        self
    }

    /// Returns the session, if this manager owns it.
    pub(crate) fn owned(&self) -> Option<&Arc<OwnedSession>> {
        self.state.owned.as_ref().map(|(owned, _)| owned)
    }

    /// Returns the known end of the log, if this manager owns the session.
    pub(crate) fn tail(&self) -> Option<&LogTail> {
        self.state.owned.as_ref().map(|(_, tail)| tail)
    }

    /// Makes this manager the owner in memory, as its log says.
    pub(crate) fn adopt(&mut self, owned: Arc<OwnedSession>, mut tail: LogTail) {
        tail.become_owner();
        self.engine.trackers.insert(owned.id, &owned.progress);
        self.state.owned = Some((owned, tail));
    }

    /// Appends events of the owner, after progress that was reported before them. Reads the records that other
    /// processes appended first; if this manager no longer owns the session, it appends nothing and fails with what
    /// ended the session or its ownership.
    pub(crate) async fn append_as_owner(
        &mut self,
        durability: Durability,
        decide: impl FnMut(&Head) -> Result<Vec<SessionEvent>> + Send,
    ) -> Result<Tip> {
        self.append_last(durability, decide, None).await
    }

    /// Appends events of the owner like [`append_as_owner`](Self::append_as_owner). Once they are appended, the owner
    /// loses the session for the reason `last`, if that is given and the state shows no other.
    async fn append_last(
        &mut self,
        durability: Durability,
        mut decide: impl FnMut(&Head) -> Result<Vec<SessionEvent>> + Send,
        last: Option<SessionError>,
    ) -> Result<Tip> {
        let (engine, id) = (self.engine, self.id);
        let (owned, tail) = self.require_owned()?;
        let pending = owned.progress.take_pending();
        let jump = owned.clock_jumps.note(&**engine.writer.clock());
        let mut included = false;
        let decision = |head: &Head| {
            if let Some(error) = ownership_error(&engine.identity, head) {
                return Err(error);
            }
            let mut events = decide(head)?;
            included = pending.is_some() && matches!(head.state(), SessionState::Running { .. });
            if let Some(report) = &pending
                && included
            {
                events.insert(0, SessionEvent::ProgressReported { report: report.clone() });
            }
            // First, so that no time of a later record is taken for time that has passed.
            events.splice(0..0, jump.clone());
            Ok(events)
        };
        let result = commit(engine, tail, durability, decision).await;
        if result.is_ok() {
            owned.clock_jumps.seen(&**engine.writer.clock());
        }
        if let Some(report) = pending
            && (result.is_err() || !included)
        {
            owned.progress.restore_pending(report);
        }
        let known = match &result {
            Ok(_) => last,
            Err(SessionError::Storage(StorageError::NotFound { .. })) => {
                Some(StorageError::NotFound { id }.into())
            }
            Err(_) => None,
        };
        // An append that failed found that something else ended the session.
        let by = if result.is_ok() { self.changed_by } else { EndedBy::Other };
        self.publish(known, by);
        // The events that were appended, or the reason that later calls get as well.
        result.or_else(|error| owned.check().and(Err(error)))
    }

    /// Appends events, which depend on the owner, to a session that this manager does not own. After each conflict,
    /// determines the owner and decides again.
    pub(crate) async fn append_as_claimant(
        &mut self,
        decide: impl FnMut(&Head, &OwnerStatus) -> Result<Vec<SessionEvent>> + Send,
    ) -> Result<LogTail> {
        let decision = AsClaimant { identity: &self.engine.identity, decide };
        self.append(Durability::Flushed, decision).await
    }

    /// Appends events to a session that this manager does not own.
    pub(crate) async fn append(&mut self, durability: Durability, decision: impl Decide) -> Result<LogTail> {
        let mut tail = self.engine.writer.load(self.id).await?;
        commit(self.engine, &mut tail, durability, decision).await?;
        wake_owners(self.id);
        Ok(tail)
    }

    /// Creates the session. Returns `None` if its log already exists.
    pub(crate) async fn create(&mut self, event: SessionEvent) -> Result<Option<Head>> {
        let Some(mut tail) = self.engine.writer.create(self.id, event).await? else { return Ok(None) };
        self.engine.sinks.deliver(&mut tail);
        Ok(Some(tail.head))
    }

    /// Deletes the session, unless it has an owner that is alive, or may be.
    pub(crate) async fn delete(&mut self) -> Result<()> {
        if let Some((_, tail)) = &self.state.owned {
            return Err(owned_error(&tail.head, true));
        }
        let decide = |head: &Head, owner_status: &OwnerStatus| {
            owner_status.check_unowned(head)?;
            Ok(Vec::new())
        };
        self.engine.writer.delete(self.id, AsClaimant { identity: &self.engine.identity, decide }).await?;
        tracing::info!(session = %self.id, "deleted a session");
        self.engine.sinks.deleted(self.id);
        wake_owners(self.id);
        Ok(())
    }

    /// Reads and folds in the records that other processes appended to a session that this manager owns.
    pub(crate) async fn poll(&mut self) -> Result<()> {
        let (engine, id) = (self.engine, self.id);
        let (_, tail) = self.require_owned()?;
        match engine.storage().head(id).await? {
            None => {
                self.publish(Some(StorageError::NotFound { id }.into()), EndedBy::Other);
                return Ok(());
            }
            Some(stored) if stored.tip == tail.head.tip => return Ok(()),
            Some(_) => {
                let caught_up = engine.writer.catch_up(tail).await;
                engine.sinks.deliver(tail);
                caught_up?;
                // Requests are handled, and events delivered, only once the records survive power loss.
                commit(engine, tail, Durability::Flushed, |_: &Head| Ok(Vec::new())).await?;
            }
        }
        self.publish(None, EndedBy::Other);
        Ok(())
    }

    /// Releases a session that this manager owns, so that other processes can take it over immediately.
    pub(crate) async fn release(&mut self, evidence: Evidence) -> Result<()> {
        let released = if evidence == Evidence::Shutdown {
            SessionError::ShutDown
        } else {
            SessionError::Fenced { id: self.id, what: format!("it was released: {evidence}") }
        };
        let interrupted = |_: &Head| Ok(vec![SessionEvent::Interrupted { evidence: evidence.clone() }]);
        self.append_last(Durability::Flushed, interrupted, Some(released)).await.map(drop)
    }

    /// Returns the owned session and the tail of its log.
    ///
    /// # Errors
    /// `FENCED` if this manager does not own the session.
    fn require_owned(&mut self) -> Result<(Arc<OwnedSession>, &mut LogTail)> {
        match &mut self.state.owned {
            Some((owned, tail)) => Ok((Arc::clone(owned), tail)),
            None => Err(SessionError::Fenced {
                id: self.id,
                what: "it ended or another process owns it".to_owned(),
            }),
        }
    }

    /// Publishes the tail's head to the work, and drops a session that ended or that this manager no longer owns.
    /// `known` is the reason for the end, if the log does not show it.
    fn publish(&mut self, known: Option<SessionError>, by: EndedBy) {
        let Some((owned, tail)) = &self.state.owned else { return };
        let error = known.or_else(|| {
            if tail.is_copied {
                return Some(copied(owned.id));
            }
            if tail.interrupted {
                return Some(fenced(&tail.head));
            }
            ownership_error(&self.engine.identity, &tail.head)
        });
        let ended = error.is_some();
        owned.publish(&tail.head, error.map(|error| End { error, by }));
        if ended {
            self.engine.trackers.remove(self.id);
            self.state.owned = None;
        }
    }
}

/// Commits a decision, and delivers the events that are flushed by then.
async fn commit(
    engine: &Engine,
    tail: &mut LogTail,
    durability: Durability,
    decision: impl Decide,
) -> Result<Tip> {
    let result = engine.writer.commit(tail, durability, decision).await;
    engine.sinks.deliver(tail);
    result
}

/// Returns the reason why this manager may no longer change a session that it owned; `None` if it still owns it.
fn ownership_error(identity: &Identity, head: &Head) -> Option<SessionError> {
    let id = head.id;
    match head.state() {
        SessionState::Completed { .. } => Some(SessionError::AlreadyCompleted { id }),
        SessionState::Failed { error } => {
            Some(SessionError::Failed { id, source: FailureError(error.clone()) })
        }
        SessionState::Cancelled { reason } => Some(SessionError::Cancelled { reason: reason.clone() }),
        SessionState::Created | SessionState::Running { .. } | SessionState::Paused { .. } => {
            let owner = head.lifecycle.owner.as_ref();
            owner.is_none_or(|owner| !identity.is_me(owner)).then(|| fenced(head))
        }
    }
}

fn fenced(head: &Head) -> SessionError {
    let what = match &head.lifecycle.owner {
        Some(owner) => format!("attempt {} is owned by {owner}", head.lifecycle.attempt),
        None => format!("it is {}", head.state().name()),
    };
    SessionError::Fenced { id: head.id, what }
}
