//! The errors of running a program as a session.

use session_core::{ErrorCode, SessionError, SessionId};

use crate::codes::TROUBLE;
use crate::supervisor_client::LaunchError;

/// The reason why a program does not run as a session.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The session could not be created, taken over or written.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The program could not be started. Its session has failed, if there is one.
    #[error("`{program}` could not be started")]
    Launch {
        /// The program.
        program: String,
        /// Its session; `None` if none was created.
        session: Option<SessionId>,
        /// The cause.
        #[source]
        source: LaunchError,
    },
    /// There is nothing to run again: the session was not created for a program.
    #[error("session {id} has no program to run again")]
    NoProgram {
        /// The session.
        id: SessionId,
    },
}

impl RunError {
    /// Returns the stable error code.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Session(error) => error.code(),
            Self::Launch { .. } => ErrorCode::SpawnFailed,
            Self::NoProgram { .. } => ErrorCode::InvalidArgument,
        }
    }

    /// Returns the exit code for a command that runs programs: 126 or 127 if the program is the cause, otherwise 125.
    #[must_use]
    pub const fn exit_code(&self) -> i32 {
        match self {
            Self::Launch { source, .. } => source.exit_code(),
            Self::Session(_) | Self::NoProgram { .. } => TROUBLE,
        }
    }
}
