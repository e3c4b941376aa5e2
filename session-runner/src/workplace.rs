//! The place in which a session's program runs, if it is not the directory in which it was started: a git worktree.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The working directory.
    pub directory: PathBuf,
    /// Variables that are set for the program, or removed from what it inherits. Those of its command come first.
    pub variables: Vec<(OsString, Option<OsString>)>,
    /// What a person should know of it, a sentence each.
    pub notices: Vec<String>,
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
