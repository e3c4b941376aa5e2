//! Git worktrees for sessions: each session works in a directory and on a branch of its own, and nothing that it leaves
//! there is ever lost.
//!
//! - [`Worktrees::plan`] chooses directory, branch and commit; the caller records the plan, and [`Worktrees::create`] makes
//!   it true in one call of git. After a crash, [`Worktrees::recover_creation`] completes it or removes its parts.
//! - [`RecordedWorktree::locate`] finds a worktree again, also after it was moved, and takes no other one for it.
//! - [`Worktrees::status`] says what would be lost. [`Worktrees::pin`] keeps it in a commit under `refs/sessions`: files as
//!   they are on the disk, what is staged, and commits that only the reflog names.
//! - [`Worktrees::remove`] pins a worktree and moves it into the trash, [`Worktrees::restore`] puts it back byte for byte,
//!   and [`Worktrees::purge`] deletes it after that. [`Worktrees::restore_snapshot`] needs only the pin.
//! - [`WorktreeHistory::read`] reads branch and times of any worktree, also of one that another tool has created.
//!
//! Git 2.41 or later is required; an older one is an error. It is run without hooks and without programs that only the
//! repository names, and with a clean environment. All calls block.
//!
//! ```no_run
//! use session_core::SessionId;
//! use session_worktree::{NewWorktree, RemoveOptions, Slug, Worktrees};
//!
//! # fn example() -> Result<(), session_worktree::WorktreeError> {
//! let worktrees = Worktrees::new("project")?;
//! let new = NewWorktree::new(SessionId::random(), Slug::from_text("Fix the login"));
//! let worktree = loop {
//!     let plan = worktrees.plan(&new)?;
//!     // Here: record the plan.
//!     if let Some(worktree) = worktrees.create(&plan)? {
//!         break worktree;
//!     }
//! };
//! // project.worktrees/fix-the-login, on the branch feature/fix-the-login
//! println!("{}", worktree.path().display());
//!
//! let removed = worktrees.remove(&worktree, RemoveOptions::new())?;
//! worktrees.restore(&removed.entry.id, None)?;
//! # Ok(()) }
//! ```

mod cache_tree;
mod creation;
mod error;
mod files;
mod git;
mod history;
mod include;
mod leftover;
mod merge;
mod merged;
mod objects;
mod pin;
mod processes;
mod registration;
mod removal;
mod repository;
mod scan;
mod slug;
mod snapshots;
mod status;
mod trash;
mod trash_entry;
mod worktree;
mod worktrees;

pub use self::creation::{Base, CreationPlan, NewWorktree, RecoveredCreation};
pub use self::error::{Result, WorktreeError};
pub use self::git::Git;
pub use self::history::WorktreeHistory;
pub use self::include::IncludedFiles;
pub use self::leftover::Leftover;
pub use self::merge::{Merge, MergeOptions, MergeOutcome, MergeStrategy};
pub use self::merged::{MergeProof, MergeProofKind};
pub use self::pin::Pin;
pub use self::removal::{BranchOutcome, RemoveOptions};
pub use self::repository::{Repository, RepositoryLock};
pub use self::slug::Slug;
pub use self::snapshots::{Snapshot, SnapshotSummary};
pub use self::status::WorktreeStatus;
pub use self::trash::{RecoveredEntry, RemovedWorktree};
pub use self::trash_entry::{EntryState, TrashEntry};
pub use self::worktree::{RecordedWorktree, Worktree};
pub use self::worktrees::Worktrees;
