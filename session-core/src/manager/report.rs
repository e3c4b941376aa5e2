//! The outcome of `run`: final state and head.

use serde::de::DeserializeOwned;

use super::PersistedSession;
use crate::error::{FailureError, Result, SessionError};
use crate::head::Head;
use crate::id::SessionId;
use crate::machine::SessionState;
use crate::reason::SessionSummary;

/// The outcome of `run`: final state and head.
#[derive(Debug, Clone, PartialEq)]
#[must_use = "a session that failed is a report, not an error"]
#[non_exhaustive]
pub struct SessionReport {
    /// The session.
    pub id: SessionId,
    /// The state, with its texts uncut.
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
    /// Returns `true` if the session completed.
    #[must_use]
    pub const fn is_completed(&self) -> bool {
        matches!(self.state, SessionState::Completed { .. })
    }

    /// Returns the value that the work returned, in this run or in the one that completed the session.
    ///
    /// # Errors
    /// Those of [`completed`](Self::completed); `INVALID_ARGUMENT` if the value is not a `T`.
    pub fn result<T: DeserializeOwned>(&self) -> Result<T> {
        let result = self.completed()?.result.clone().unwrap_or_default();
        serde_json::from_value(result).map_err(|error| SessionError::Payload {
            id: self.id,
            what: "result",
            source: std::sync::Arc::new(error),
        })
    }

    /// Returns the summary if the session is `Completed`, for use with `?` instead of a match.
    ///
    /// # Errors
    /// `WORK_FAILED`, `TIMEOUT`, `CANCELLED`; `CONFLICT` for a session that has not ended.
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
