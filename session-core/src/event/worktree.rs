//! The git worktree that is created for a session.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::limits::{self, LimitError};
use crate::os_text;
use crate::text::has_unsafe_char;
use crate::time::Timestamp;

/// The plan of a worktree: recorded before it is created, so that a recovery finds what a crash leaves of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WorktreePlan {
    /// Its directory.
    #[serde(with = "os_text::path")]
    pub path: PathBuf,
    /// Its branch.
    pub branch: String,
    /// The id of the commit that it starts at.
    pub base: String,
    /// The branch by which this commit was found, if it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_branch: Option<String>,
    /// The time of this commit.
    pub base_at: Timestamp,
}

/// The worktree that a session runs in: recorded before its program starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SessionWorktree {
    /// The plan that it was created from.
    #[serde(flatten)]
    pub plan: WorktreePlan,
    /// The directory of its registration in the repository.
    #[serde(with = "os_text::path")]
    pub git_dir: PathBuf,
    /// The random text in its registration: another worktree at its place has another one.
    pub mark: String,
}

impl WorktreePlan {
    /// Creates a plan.
    #[must_use]
    pub fn new(
        path: impl Into<PathBuf>,
        branch: impl Into<String>,
        base: impl Into<String>,
        base_at: Timestamp,
    ) -> Self {
        Self { path: path.into(), branch: branch.into(), base: base.into(), base_branch: None, base_at }
    }

    /// Sets the branch by which the commit was found.
    #[must_use]
    pub fn base_branch(mut self, branch: Option<String>) -> Self {
        self.base_branch = branch;
        self
    }

    /// Creates the record of the worktree that was created from this plan.
    #[must_use]
    pub fn made(self, git_dir: impl Into<PathBuf>, mark: impl Into<String>) -> SessionWorktree {
        SessionWorktree { plan: self, git_dir: git_dir.into(), mark: mark.into() }
    }

    pub(super) fn check(&self) -> Result<(), LimitError> {
        check_path(&self.path)?;
        check_text("branch", &self.branch, limits::BRANCH_BYTES)?;
        check_text("commit", &self.base, limits::COMMIT_ID_BYTES)?;
        self.base_branch.as_ref().map_or(Ok(()), |branch| check_text("branch", branch, limits::BRANCH_BYTES))
    }
}

impl SessionWorktree {
    pub(super) fn check(&self) -> Result<(), LimitError> {
        self.plan.check()?;
        check_path(&self.git_dir)?;
        if !self.mark.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(LimitError::invalid(
                "mark of a worktree",
                "has other characters than letters and digits",
            ));
        }
        check_text("mark of a worktree", &self.mark, limits::MARK_BYTES)
    }
}

fn check_path(path: &Path) -> Result<(), LimitError> {
    if path.is_absolute() {
        Ok(())
    } else {
        Err(LimitError::invalid("path of a worktree", "is not absolute"))
    }
}

fn check_text(what: &'static str, text: &str, limit: usize) -> Result<(), LimitError> {
    if text.is_empty() {
        return Err(LimitError::invalid(what, "is empty"));
    }
    if has_unsafe_char(text) {
        return Err(LimitError::invalid(what, "has control characters"));
    }
    limits::at_most(what, text.len(), limit)
}
