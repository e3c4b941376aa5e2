//! Git worktrees for sessions: each session works in a directory and on a branch of its own, and nothing that it leaves
//! there is ever lost.

mod creation;
mod error;
mod files;
mod git;
mod include;
mod pin;
mod processes;
mod registration;
mod repository;
mod scan;
mod slug;
mod snapshots;
mod status;
mod trash;
mod worktree;
mod worktrees;

pub use self::creation::{Base, CreationPlan, NewWorktree, RecoveredCreation};
pub use self::error::{Result, WorktreeError};
pub use self::git::Git;
pub use self::include::IncludedFiles;
pub use self::pin::Pin;
pub use self::repository::Repository;
pub use self::slug::Slug;
pub use self::snapshots::Snapshot;
pub use self::status::WorktreeStatus;
pub use self::trash::{
    BranchOutcome, EntryState, RecoveredEntry, RemoveOptions, RemovedWorktree, TrashEntry,
};
pub use self::worktree::{RecordedWorktree, Worktree};
pub use self::worktrees::Worktrees;
