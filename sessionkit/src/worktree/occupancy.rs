//! The sessions that have a worktree, and the lock under which that is checked.

use session_core::backend::blocking;
use session_core::{Head, SessionError, SessionFilter, SessionId, SessionManager};
use session_worktree::{RepositoryLock, WorktreeError, Worktrees};

/// Returns the sessions of a store whose log names the worktree with this mark.
///
/// # Errors
/// Failures of the storage.
pub async fn sessions_of(manager: &dyn SessionManager, mark: &str) -> Result<Vec<Head>, SessionError> {
    let mut heads = manager.list_sessions(SessionFilter::all()).await?.heads;
    heads.retain(|head| names(head, mark));
    Ok(heads)
}

fn names(head: &Head, mark: &str) -> bool {
    head.place.as_ref().is_some_and(|place| place.mark.as_deref() == Some(mark))
}

/// Returns a session that works in the worktree with this mark, or may do so.
pub(super) async fn live_session(
    manager: &dyn SessionManager,
    mark: &str,
    except: Option<SessionId>,
) -> Result<Option<SessionId>, SessionError> {
    use session_core::Liveness;

    for head in manager.list_active_sessions().await?.heads {
        if !names(&head, mark) || Some(head.id) == except {
            continue;
        }
        match manager.liveness(head.id).await? {
            Some(Liveness::Dead { .. }) | None => {}
            Some(_) => return Ok(Some(head.id)),
        }
    }
    Ok(None)
}

/// Waits until no other process creates, removes or restores a worktree of this repository.
pub(super) async fn lock(worktrees: &Worktrees) -> Result<RepositoryLock, WorktreeError> {
    let worktrees = worktrees.clone();
    blocking(move || worktrees.lock()).await
}
