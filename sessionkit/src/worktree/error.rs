//! The errors of the worktrees of sessions.

use session_core::{ErrorCode, SessionError};
use session_worktree::WorktreeError;

/// The reason why a session has no worktree to work in, or why that is not removed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SessionWorktreeError {
    /// The session could not be read or written.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The worktree.
    #[error(transparent)]
    Worktree(#[from] WorktreeError),
}

impl SessionWorktreeError {
    /// Returns the stable error code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Session(error) => error.code(),
            Self::Worktree(error) => error.code(),
        }
    }
}

/// Formats an error with all its causes, for a port that takes only a text.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let errors = std::iter::successors(Some(error), |error| error.source());
    errors.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
