//! Errors of a session manager.

use crate::code::ErrorCode;
use crate::id::SessionId;
use crate::limits::LimitError;
use crate::machine::TransitionError;
use crate::owner::Owner;
use crate::reason::{Failure, FailureCause};
use crate::storage::StorageError;

/// The result of a manager's method.
pub type Result<T, E = SessionError> = std::result::Result<T, E>;

/// An error of a session manager. Its [`code`](Self::code) has advice on what to do next.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The state of the session does not allow the change. The log is unchanged.
    #[error("session {id}")]
    Transition {
        /// The session.
        id: SessionId,
        /// The rule that would have been violated.
        #[source]
        source: TransitionError,
    },
    /// Another process owns the session, or ended it. Stop the work.
    #[error("session {id} is no longer owned by this process: {what}")]
    Fenced {
        /// The session.
        id: SessionId,
        /// The state found in the log instead.
        what: String,
    },
    /// The session's owner is alive, or may be.
    #[error("session {id} is owned by {owner}, which {}", if *proven { "is alive" } else { "may be alive" })]
    Owned {
        /// The session.
        id: SessionId,
        /// Its owner.
        owner: Box<Owner>,
        /// `true` if the owner is known to be alive; `false` if its liveness is unknown.
        proven: bool,
    },
    /// Other processes kept changing the session until the conflict timeout.
    #[error("session {id}: gave up after repeated write conflicts")]
    Contended {
        /// The session.
        id: SessionId,
    },
    /// The text matches more than one session.
    #[error("`{text}` is ambiguous: it matches {} sessions", candidates.len())]
    Ambiguous {
        /// The text that was given.
        text: String,
        /// The sessions that match.
        candidates: Vec<SessionId>,
    },
    /// An argument is invalid.
    #[error("{what}")]
    InvalidArgument {
        /// The argument and the problem.
        what: String,
    },
    /// A program could not be started.
    #[error("`{program}` could not be started")]
    Spawn {
        /// The program.
        program: String,
        /// The error of the operating system.
        #[source]
        source: std::sync::Arc<std::io::Error>,
    },
    /// A value cannot be converted from or to the requested type.
    #[error("session {id}: the {what} does not match its type")]
    Payload {
        /// The session.
        id: SessionId,
        /// The value: checkpoint or result.
        what: &'static str,
        /// The conversion error.
        #[source]
        source: std::sync::Arc<serde_json::Error>,
    },
    /// The work was cancelled.
    #[error("cancelled: {reason}")]
    Cancelled {
        /// The reason.
        reason: String,
    },
    /// The session failed.
    #[error("session {id} failed")]
    Failed {
        /// The session.
        id: SessionId,
        /// The failure.
        #[source]
        source: FailureError,
    },
    /// The session has already completed.
    #[error("session {id} has already completed")]
    AlreadyCompleted {
        /// The session.
        id: SessionId,
    },
    /// This process already runs the session.
    #[error("session {id} is already run by this process")]
    OwnedHere {
        /// The session.
        id: SessionId,
    },
    /// The session has not ended.
    #[error("session {id} has not ended: it is {state}")]
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

/// A failure as an error, for use with `?`.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct FailureError(pub Failure);

impl SessionError {
    /// Returns `true` if this reports how the session ended, so that its outcome is in the log.
    #[must_use]
    pub const fn is_outcome(&self) -> bool {
        matches!(self, Self::Cancelled { .. } | Self::Failed { .. } | Self::AlreadyCompleted { .. })
    }

    /// Returns the stable code.
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
            Self::AlreadyCompleted { .. } => ErrorCode::IllegalTransition,
            Self::Owned { .. }
            | Self::OwnedHere { .. }
            | Self::Contended { .. }
            | Self::Unfinished { .. } => ErrorCode::Conflict,
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
