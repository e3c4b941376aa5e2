//! What a manager can answer instead of doing what it was asked.

use crate::code::ErrorCode;
use crate::id::SessionId;
use crate::limits::LimitError;
use crate::machine::TransitionError;
use crate::owner::Owner;
use crate::reason::{Failure, FailureCause};
use crate::storage::StorageError;

/// The result of a manager's method.
pub type Result<T, E = SessionError> = std::result::Result<T, E>;

/// Why a manager did not do what it was asked. [`code`](Self::code) says what to do next.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The storage.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The machine has no such transition. The log is unchanged.
    #[error("session {id}")]
    Transition {
        /// The session.
        id: SessionId,
        /// The rule that it would have broken.
        #[source]
        source: TransitionError,
    },
    /// Somebody else owns the session, or ended it. Stop the work.
    #[error("session {id} is no longer owned here: {what}")]
    Fenced {
        /// The session.
        id: SessionId,
        /// What is in the log instead.
        what: String,
    },
    /// The session's owner lives, or may.
    #[error("session {id} is run by {owner}, which {}", if *proven { "is alive" } else { "may be alive" })]
    Owned {
        /// The session.
        id: SessionId,
        /// Its owner.
        owner: Box<Owner>,
        /// Whether that it lives is known, or only that its death is not.
        proven: bool,
    },
    /// Others changed the session faster than this manager could decide.
    #[error("session {id} changes too fast")]
    Contended {
        /// The session.
        id: SessionId,
    },
    /// More than one session is meant.
    #[error("`{text}` means {} sessions", candidates.len())]
    Ambiguous {
        /// What was given.
        text: String,
        /// What it could mean.
        candidates: Vec<SessionId>,
    },
    /// An argument that makes no sense.
    #[error("{what}")]
    InvalidArgument {
        /// What is wrong with it.
        what: String,
    },
    /// A program could not be started.
    #[error("`{program}` could not be started")]
    Spawn {
        /// The program.
        program: String,
        /// What the system said.
        #[source]
        source: std::sync::Arc<std::io::Error>,
    },
    /// A value is not what its reader expects.
    #[error("the {what} of session {id} does not fit its type")]
    Payload {
        /// The session.
        id: SessionId,
        /// What does not fit.
        what: &'static str,
        /// How.
        #[source]
        source: std::sync::Arc<serde_json::Error>,
    },
    /// The work was cancelled.
    #[error("cancelled: {reason}")]
    Cancelled {
        /// Why.
        reason: String,
    },
    /// The session failed.
    #[error("session {id} failed")]
    Failed {
        /// The session.
        id: SessionId,
        /// How.
        #[source]
        source: FailureError,
    },
    /// The session has not ended: it waits for somebody.
    #[error("session {id} has not ended, it is {state}")]
    Unfinished {
        /// The session.
        id: SessionId,
        /// Its state.
        state: crate::machine::StateName,
    },
    /// The manager was shut down.
    #[error("the manager was shut down")]
    ShutDown,
}

/// A failure as an error, for those who prefer `?` to a report.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct FailureError(pub Failure);

impl SessionError {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Storage(error) => error.code(),
            Self::Transition { source, .. } => match source {
                TransitionError::IllegalTransition { .. } | TransitionError::Iteration { .. } => {
                    ErrorCode::IllegalTransition
                }
                TransitionError::Fenced { .. } | TransitionError::Attempt { .. } => ErrorCode::Fenced,
                TransitionError::Sequence { .. } | TransitionError::Flushed { .. } => ErrorCode::InvalidLog,
            },
            Self::Fenced { .. } => ErrorCode::Fenced,
            Self::Owned { .. } | Self::Contended { .. } | Self::Unfinished { .. } => ErrorCode::Conflict,
            Self::Ambiguous { .. } => ErrorCode::Ambiguous,
            Self::InvalidArgument { .. } | Self::Payload { .. } => ErrorCode::InvalidArgument,
            Self::Spawn { .. } => ErrorCode::SpawnFailed,
            Self::Cancelled { .. } => ErrorCode::Cancelled,
            Self::Failed { source, .. } => match source.0.cause {
                FailureCause::Timeout => ErrorCode::Timeout,
                FailureCause::Spawn => ErrorCode::SpawnFailed,
                FailureCause::Work | FailureCause::Crash | FailureCause::Panic => ErrorCode::WorkFailed,
            },
            Self::ShutDown => ErrorCode::Closed,
        }
    }
}

impl From<LimitError> for SessionError {
    fn from(error: LimitError) -> Self {
        Self::Storage(error.into())
    }
}
