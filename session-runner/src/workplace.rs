//! The place in which a session's program runs, if it is not the directory in which it was started: a git worktree.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use session_core::async_trait::async_trait;
use session_core::{ErrorCode, Session};

/// Prepares the places in which programs run.
#[async_trait]
pub trait Workplace: fmt::Debug + Send + Sync {
    /// Prepares the place of a session that this process owns, before each start of its program; `None` if the program runs
    /// in the directory that its command names. Dropping the future is harmless: the next call completes what it began.
    ///
    /// # Errors
    /// If there is no such place, or it cannot be used. The program is not started then.
    async fn prepare(&self, session: &Session) -> Result<Option<Place>, WorkplaceError>;
}

/// The place in which a program runs.
#[derive(Debug, Clone)]
pub struct Place {
    /// The working directory.
    pub directory: PathBuf,
    /// Variables that are set for the program, or removed from what it inherits. Those of its command come first.
    pub variables: Vec<(OsString, Option<OsString>)>,
    /// Notices about it for a person, a sentence each.
    pub notices: Vec<String>,
    /// The command that prepares it, if it has one.
    pub set_up: Option<Arc<dyn SetUp>>,
    /// The work that follows when the program has succeeded.
    pub completion: Option<Arc<dyn Completion>>,
}

/// Work that follows the success of a program, before its session is completed.
#[async_trait]
pub trait Completion: fmt::Debug + Send + Sync {
    /// Does the work, and returns a sentence about its result for the summary of the session. The end of the program is recorded
    /// by then; if this process dies, the session is completed without the work.
    async fn complete(&self, session: &Session) -> String;
}

/// The command that prepares a place, before the first program runs there.
#[async_trait]
pub trait SetUp: fmt::Debug + Send + Sync {
    /// Returns the command, for `sh -c`.
    fn command(&self) -> &str;

    /// Returns the directory in which it runs.
    fn directory(&self) -> &Path;

    /// Returns `true` if it has to run; then its start is recorded. `false` if it has succeeded in this place before.
    ///
    /// # Errors
    /// If its start cannot be recorded. Neither it nor the program runs then.
    async fn begin(&self, session: &Session) -> Result<bool, WorkplaceError>;

    /// Records its end.
    ///
    /// # Errors
    /// If it has failed, or cannot be recorded. The program does not run then.
    async fn end(&self, session: &Session, end: SetUpEnd) -> Result<(), WorkplaceError>;
}

/// The end of a set-up. Neither exit code nor signal: its outcome is unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetUpEnd {
    /// The exit code, unless a signal ended it.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The reason why it did not run.
    pub error: Option<String>,
}

/// The reason why a place cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct WorkplaceError {
    /// The stable error code.
    pub code: ErrorCode,
    /// The message, with its causes.
    pub message: String,
    /// `true` if a later attempt may find the place: the session is then interrupted. Else it has failed.
    pub may_return: bool,
}
