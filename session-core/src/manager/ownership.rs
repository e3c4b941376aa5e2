//! How a session comes to be owned here, and how it is let go: start, takeover, the judgement of owners.

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

/// Who answers for a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OwnerStatus {
    /// Nobody: whoever asks also answers.
    Unowned,
    /// This manager.
    Mine,
    /// An owner that is dead: with `interrupted` before, whoever asks also answers.
    Orphaned(Evidence),
    /// An owner that lives (`proven`) or may.
    Foreign {
        /// Whether that it lives is known.
        proven: bool,
    },
}

impl Engine {
    /// Judges who answers for a session. The log is looked at by whoever acts on the judgement: it says whether the
    /// owner is still the one that was judged.
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

    /// Appends events, to a session that is not owned here, that depend on who answers for it; decides anew whenever
    /// others were faster.
    pub(crate) async fn commit_as_claimant(
        &self,
        tail: &mut LogTail,
        mut decide: impl FnMut(&Head, &OwnerStatus) -> Result<Vec<SessionEvent>> + Send,
    ) -> Result<()> {
        let deadline = tokio::time::Instant::now() + self.options.conflict_timeout;
        loop {
            let owner_status = match self.owner_status(&tail.head).await? {
                // The log says that this manager owns it, and no work here does: the call that took it was dropped.
                OwnerStatus::Mine => OwnerStatus::Orphaned(Evidence::Dropped),
                judged @ (OwnerStatus::Unowned | OwnerStatus::Orphaned(_) | OwnerStatus::Foreign { .. }) => {
                    judged
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

    /// Starts a session that nobody has started, or takes one over whose owner is gone.
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

    /// Keeps a session whose log says that this manager owns it.
    fn adopt(
        self: &Arc<Self>,
        state: &mut EntryState,
        mut tail: LogTail,
        restored: RestoredState,
    ) -> Session {
        // What interrupted owners before this one is no reason to let go of it.
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

    /// One event of a log.
    pub(crate) async fn event(&self, id: SessionId, revision: u64) -> Result<SessionEvent> {
        let stored = self.storage.record(id, revision).await?.ok_or(StorageError::NotFound { id })?;
        Ok(decode(id, &stored)?.event)
    }

    /// Gives up a session that is owned here, so that others can take it up at once.
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

/// Which way a session comes to be owned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Acquire {
    /// From `Created`.
    Start,
    /// From `Paused`, or from an owner that died.
    Resume,
}

/// A request is made before it is known who answers it; what answers it comes after `interrupted`.
const fn is_request(event: &SessionEvent) -> bool {
    matches!(
        event,
        SessionEvent::CancelRequested { .. }
            | SessionEvent::PauseRequested { .. }
            | SessionEvent::ResumeRequested { .. }
            | SessionEvent::InputProvided { .. }
    )
}

/// The session has an owner that lives, or may.
pub(crate) fn owned_error(head: &Head, proven: bool) -> SessionError {
    match &head.lifecycle.owner {
        Some(owner) => SessionError::Owned { id: head.id, owner: Box::new(owner.clone()), proven },
        None => SessionError::Contended { id: head.id },
    }
}
