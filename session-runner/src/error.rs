//! Why a program does not run as a session.

use session_core::{ErrorCode, SessionError, SessionId};

use crate::exit::TROUBLE;
use crate::supervisor_client::LaunchError;

/// Why a program does not run as a session.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The session could not be made, taken or kept.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The program could not be started. Its session has failed, if there is one.
    #[error("`{program}` could not be started")]
    Launch {
        /// The program.
        program: String,
        /// Its session; `None` if none was made.
        session: Option<SessionId>,
        /// What went wrong.
        #[source]
        source: LaunchError,
    },
    /// There is nothing to run again: the session was not made around a program.
    #[error("session {id} has no program that could be run again")]
    NoProgram {
        /// The session.
        id: SessionId,
    },
}

impl RunError {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Session(error) => error.code(),
            Self::Launch { .. } => ErrorCode::SpawnFailed,
            Self::NoProgram { .. } => ErrorCode::InvalidArgument,
        }
    }

    /// The exit code of a command that runs programs: 126 or 127 where the program is at fault, else 125.
    #[must_use]
    pub const fn exit_code(&self) -> i32 {
        match self {
            Self::Launch { source, .. } => source.exit_code(),
            Self::Session(_) | Self::NoProgram { .. } => TROUBLE,
        }
    }
}
