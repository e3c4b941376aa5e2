//! How a session stands after its work: what `run` returns.

use serde::de::DeserializeOwned;

use super::PersistedSession;
use crate::error::{FailureError, Result, SessionError};
use crate::head::Head;
use crate::id::SessionId;
use crate::machine::SessionState;
use crate::reason::SessionSummary;

/// How a session stands after its work.
#[derive(Debug, Clone, PartialEq)]
#[must_use = "a session that failed is a report, not an error"]
#[non_exhaustive]
pub struct SessionReport {
    /// The session.
    pub id: SessionId,
    /// Its state, the texts whole.
    pub state: SessionState,
    /// The current view.
    pub head: Head,
}

impl From<PersistedSession> for SessionReport {
    fn from(session: PersistedSession) -> Self {
        Self { id: session.head.id, state: session.state, head: session.head }
    }
}

impl SessionReport {
    /// Whether the session ended well.
    #[must_use]
    pub const fn is_completed(&self) -> bool {
        matches!(self.state, SessionState::Completed { .. })
    }

    /// What the work returned, in this run or in the one that completed the session.
    ///
    /// # Errors
    /// What [`completed`](Self::completed) says; `INVALID_ARGUMENT` where the value is no `T`.
    pub fn result<T: DeserializeOwned>(&self) -> Result<T> {
        let result = self.completed()?.result.clone().unwrap_or_default();
        serde_json::from_value(result).map_err(|error| SessionError::Payload {
            id: self.id,
            what: "result",
            source: std::sync::Arc::new(error),
        })
    }

    /// The summary, if the session is `Completed`; for those who prefer `?` to a match.
    ///
    /// # Errors
    /// `WORK_FAILED`, `TIMEOUT`, `CANCELLED`; `CONFLICT` for a session that waits for somebody.
    pub fn completed(&self) -> Result<&SessionSummary> {
        match &self.state {
            SessionState::Completed { summary } => Ok(summary),
            SessionState::Failed { error } => {
                Err(SessionError::Failed { id: self.id, source: FailureError(error.clone()) })
            }
            SessionState::Cancelled { reason } => Err(SessionError::Cancelled { reason: reason.clone() }),
            SessionState::Created | SessionState::Running { .. } | SessionState::Paused { .. } => {
                Err(SessionError::Unfinished { id: self.id, state: self.state.name() })
            }
        }
    }
}
