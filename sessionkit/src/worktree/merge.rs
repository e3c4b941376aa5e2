//! Merges of a session's worktree into another branch.

use session_core::SessionManager;
use session_core::backend::blocking;
use session_worktree::{Merge, MergeOptions, Worktree, WorktreeError, Worktrees};

use super::error::SessionWorktreeError;
use super::occupancy::{live_session, lock};

/// Merges what is committed in the worktree of a session into another branch.
///
/// # Errors
/// [`WorktreeError::Occupied`] if a session works in the worktree that has that branch checked out; those of
/// [`Worktrees::merge`].
pub async fn merge(
    manager: &dyn SessionManager,
    worktrees: &Worktrees,
    worktree: &Worktree,
    options: &MergeOptions,
) -> Result<Merge, SessionWorktreeError> {
    let lock = lock(worktrees).await?;
    let (worktrees, worktree, options) = (worktrees.clone(), worktree.clone(), options.clone());
    let (known, of, wanted) = (worktrees.clone(), worktree.clone(), options.clone());
    if let Some(path) = blocking(move || known.merge_target(&of, &wanted)).await?
        && let Ok(other) = Worktree::at(&path)
        && let Some(session) = live_session(manager, &other.record().mark, None).await?
    {
        return Err(WorktreeError::Occupied { path, session }.into());
    }
    Ok(blocking(move || worktrees.merge_locked(&lock, &worktree, &options)).await?)
}
