//! Errors of worktrees.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use session_core::{ErrorCode, SessionId};

/// The reason why a call failed. Nothing that a person would miss is gone then.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum WorktreeError {
    /// Git is not installed, or not to be found in `PATH`.
    #[error("git was not found: install it, or add it to PATH")]
    GitMissing,
    /// Git lacks what this crate needs.
    #[error("git {found} is too old: version {needed} or later is required")]
    GitTooOld {
        /// The version that is installed.
        found: String,
        /// The oldest version that is supported.
        needed: &'static str,
    },
    /// Git refused, or failed.
    #[error("git cannot {what}: {reason}")]
    Git {
        /// Completes "cannot …".
        what: String,
        /// The first lines of what git printed.
        reason: String,
    },
    /// The directory is in no repository.
    #[error("{} is in no git repository: {reason}", dir.display())]
    NotARepository {
        /// The directory.
        dir: PathBuf,
        /// The message of git.
        reason: String,
    },
    /// The repository has no commit that a worktree could start at.
    #[error("{what} has no commit yet: commit something first, or name another base")]
    Unborn {
        /// The branch.
        what: String,
    },
    /// The base does not name a commit.
    #[error("`{base}` does not name a commit of this repository: {reason}")]
    UnknownBase {
        /// The base as it was given.
        base: String,
        /// The message of git.
        reason: String,
    },
    /// The name cannot be one of a worktree.
    #[error("`{name}` cannot be the name of a worktree: {reason}")]
    InvalidName {
        /// The name.
        name: String,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// No place for a new worktree.
    #[error("no directory for the worktree `{slug}` can be created: {reason}")]
    NoPlace {
        /// Its name.
        slug: String,
        /// The reason.
        reason: String,
    },
    /// The worktree is not where it was recorded, or another one is there.
    #[error("the worktree at {} is gone: {reason}", path.display())]
    Gone {
        /// Its recorded path.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// A worktree that this crate did not create.
    #[error("{} is not a worktree of a session: {reason}", path.display())]
    NotOurs {
        /// Its path.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// Another program has locked it.
    #[error("the worktree at {} is locked: {reason}", path.display())]
    Locked {
        /// Its path.
        path: PathBuf,
        /// The reason that the lock gives.
        reason: String,
    },
    /// Processes work in it.
    #[error("processes work in {}: {}", path.display(), listed(processes))]
    InUse {
        /// Its path.
        path: PathBuf,
        /// Their ids.
        processes: Vec<u32>,
    },
    /// A session works in it, or may do so.
    #[error("session {session} works in {}", path.display())]
    Occupied {
        /// Its path.
        path: PathBuf,
        /// The session.
        session: SessionId,
    },
    /// A session that has not ended has it, though nothing works in it now.
    #[error("session {session} has not ended, and has {}: resume or cancel it", path.display())]
    Unended {
        /// Its path.
        path: PathBuf,
        /// The session.
        session: SessionId,
    },
    /// The directory inside it in which a program is to run does not exist.
    #[error("{} is no directory inside the worktree", path.display())]
    NoDirectory {
        /// The directory.
        path: PathBuf,
    },
    /// No branch to merge into.
    #[error("there is no branch to merge into: {reason}")]
    NoTarget {
        /// The reason.
        reason: String,
    },
    /// The target has commits that the branch lacks.
    #[error("`{into}` has commits of its own, so that it cannot be fast-forwarded")]
    NotFastForward {
        /// The branch to merge into.
        into: String,
    },
    /// A worktree has changes that no commit has.
    #[error("{} has changes that are not committed: {changed} tracked and {untracked} untracked files", path.display())]
    Uncommitted {
        /// Its path.
        path: PathBuf,
        /// Tracked files with changes.
        changed: u64,
        /// Untracked files.
        untracked: u64,
    },
    /// An operation of git is in progress.
    #[error("a {operation} is in progress in {}", path.display())]
    OperationInProgress {
        /// The worktree.
        path: PathBuf,
        /// Its name.
        operation: &'static str,
    },
    /// The worktree that has the target checked out has changes in files that the merge would change.
    #[error("the branch is checked out in {}, where git cannot merge: {reason}", path.display())]
    TargetDirty {
        /// Its path.
        path: PathBuf,
        /// The message of git.
        reason: String,
    },
    /// Its content cannot be kept.
    #[error("the content of {} cannot be kept, so it is not removed: {reason}", path.display())]
    CannotPin {
        /// Its path.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// Nothing of that name is in the trash.
    #[error("nothing was kept of `{what}`")]
    NothingKept {
        /// The session or entry.
        what: String,
    },
    /// A call of the system failed.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// The action, as in "read".
        what: &'static str,
        /// The path.
        path: PathBuf,
        /// The cause.
        #[source]
        source: Arc<io::Error>,
    },
    /// A file of this crate has other content than it writes.
    #[error("{} is damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
}

impl WorktreeError {
    /// Returns the stable error code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Gone { .. } => ErrorCode::WorktreeGone,
            Self::InUse { .. } | Self::Locked { .. } | Self::Occupied { .. } | Self::Unended { .. } => {
                ErrorCode::WorktreeInUse
            }
            Self::Uncommitted { .. }
            | Self::OperationInProgress { .. }
            | Self::NotFastForward { .. }
            | Self::TargetDirty { .. } => ErrorCode::MergeRefused,
            Self::GitMissing | Self::GitTooOld { .. } | Self::Git { .. } | Self::CannotPin { .. } => {
                ErrorCode::GitFailed
            }
            Self::NotARepository { .. }
            | Self::Unborn { .. }
            | Self::UnknownBase { .. }
            | Self::InvalidName { .. }
            | Self::NoPlace { .. }
            | Self::NoDirectory { .. }
            | Self::NoTarget { .. }
            | Self::NotOurs { .. } => ErrorCode::InvalidArgument,
            Self::NothingKept { .. } => ErrorCode::NotFound,
            Self::Damaged { .. } => ErrorCode::Corrupt,
            Self::Io { source, .. } => {
                let full = matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
                if full { ErrorCode::StorageFull } else { ErrorCode::StorageIo }
            }
        }
    }
}

fn listed(processes: &[u32]) -> String {
    processes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The result of a call.
pub type Result<T> = std::result::Result<T, WorktreeError>;

/// Adds to a failed call of the system what was being done, and with which path.
pub(crate) trait IoContext<T> {
    /// `what` completes "cannot …", as in "read".
    fn context(self, what: &'static str, path: &Path) -> Result<T>;
}

impl<T, E: Into<io::Error>> IoContext<T> for std::result::Result<T, E> {
    fn context(self, what: &'static str, path: &Path) -> Result<T> {
        self.map_err(|error| WorktreeError::Io {
            what,
            path: path.to_owned(),
            source: Arc::new(error.into()),
        })
    }
}
