//! Loading a full session from as few records of its log as possible, and the history of its work from all of them.

use std::num::NonZeroUsize;

use super::{PAGE, SessionStorage, StorageError};
use crate::event::SessionEvent;
use crate::head::{Head, PersistedSession};
use crate::history::WorkHistory;
use crate::id::SessionId;
use crate::machine::SessionState;
use crate::reason::{Interruption, PauseReason};
use crate::record::{Record, StoredRecord};

pub(super) async fn load<S>(storage: &S, id: SessionId) -> Result<PersistedSession, StorageError>
where
    S: SessionStorage + ?Sized,
{
    let head = storage.head(id).await?.ok_or(StorageError::NotFound { id })?;
    let SessionEvent::Created { config, origin, .. } = event(storage, id, 1).await? else {
        return Err(StorageError::Corrupt { id, readable: 0, what: "record 1 is not `created`".to_owned() });
    };
    let mut checkpoint = None;
    if let Some(revision) = head.checkpoint
        && let SessionEvent::CheckpointSaved { state, .. } = event(storage, id, revision).await?
    {
        checkpoint = Some(state);
    }
    let (mut worktree, mut planned_worktree) = (None, None);
    if let Some(place) = &head.place {
        let recorded = event(storage, id, place.revision).await?;
        if let SessionEvent::WorktreeMade { worktree: made } = recorded {
            worktree = Some(*made);
        } else if let SessionEvent::WorktreeIntended { plan } = recorded {
            planned_worktree = Some(*plan);
        }
    }
    let state = full_state(storage, &head).await?;
    Ok(PersistedSession { head, config: *config, origin, state, worktree, planned_worktree, checkpoint })
}

pub(super) async fn history<S>(storage: &S, id: SessionId) -> Result<WorkHistory, StorageError>
where
    S: SessionStorage + ?Sized,
{
    let (mut history, mut after) = (WorkHistory::new(), 0);
    loop {
        let page = storage.records(id, after, PAGE).await?.records;
        let Some(last) = page.last() else { return Ok(history) };
        after = last.revision();
        for stored in &page {
            history.apply(&decode(id, stored)?);
        }
    }
}

/// Reads one record; `None` if the log has no such revision.
pub(crate) async fn record<S>(
    storage: &S,
    id: SessionId,
    revision: u64,
) -> Result<Option<StoredRecord>, StorageError>
where
    S: SessionStorage + ?Sized,
{
    let page = storage.records(id, revision.saturating_sub(1), NonZeroUsize::MIN).await?;
    Ok(page.records.into_iter().next().filter(|record| record.revision() == revision))
}

async fn event<S>(storage: &S, id: SessionId, revision: u64) -> Result<SessionEvent, StorageError>
where
    S: SessionStorage + ?Sized,
{
    let stored = record(storage, id, revision).await?.ok_or(StorageError::NotFound { id })?;
    Ok(decode(id, &stored)?.event)
}

fn decode(id: SessionId, stored: &StoredRecord) -> Result<Record, StorageError> {
    stored.decode().map_err(|error| StorageError::undecodable(id, stored.revision(), error))
}

/// Returns the state with its texts uncut. Reads backwards from the end of the log to the event that set it.
async fn full_state<S>(storage: &S, head: &Head) -> Result<SessionState, StorageError>
where
    S: SessionStorage + ?Sized,
{
    let mut revision = head.tip.revision;
    while revision > 0 {
        if matches!(head.state(), SessionState::Created | SessionState::Running { .. }) {
            break;
        }
        let Some(stored) = record(storage, head.id, revision).await? else { break };
        match (decode(head.id, &stored)?.event, head.state()) {
            (SessionEvent::Completed { summary }, _) => return Ok(SessionState::Completed { summary }),
            (SessionEvent::Failed { error }, _) => return Ok(SessionState::Failed { error }),
            (SessionEvent::Cancelled { reason }, _) => return Ok(SessionState::Cancelled { reason }),
            (SessionEvent::Paused { reason }, _) => return Ok(SessionState::Paused { reason }),
            // Other pauses outlive an `interrupted`, which then only removes their owner.
            (
                SessionEvent::Interrupted { evidence },
                SessionState::Paused { reason: PauseReason::Interrupted(Interruption { kind, .. }) },
            ) => {
                let interruption = Interruption { kind: *kind, text: evidence.to_string() };
                return Ok(SessionState::Paused { reason: PauseReason::Interrupted(interruption) });
            }
            _ => revision -= 1,
        }
    }
    Ok(head.state().clone())
}
