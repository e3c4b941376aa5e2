//! The options of a removal, and its result for the branch.

use std::path::PathBuf;

use crate::error::Result;
use crate::repository::Repository;

/// The options of a removal. Each leaves out one check, because a person said so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RemoveOptions {
    /// Remove it although processes work in it.
    pub in_use: bool,
    /// Delete its branch, too. The commits stay: the pin keeps them.
    pub delete_branch: bool,
    /// Delete its branch, too, if that is proven to be merged.
    pub delete_merged_branch: bool,
}

impl RemoveOptions {
    /// Checks everything, and keeps the branch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Removes a worktree although processes work in it.
    #[must_use]
    pub const fn in_use(mut self) -> Self {
        self.in_use = true;
        self
    }

    /// Deletes the branch, too, if another one is proven to have what it brought.
    #[must_use]
    pub const fn delete_merged_branch(mut self) -> Self {
        self.delete_merged_branch = true;
        self
    }

    /// Deletes the branch, too.
    #[must_use]
    pub const fn delete_branch(mut self) -> Self {
        self.delete_branch = true;
        self
    }
}

/// The result of a removal for the branch.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BranchOutcome {
    /// It is kept, because its deletion was not asked for.
    Kept,
    /// None was checked out.
    None,
    /// It was deleted.
    Deleted,
    /// It is kept: this worktree has it checked out, too.
    CheckedOut(PathBuf),
    /// It is kept: git refused, or it has moved since the worktree was pinned.
    Refused(String),
}

/// Deletes a branch that points to this commit and is checked out nowhere.
pub(crate) fn delete_branch(repository: &Repository, branch: &str, head: &str) -> Result<BranchOutcome> {
    let name = format!("refs/heads/{branch}");
    if let Some(path) = repository.checked_out_in(&name)? {
        return Ok(BranchOutcome::CheckedOut(path));
    }
    match repository.call("delete a branch").args(["update-ref", "-d", &name, head]).run() {
        Ok(_) => Ok(BranchOutcome::Deleted),
        Err(error) => Ok(BranchOutcome::Refused(error.to_string())),
    }
}
