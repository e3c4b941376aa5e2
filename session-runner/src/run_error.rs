//! The errors of running a program as a session.

use session_core::{ErrorCode, SessionError, SessionId};

use crate::exit::TROUBLE;
use crate::supervisor::client::LaunchError;
use crate::workplace::WorkplaceError;

/// The reason why a program does not run as a session.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The session could not be created, taken over or written.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The program could not be started. Its session has failed, if there is one.
    #[error("`{program}` could not be started: {error}")]
    Launch {
        /// The program.
        program: String,
        /// Its session; `None` if none was created.
        session: Option<SessionId>,
        /// The cause.
        error: LaunchError,
    },
    /// The place in which the program is to run cannot be used. The program was not started.
    #[error("{error}")]
    Place {
        /// The session.
        session: SessionId,
        /// The cause.
        error: WorkplaceError,
    },
    /// There is nothing to run again: the session was not created for a program.
    #[error("session {id} has no program to run again: it was not created for one")]
    NoProgram {
        /// The session.
        id: SessionId,
    },
}

impl RunError {
    /// Returns the stable error code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Session(error) => error.code(),
            Self::Launch { error: LaunchError::Limit(_), .. } => ErrorCode::SystemLimit,
            Self::Launch { .. } => ErrorCode::SpawnFailed,
            Self::Place { error, .. } => error.code,
            Self::NoProgram { .. } => ErrorCode::InvalidArgument,
        }
    }

    /// Returns the exit code for a command that runs programs: 126 or 127 if the program is the cause, otherwise 125.
    #[must_use]
    pub const fn exit_code(&self) -> i32 {
        match self {
            Self::Launch { error, .. } => error.exit_code(),
            Self::Session(_) | Self::Place { .. } | Self::NoProgram { .. } => TROUBLE,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::io;

    use session_core::StorageError;

    use super::*;
    use crate::output::OutputError;
    use crate::report::ReportError;

    const ID: &str = "01010101-0101-0101-0101-010101010101";

    fn denied() -> io::Error {
        io::Error::from_raw_os_error(13)
    }

    /// Returns the causes of a launch, each with a part of its text. A new variant must be decided here.
    fn launch_parts(error: &LaunchError) -> [&'static str; 2] {
        match error {
            LaunchError::NoSupervisor => ["cannot act as a supervisor", "supervise_main"],
            LaunchError::Unanswered { .. } => ["the supervisor ended before", "supervise_main"],
            LaunchError::Supervisor(_) => ["the supervisor could not be started", "Permission denied"],
            LaunchError::Limit(_) => ["no process or thread could be started", "`ulimit -u`"],
            LaunchError::Terminal(_) => ["cannot create a terminal", "Permission denied"],
            LaunchError::Directory(_) => ["cannot enter the working directory", "Permission denied"],
            LaunchError::NotFound(_) => ["no such program", "Permission denied"],
            LaunchError::NotExecutable(_) => ["not executable", "Permission denied"],
        }
    }

    fn launches() -> Vec<LaunchError> {
        vec![
            LaunchError::NoSupervisor,
            LaunchError::Unanswered { status: std::process::ExitStatus::default() },
            LaunchError::Supervisor(denied()),
            LaunchError::Limit(io::Error::from_raw_os_error(11)),
            LaunchError::Terminal(denied()),
            LaunchError::Directory(denied()),
            LaunchError::NotFound(denied()),
            LaunchError::NotExecutable(denied()),
        ]
    }

    #[track_caller]
    fn assert_complete(error: &dyn Error, parts: &[&str]) {
        let text = error.to_string();
        for part in parts {
            assert!(text.contains(part), "`{text}` lacks `{part}`");
        }
        assert!(error.source().is_none(), "{error:?} has a cause that is not in `{text}`");
    }

    /// Regression: a failed start was `… could not be started`, without the reason.
    #[test]
    fn failed_starts_name_program_and_reason() {
        for error in launches() {
            let [what, why] = launch_parts(&error);
            assert_complete(&error, &[what, why]);
            let program = "make".to_owned();
            let launch = RunError::Launch { program, session: None, error };
            assert_complete(&launch, &["`make` could not be started", what, why]);
        }
    }

    #[test]
    fn run_output_and_report_errors_are_complete() {
        let id = SessionId::from_bytes([1; 16]);
        let not_found = SessionError::from(StorageError::NotFound { id });
        assert_complete(&RunError::from(not_found), &["no session", ID]);
        assert_complete(&RunError::NoProgram { id }, &[ID, "no program", "not created for one"]);
        assert_complete(&OutputError::Busy { id }, &[ID, "written by another process"]);
        assert_complete(&OutputError::Damaged { id, offset: 7 }, &[ID, "damaged at byte 7"]);
        let io = OutputError::Io { action: "write", path: "/o".into(), error: denied() };
        assert_complete(&io, &["cannot write /o", "Permission denied"]);
        assert_complete(&ReportError::Fenced(denied()), &["no longer owns the session", "Permission denied"]);
        let refused = ReportError::Refused { code: "FENCED".into(), message: "attempt 1 is over".into() };
        assert_complete(&refused, &["attempt 1 is over"]);
        assert_complete(&ReportError::Io(denied()), &["cannot communicate", "Permission denied"]);
    }
}
