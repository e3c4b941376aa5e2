//! Errors of a session manager.

use std::error::Error;
use std::fmt;

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
///
/// `Display` is complete: it includes the cause. [`source`](Error::source) therefore returns only what lies behind that
/// cause; the cause itself, with its type, is the field `source`.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum SessionError {
    /// The storage failed.
    Storage(StorageError),
    /// The state of the session does not allow the change. The log is unchanged.
    Transition {
        /// The session.
        id: SessionId,
        /// The rule that would have been violated.
        source: TransitionError,
    },
    /// Another process owns the session, or ended it. Stop the work.
    Fenced {
        /// The session.
        id: SessionId,
        /// The state found in the log instead.
        what: String,
    },
    /// The session's owner is alive, or may be.
    Owned {
        /// The session.
        id: SessionId,
        /// Its owner.
        owner: Box<Owner>,
        /// `true` if the owner is known to be alive; `false` if its liveness is unknown.
        proven: bool,
    },
    /// Other processes kept changing the session until the conflict timeout.
    Contended {
        /// The session.
        id: SessionId,
    },
    /// The text matches more than one session.
    Ambiguous {
        /// The text that was given.
        text: String,
        /// The sessions that match.
        candidates: Vec<SessionId>,
    },
    /// An argument is invalid.
    InvalidArgument {
        /// The argument and the problem.
        what: String,
    },
    /// A program could not be started.
    Spawn {
        /// The program.
        program: String,
        /// The error of the operating system.
        source: std::sync::Arc<std::io::Error>,
    },
    /// A value cannot be converted from or to the requested type.
    Payload {
        /// The session.
        id: SessionId,
        /// The value: checkpoint or result.
        what: &'static str,
        /// The conversion error.
        source: std::sync::Arc<serde_json::Error>,
    },
    /// The work was cancelled.
    Cancelled {
        /// The reason.
        reason: String,
    },
    /// The session failed.
    Failed {
        /// The session.
        id: SessionId,
        /// The failure.
        source: FailureError,
    },
    /// The session has already completed.
    AlreadyCompleted {
        /// The session.
        id: SessionId,
    },
    /// This process already runs the session.
    OwnedHere {
        /// The session.
        id: SessionId,
    },
    /// The session has not ended.
    Unfinished {
        /// The session.
        id: SessionId,
        /// Its state.
        state: crate::machine::StateName,
    },
    /// The session has lost its owner, but processes of its program are left: its end cannot be recorded yet.
    StillRunning {
        /// The session.
        id: SessionId,
        /// The ids of the processes; none if only the process that supervises them is known to be left.
        processes: Vec<u32>,
    },
    /// The manager was shut down.
    ShutDown,
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Storage(error) => fmt::Display::fmt(error, f),
            Self::Transition { id, source } => write!(f, "session {id}: {source}"),
            Self::Fenced { id, what } => {
                write!(f, "session {id} is no longer owned by this process: {what}")
            }
            Self::Owned { id, owner, proven } => {
                let liveness = if *proven { "is alive" } else { "may be alive" };
                write!(f, "session {id} is owned by {owner}, which {liveness}")
            }
            Self::Contended { id } => write!(f, "session {id}: gave up after repeated write conflicts"),
            Self::Ambiguous { text, candidates } => {
                write!(f, "`{text}` is ambiguous: it matches {} sessions", candidates.len())
            }
            Self::InvalidArgument { what } => f.write_str(what),
            Self::Spawn { program, source } => write!(f, "`{program}` could not be started: {source}"),
            Self::Payload { id, what, source } => {
                write!(f, "session {id}: the {what} does not match its type: {source}")
            }
            Self::Cancelled { reason } => write!(f, "the work was cancelled: {reason}"),
            Self::Failed { id, source } => write!(f, "session {id} failed: {source}"),
            Self::AlreadyCompleted { id } => write!(f, "session {id} has already completed"),
            Self::OwnedHere { id } => write!(f, "session {id} is already run by this process"),
            Self::Unfinished { id, state } => write!(f, "session {id} has not ended: it is {state}"),
            Self::StillRunning { id, processes } if processes.is_empty() => {
                write!(f, "the program of session {id} is still being ended")
            }
            Self::StillRunning { id, processes } => {
                write!(f, "processes of session {id} could not be ended: pid")?;
                processes.iter().try_for_each(|pid| write!(f, " {pid}"))
            }
            Self::ShutDown => f.write_str("the manager was shut down"),
        }
    }
}

impl Error for SessionError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Storage(error) => error.source(),
            Self::Transition { source, .. } => source.source(),
            Self::Spawn { source, .. } => source.source(),
            Self::Payload { source, .. } => source.source(),
            Self::Failed { source, .. } => source.source(),
            Self::Fenced { .. }
            | Self::Owned { .. }
            | Self::OwnedHere { .. }
            | Self::AlreadyCompleted { .. }
            | Self::Contended { .. }
            | Self::Ambiguous { .. }
            | Self::InvalidArgument { .. }
            | Self::Cancelled { .. }
            | Self::Unfinished { .. }
            | Self::StillRunning { .. }
            | Self::ShutDown => None,
        }
    }
}

impl From<StorageError> for SessionError {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
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
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Storage(error) => error.code(),
            Self::Transition { source, .. } => match source {
                TransitionError::IllegalTransition { .. }
                | TransitionError::Iteration { .. }
                | TransitionError::ItemBegins { .. } => ErrorCode::IllegalTransition,
                TransitionError::Fenced { .. } | TransitionError::Attempt { .. } => ErrorCode::Fenced,
                TransitionError::Sequence { .. } | TransitionError::Flushed { .. } => ErrorCode::InvalidLog,
            },
            Self::Fenced { .. } => ErrorCode::Fenced,
            Self::AlreadyCompleted { .. } => ErrorCode::IllegalTransition,
            Self::Owned { .. }
            | Self::OwnedHere { .. }
            | Self::Contended { .. }
            | Self::StillRunning { .. }
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

#[cfg(test)]
mod tests;
