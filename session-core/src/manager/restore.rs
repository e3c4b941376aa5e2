//! Loads a session whole, from as few records of its log as tell the whole of it.

use super::PersistedSession;
use super::engine::{Engine, decode};
use crate::error::{Result, SessionError};
use crate::event::SessionEvent;
use crate::head::Head;
use crate::id::SessionId;
use crate::machine::SessionState;
use crate::reason::PauseReason;
use crate::storage::{SessionStorageExt as _, StorageError};

impl Engine {
    pub(crate) async fn restore(&self, id: SessionId) -> Result<PersistedSession> {
        let head = self.storage.head(id).await?.ok_or(StorageError::NotFound { id })?;
        let SessionEvent::Created { config, origin, .. } = self.event(id, 1).await? else {
            return Err(SessionError::from(StorageError::Corrupt {
                id,
                readable: 0,
                what: "record 1 is not `created`".to_owned(),
            }));
        };
        let mut checkpoint = None;
        if let Some(revision) = head.checkpoint
            && let SessionEvent::CheckpointSaved { state, .. } = self.event(id, revision).await?
        {
            checkpoint = Some(state);
        }
        let state = self.whole_state(&head).await?;
        Ok(PersistedSession { head, config: *config, origin, state, checkpoint })
    }

    /// The state with its texts as the log has them. Looks back from the end of the log to the event that made it.
    async fn whole_state(&self, head: &Head) -> Result<SessionState> {
        let mut revision = head.tip.revision;
        while revision > 0 {
            if matches!(head.state(), SessionState::Created | SessionState::Running { .. }) {
                break;
            }
            let Some(stored) = self.storage.record(head.id, revision).await? else { break };
            match (decode(head.id, &stored)?.event, head.state()) {
                (SessionEvent::Completed { summary }, _) => return Ok(SessionState::Completed { summary }),
                (SessionEvent::Failed { error }, _) => return Ok(SessionState::Failed { error }),
                (SessionEvent::Cancelled { reason }, _) => return Ok(SessionState::Cancelled { reason }),
                (SessionEvent::Paused { reason }, _) => return Ok(SessionState::Paused { reason }),
                // Other pauses outlive the `interrupted` that only took their owner away.
                (
                    SessionEvent::Interrupted { evidence },
                    SessionState::Paused { reason: PauseReason::Interrupted(_) },
                ) => {
                    return Ok(SessionState::Paused {
                        reason: PauseReason::Interrupted(evidence.to_string()),
                    });
                }
                _ => revision -= 1,
            }
        }
        Ok(head.state().clone())
    }
}
