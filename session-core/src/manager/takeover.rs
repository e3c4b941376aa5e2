//! How a session comes to be owned here, and how it is let go: start, takeover, the judgement of owners.

use std::sync::Arc;

use super::cell::{CellState, Writer};
use super::engine::{Appended, Engine, decode};
use super::live::{Inheritance, Live, keep_in_step};
use super::session::Session;
use crate::error::{Result, SessionError};
use crate::event::SessionEvent;
use crate::head::Head;
use crate::id::SessionId;
use crate::owner::Evidence;
use crate::presence::Liveness;
use crate::storage::{Durability, SessionStorageExt as _, StorageError};

/// Who answers for a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Custody {
    /// Nobody: whoever asks also answers.
    Nobody,
    /// This manager.
    Me,
    /// An owner that is dead: with `interrupted` before, whoever asks also answers.
    Dead(Evidence),
    /// An owner that lives (`proven`) or may.
    Other {
        /// Whether that it lives is known.
        proven: bool,
    },
}

impl Engine {
    /// Judges who answers for a session. The log is looked at by whoever acts on the judgement: it says whether the
    /// owner is still the one that was judged.
    pub(crate) async fn custody(&self, head: &Head) -> Result<Custody> {
        let Some(owner) = &head.lifecycle.owner else { return Ok(Custody::Nobody) };
        if self.is_me(owner) {
            return Ok(Custody::Me);
        }
        Ok(match self.liveness(owner).await? {
            Liveness::Dead { evidence } => Custody::Dead(evidence),
            Liveness::Alive => Custody::Other { proven: true },
            Liveness::Unknown { .. } => Custody::Other { proven: false },
        })
    }

    /// Appends events, to a session that is not owned here, that depend on who answers for it; decides anew whenever
    /// others were faster.
    pub(crate) async fn commit_judged(
        &self,
        writer: &mut Writer,
        mut decide: impl FnMut(&Head, &Custody) -> Result<Vec<SessionEvent>> + Send,
    ) -> Result<()> {
        let give_up = tokio::time::Instant::now() + self.options.patience;
        loop {
            let custody = match self.custody(&writer.head).await? {
                // The log says that this manager owns it, and no work here does: the call that took it was dropped.
                Custody::Me => Custody::Dead(Evidence::Dropped),
                judged @ (Custody::Nobody | Custody::Dead(_) | Custody::Other { .. }) => judged,
            };
            let mut events = decide(&writer.head, &custody)?;
            if let Custody::Dead(evidence) = custody
                && !events.is_empty()
            {
                let at = events.iter().position(|event| !is_request(event)).unwrap_or(events.len());
                events.insert(at, SessionEvent::Interrupted { evidence });
            }
            match self.append(writer, events, Durability::Flushed).await? {
                Appended::Done(_) => return Ok(()),
                Appended::Moved if tokio::time::Instant::now() >= give_up => {
                    return Err(SessionError::Contended { id: writer.head.id });
                }
                Appended::Moved => {}
            }
        }
    }

    /// Starts a session that nobody has started, or takes one over whose owner is gone.
    pub(crate) async fn take(self: &Arc<Self>, id: SessionId, how: Take) -> Result<Session> {
        self.check_open()?;
        let me = self.me().await?.clone();
        let cell = self.cell(id);
        let mut state = cell.state.lock().await;
        if let Some((live, _)) = &state.owned {
            let live = Arc::clone(live);
            return match how {
                Take::Resume => {
                    self.append_owned(&mut state, id, Durability::Flushed, |_| {
                        Ok(vec![SessionEvent::Resumed { owner: me.clone() }])
                    })
                    .await?;
                    Ok(Session::new(Arc::clone(self), live))
                }
                Take::Start => {
                    self.append_owned(&mut state, id, Durability::Flushed, |_| {
                        Ok(vec![SessionEvent::Started { owner: me.clone() }])
                    })
                    .await?;
                    Ok(Session::new(Arc::clone(self), live))
                }
            };
        }
        let mut writer = self.load(id).await?;
        let mut cancelled = None;
        let mut answer = None;
        self.commit_judged(&mut writer, |head, custody| {
            if let Custody::Other { proven } = custody {
                return Err(owned(head, *proven));
            }
            cancelled.clone_from(&head.lifecycle.requests.cancel);
            answer = head.lifecycle.requests.answer;
            Ok(match (&cancelled, how) {
                (Some(request), _) => vec![SessionEvent::Cancelled { reason: request.reason.clone() }],
                (None, Take::Start) => vec![SessionEvent::Started { owner: me.clone() }],
                (None, Take::Resume) => vec![SessionEvent::Resumed { owner: me.clone() }],
            })
        })
        .await?;
        if let Some(request) = cancelled {
            return Err(SessionError::Cancelled { reason: request.reason });
        }
        let inherited = self.inherit(&writer.head, answer).await?;
        Ok(self.own(&mut state, writer, inherited))
    }

    /// Keeps a session whose log says that this manager owns it.
    fn own(self: &Arc<Self>, state: &mut CellState, mut writer: Writer, inherited: Inheritance) -> Session {
        // What interrupted owners before this one is no reason to let go of it.
        writer.interrupted = false;
        let live = Arc::new(Live::new(self, &writer.head, inherited));
        state.owned = Some((Arc::clone(&live), writer));
        tokio::spawn(keep_in_step(Arc::downgrade(self), Arc::downgrade(&live)));
        Session::new(Arc::clone(self), live)
    }

    async fn inherit(&self, head: &Head, answer: Option<u64>) -> Result<Inheritance> {
        let id = head.id;
        let mut inherited = Inheritance::default();
        if let SessionEvent::Created { config, origin, .. } = self.event(id, 1).await? {
            inherited.config = *config;
            inherited.origin = origin;
        }
        if let Some(revision) = head.checkpoint
            && let SessionEvent::CheckpointSaved { state, .. } = self.event(id, revision).await?
        {
            inherited.checkpoint = Some(state);
        }
        if let Some(revision) = answer
            && let SessionEvent::InputProvided { value, .. } = self.event(id, revision).await?
        {
            inherited.answer = Some(value);
        }
        Ok(inherited)
    }

    /// One event of a log.
    pub(crate) async fn event(&self, id: SessionId, revision: u64) -> Result<SessionEvent> {
        let stored = self.storage.record(id, revision).await?.ok_or(StorageError::NotFound { id })?;
        Ok(decode(id, &stored)?.event)
    }

    /// Gives up a session that is owned here, so that others can take it up at once.
    pub(crate) async fn let_go(&self, id: SessionId, evidence: Evidence) -> Result<()> {
        let cell = self.cell(id);
        let mut state = cell.state.lock().await;
        let (live, _) = state.live(id)?;
        let live = Arc::clone(live);
        self.append_owned(&mut state, id, Durability::Flushed, |_| {
            Ok(vec![SessionEvent::Interrupted { evidence: evidence.clone() }])
        })
        .await?;
        live.end();
        Ok(())
    }
}

/// Which way a session comes to be owned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Take {
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
pub(crate) fn owned(head: &Head, proven: bool) -> SessionError {
    match &head.lifecycle.owner {
        Some(owner) => SessionError::Owned { id: head.id, owner: Box::new(owner.clone()), proven },
        None => SessionError::Contended { id: head.id },
    }
}
