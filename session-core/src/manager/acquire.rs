//! Acquiring sessions: the first start, the takeover from a dead owner, and the continuation of an owned session.

use std::sync::Arc;

use super::engine::Engine;
use super::locked_session::LockedSession;
use super::owned_session::{OwnedSession, RestoredState};
use super::session::Session;
use super::sync_loop::sync_loop;
use crate::error::{FailureError, Result, SessionError};
use crate::event::SessionEvent;
use crate::head::Head;
use crate::id::SessionId;
use crate::log_writer::LogWriter;
use crate::machine::CancelRequest;
use crate::owner::Owner;
use crate::storage::Durability;

/// The way in which ownership is acquired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Acquire {
    /// From `Created`.
    Start,
    /// From `Paused`, or from an owner that died.
    Resume,
}

impl Acquire {
    const fn event(self, owner: Owner) -> SessionEvent {
        match self {
            Self::Start => SessionEvent::Started { owner },
            Self::Resume => SessionEvent::Resumed { owner },
        }
    }
}

/// Starts a new session, resumes one that this manager owns, or takes over one whose owner is dead.
pub(crate) async fn acquire(engine: &Arc<Engine>, id: SessionId, how: Acquire) -> Result<Session> {
    engine.check_open()?;
    let me = engine.identity.me().await?.clone();
    let mut locked = LockedSession::lock(engine, id).await;
    if let Some(owned) = locked.owned().map(Arc::clone) {
        locked.append_as_owner(Durability::Flushed, |_| Ok(vec![how.event(me.clone())])).await?;
        return Ok(Session::new(Arc::clone(engine), owned));
    }
    let mut ended = None;
    let tail = locked
        .append_as_claimant(|head, owner_status| {
            owner_status.check_unowned(head)?;
            ended = ending_of_unowned(head);
            Ok(vec![ended.clone().unwrap_or_else(|| how.event(me.clone()))])
        })
        .await?;
    match ended {
        None => {}
        Some(SessionEvent::Cancelled { reason }) => return Err(SessionError::Cancelled { reason }),
        Some(SessionEvent::Failed { error }) => {
            return Err(SessionError::Failed { id, source: FailureError(error) });
        }
        Some(_) => return Err(SessionError::AlreadyCompleted { id }),
    }
    let restored = restore_state(&engine.writer, &tail.head).await?;
    let (clock, runtime) = (Arc::clone(engine.writer.clock()), tokio::runtime::Handle::current());
    let owned = Arc::new(OwnedSession::new(&tail.head, restored, clock, runtime));
    locked.adopt(Arc::clone(&owned), tail);
    tokio::spawn(sync_loop(Arc::downgrade(engine), Arc::downgrade(&owned)));
    Ok(Session::new(Arc::clone(engine), owned))
}

/// Returns the ending that a session gets from the next process that claims it, if its log has decided that.
fn ending_of_unowned(head: &Head) -> Option<SessionEvent> {
    let cancelled = |request: &CancelRequest| SessionEvent::Cancelled { reason: request.reason.clone() };
    let result = head.lifecycle.ending_of_program();
    result.or_else(|| head.lifecycle.requests.cancel.as_ref().map(cancelled))
}

async fn restore_state(writer: &LogWriter, head: &Head) -> Result<RestoredState> {
    let id = head.id;
    let mut restored = RestoredState::default();
    if let SessionEvent::Created { config, origin, .. } = writer.event(id, 1).await? {
        restored.config = *config;
        restored.origin = origin;
    }
    if let Some(revision) = head.checkpoint
        && let SessionEvent::CheckpointSaved { state, .. } = writer.event(id, revision).await?
    {
        restored.checkpoint = Some(state);
    }
    Ok(restored)
}
