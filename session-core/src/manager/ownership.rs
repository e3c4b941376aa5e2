//! Ownership of sessions: acquiring (start, takeover), releasing, and determining the current owner.

use std::sync::Arc;

use super::engine::{Appended, Engine, decode};
use super::owned_session::{OwnedSession, RestoredState, sync_loop};
use super::session::Session;
use super::session_entry::{EntryState, LogTail};
use crate::error::{Result, SessionError};
use crate::event::SessionEvent;
use crate::head::Head;
use crate::id::SessionId;
use crate::owner::Evidence;
use crate::presence::Liveness;
use crate::storage::{Durability, SessionStorageExt as _, StorageError};

/// The owner of a session, as seen by this manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OwnerStatus {
    /// No owner: the process that requests something also carries it out.
    Unowned,
    /// This manager.
    Mine,
    /// An owner that is dead. After an `interrupted`, the session is treated as unowned.
    Orphaned(Evidence),
    /// Another owner that is alive, or may be.
    Foreign {
        /// `true` if the owner is known to be alive.
        proven: bool,
    },
}

impl Engine {
    /// Determines the owner of a session. The result may be stale; the append that follows names the tip and so detects
    /// that.
    pub(crate) async fn owner_status(&self, head: &Head) -> Result<OwnerStatus> {
        let Some(owner) = &head.lifecycle.owner else { return Ok(OwnerStatus::Unowned) };
        if self.is_me(owner) {
            return Ok(OwnerStatus::Mine);
        }
        Ok(match self.liveness(owner).await? {
            Liveness::Dead { evidence } => OwnerStatus::Orphaned(evidence),
            Liveness::Alive => OwnerStatus::Foreign { proven: true },
            Liveness::Unknown { .. } => OwnerStatus::Foreign { proven: false },
        })
    }

    /// Appends events, which depend on the owner, to a session that this manager does not own. After each conflict,
    /// determines the owner and decides again.
    pub(crate) async fn commit_as_claimant(
        &self,
        tail: &mut LogTail,
        mut decide: impl FnMut(&Head, &OwnerStatus) -> Result<Vec<SessionEvent>> + Send,
    ) -> Result<()> {
        let deadline = tokio::time::Instant::now() + self.options.conflict_timeout;
        loop {
            let owner_status = match self.owner_status(&tail.head).await? {
                // The log names this manager as the owner, but it holds no such session: the call that acquired it was
                // dropped.
                OwnerStatus::Mine => OwnerStatus::Orphaned(Evidence::Dropped),
                status @ (OwnerStatus::Unowned | OwnerStatus::Orphaned(_) | OwnerStatus::Foreign { .. }) => {
                    status
                }
            };
            let mut events = decide(&tail.head, &owner_status)?;
            if let OwnerStatus::Orphaned(evidence) = owner_status
                && !events.is_empty()
            {
                let at = events.iter().position(|event| !is_request(event)).unwrap_or(events.len());
                events.insert(at, SessionEvent::Interrupted { evidence });
            }
            match self.append(tail, events, Durability::Flushed).await? {
                Appended::Done(_) => return Ok(()),
                Appended::Moved if tokio::time::Instant::now() >= deadline => {
                    return Err(SessionError::Contended { id: tail.head.id });
                }
                Appended::Moved => {}
            }
        }
    }

    /// Starts a new session, resumes one that this manager owns, or takes over one whose owner is dead.
    pub(crate) async fn acquire(self: &Arc<Self>, id: SessionId, how: Acquire) -> Result<Session> {
        self.check_open()?;
        let me = self.me().await?.clone();
        let entry = self.entry(id);
        let mut state = entry.state.lock().await;
        if let Some((owned, _)) = &state.owned {
            let owned = Arc::clone(owned);
            return match how {
                Acquire::Resume => {
                    self.append_owned(&mut state, id, Durability::Flushed, |_| {
                        Ok(vec![SessionEvent::Resumed { owner: me.clone() }])
                    })
                    .await?;
                    Ok(Session::new(Arc::clone(self), owned))
                }
                Acquire::Start => {
                    self.append_owned(&mut state, id, Durability::Flushed, |_| {
                        Ok(vec![SessionEvent::Started { owner: me.clone() }])
                    })
                    .await?;
                    Ok(Session::new(Arc::clone(self), owned))
                }
            };
        }
        let mut tail = self.load(id).await?;
        let mut cancelled = None;
        let mut answer = None;
        self.commit_as_claimant(&mut tail, |head, owner_status| {
            if let OwnerStatus::Foreign { proven } = owner_status {
                return Err(owned_error(head, *proven));
            }
            cancelled.clone_from(&head.lifecycle.requests.cancel);
            answer = head.lifecycle.requests.answer;
            Ok(match (&cancelled, how) {
                (Some(request), _) => vec![SessionEvent::Cancelled { reason: request.reason.clone() }],
                (None, Acquire::Start) => vec![SessionEvent::Started { owner: me.clone() }],
                (None, Acquire::Resume) => vec![SessionEvent::Resumed { owner: me.clone() }],
            })
        })
        .await?;
        if let Some(request) = cancelled {
            return Err(SessionError::Cancelled { reason: request.reason });
        }
        let restored = self.restore_state(&tail.head, answer).await?;
        Ok(self.adopt(&mut state, tail, restored))
    }

    /// Registers a session that this manager owns according to its log.
    fn adopt(
        self: &Arc<Self>,
        state: &mut EntryState,
        mut tail: LogTail,
        restored: RestoredState,
    ) -> Session {
        // Interruptions of previous owners do not concern this one.
        tail.interrupted = false;
        let owned = Arc::new(OwnedSession::new(self, &tail.head, restored));
        state.owned = Some((Arc::clone(&owned), tail));
        tokio::spawn(sync_loop(Arc::downgrade(self), Arc::downgrade(&owned)));
        Session::new(Arc::clone(self), owned)
    }

    async fn restore_state(&self, head: &Head, answer: Option<u64>) -> Result<RestoredState> {
        let id = head.id;
        let mut restored = RestoredState::default();
        if let SessionEvent::Created { config, origin, .. } = self.event(id, 1).await? {
            restored.config = *config;
            restored.origin = origin;
        }
        if let Some(revision) = head.checkpoint
            && let SessionEvent::CheckpointSaved { state, .. } = self.event(id, revision).await?
        {
            restored.checkpoint = Some(state);
        }
        if let Some(revision) = answer
            && let SessionEvent::InputProvided { value, .. } = self.event(id, revision).await?
        {
            restored.answer = Some(value);
        }
        Ok(restored)
    }

    /// Reads one event of a log.
    pub(crate) async fn event(&self, id: SessionId, revision: u64) -> Result<SessionEvent> {
        let stored = self.storage.record(id, revision).await?.ok_or(StorageError::NotFound { id })?;
        Ok(decode(id, &stored)?.event)
    }

    /// Releases a session that this manager owns, so that other processes can take it over immediately.
    pub(crate) async fn release(&self, id: SessionId, evidence: Evidence) -> Result<()> {
        let entry = self.entry(id);
        let mut state = entry.state.lock().await;
        let (owned, _) = state.require_owned(id)?;
        let owned = Arc::clone(owned);
        self.append_owned(&mut state, id, Durability::Flushed, |_| {
            Ok(vec![SessionEvent::Interrupted { evidence: evidence.clone() }])
        })
        .await?;
        owned.end();
        Ok(())
    }
}

/// The way in which ownership is acquired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Acquire {
    /// From `Created`.
    Start,
    /// From `Paused`, or from an owner that died.
    Resume,
}

/// Returns `true` for a request. Requests go before the `interrupted` of a dead owner, all other events after it.
const fn is_request(event: &SessionEvent) -> bool {
    matches!(
        event,
        SessionEvent::CancelRequested { .. }
            | SessionEvent::PauseRequested { .. }
            | SessionEvent::ResumeRequested { .. }
            | SessionEvent::InputProvided { .. }
    )
}

/// Creates the error for a session whose owner is alive, or may be.
pub(crate) fn owned_error(head: &Head, proven: bool) -> SessionError {
    match &head.lifecycle.owner {
        Some(owner) => SessionError::Owned { id: head.id, owner: Box::new(owner.clone()), proven },
        None => SessionError::Contended { id: head.id },
    }
}
