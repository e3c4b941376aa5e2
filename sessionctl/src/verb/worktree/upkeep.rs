//! The work on worktrees of other verbs: `rm` removes them, `gc` leaves their sessions, `recover` completes what was
//! interrupted.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use sessionkit::backend::blocking;
use sessionkit::log::{PersistedSession, WorktreeConfig};
use sessionkit::manager::Liveness;
use sessionkit::worktree::{
    self, BranchOutcome, EntryState, RecoveredCreation, RecoveredEntry, RemoveOptions, Worktrees,
};
use sessionkit::{ErrorCode, Head, SessionFilter, SessionId, SessionManager};

use super::target::refusal;
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::render::short;
use crate::session_worktree::{removable_worktree, removed};
use crate::verb;

/// Time for which a removed worktree stays in the trash.
const KEPT_FOR: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Moves the worktree of a session that is about to be removed into the trash, unless another session has it, too.
pub(crate) async fn remove_with(
    context: &Context,
    manager: &dyn SessionManager,
    id: SessionId,
) -> Result<()> {
    // What cannot be read names no worktree.
    let Ok(stored) = manager.restore_session(id).await else { return Ok(()) };
    let (Some(config), Some(made)) = (&stored.config.worktree, &stored.worktree) else { return Ok(()) };
    // One that was removed already is not needed.
    let Some(found) = removable_worktree(&stored).await else {
        return match removed(&stored).await {
            // Its directory may still be in its place.
            Some(entry) if entry.state != EntryState::Removed => {
                let text = format!("the removal of the worktree {} was interrupted", entry.path.display());
                Err(Failure::new(ErrorCode::WorktreeInUse, text).next(&["recover"]))
            }
            Some(_) | None => Ok(()),
        };
    };
    let others = worktree::sessions_of(manager, &made.mark).await.map_err(Failure::from)?;
    if let Some(other) = others.iter().find(|head| head.id != id) {
        let text = format!("its worktree is left: session {} has it, too", short(other.id));
        context.hint(&text, &[id], &["show", &other.id.to_string()]);
        return Ok(());
    }
    let worktrees = worktree::repository(config).await?;
    let removed = worktree::remove(manager, &worktrees, &found, RemoveOptions::new())
        .await
        .map_err(|error| refusal(error, id))?;
    let text = format!("its worktree {} is in the trash", removed.entry.path.display());
    let repository = worktrees.repository().root().to_string_lossy().into_owned();
    context.hint(&text, &[id], &["worktree", "restore", "--repo", &repository, &id.to_string()]);
    Ok(())
}

/// Moves the clean worktree of a session into the trash, and deletes its branch if that is proven to be merged.
pub(crate) async fn remove_clean(
    context: &Context,
    manager: &dyn SessionManager,
    id: SessionId,
) -> Result<()> {
    let stored = manager.restore_session(id).await.map_err(Failure::from)?;
    let (Some(config), Some(found)) = (&stored.config.worktree, removable_worktree(&stored).await) else {
        // Removed with another session that had it, too.
        return Ok(());
    };
    let worktrees = worktree::repository(config).await?;
    let options = RemoveOptions::new().delete_merged_branch();
    let removed = worktree::remove(manager, &worktrees, &found, options).await;
    let removed = removed.map_err(|error| refusal(error, id))?;
    let branch = match (&removed.entry.merged, &removed.branch) {
        (Some(proof), BranchOutcome::Deleted) => {
            format!("; its branch is merged into {}, and deleted", proof.into)
        }
        _ => String::new(),
    };
    let text = format!("its worktree {} is in the trash{branch}", removed.entry.path.display());
    let repository = worktrees.repository().root().to_string_lossy().into_owned();
    context.hint(&text, &[id], &["worktree", "restore", "--repo", &repository, &id.to_string()]);
    Ok(())
}

/// Returns `true` if a session has a worktree in its place, or a registration of one.
pub(crate) async fn has_one(manager: &dyn SessionManager, head: &Head) -> bool {
    if head.place.is_none() {
        return false;
    }
    match manager.restore_session(head.id).await {
        Ok(stored) => removable_worktree(&stored).await.is_some(),
        Err(_) => true,
    }
}

/// Deletes what has been in the trash of the repositories for longer than it is kept, as far as a snapshot keeps it.
pub(crate) async fn purge_old(context: &Context, manager: &dyn SessionManager) -> Result<()> {
    let before = verb::now().before(KEPT_FOR);
    for config in repositories(manager).await?.values() {
        let Ok(worktrees) = worktree::repository(config).await else { continue };
        let purged = blocking(move || worktrees.purge_older(before)).await?;
        for path in purged {
            let text = format!("purged the worktree {}, removed more than 7 days ago", path.display());
            context.hint(&text, &[], &["worktree", "ls"]);
        }
    }
    Ok(())
}

/// Returns the repositories of all sessions that have a worktree, and that of the current directory.
async fn repositories(manager: &dyn SessionManager) -> Result<BTreeMap<PathBuf, WorktreeConfig>> {
    let mut found: BTreeMap<PathBuf, WorktreeConfig> = BTreeMap::new();
    let here = std::env::current_dir().ok();
    found.extend(here.map(|here| (here.clone(), WorktreeConfig::new(here))));
    for head in manager.list_sessions(SessionFilter::all()).await?.heads {
        if head.place.is_some()
            && let Ok(stored) = manager.restore_session(head.id).await
            && let Some(config) = stored.config.worktree
        {
            found.insert(config.repository.clone(), config);
        }
    }
    Ok(found)
}

/// Completes or gives up creations, removals and restorations that were interrupted. One that fails does not keep the others.
pub(crate) async fn recover(context: &Context, manager: &dyn SessionManager) -> Result<()> {
    let mut failed = None;
    for head in manager.list_sessions(SessionFilter::all()).await?.heads {
        if head.place.is_none() {
            continue;
        }
        let Ok(stored) = manager.restore_session(head.id).await else { continue };
        if let Err(error) = recover_creation(context, manager, &stored).await {
            failed.get_or_insert(error.about(head.id));
        }
    }
    for config in repositories(manager).await?.values() {
        // A repository that is gone has nothing to recover.
        let Ok(worktrees) = worktree::repository(config).await else { continue };
        if let Err(error) = recover_trash(context, worktrees).await {
            failed.get_or_insert(error);
        }
    }
    failed.map_or(Ok(()), Err)
}

async fn recover_creation(
    context: &Context,
    manager: &dyn SessionManager,
    stored: &PersistedSession,
) -> Result<()> {
    let (id, is_ended) = (stored.head.id, stored.state.is_final());
    let is_dead = is_ended || matches!(verb::liveness(manager, id).await, None | Some(Liveness::Dead { .. }));
    if stored.planned_worktree.is_none() || !is_dead {
        return Ok(());
    }
    let text = match worktree::recover_creation(stored).await? {
        None => return Ok(()),
        Some(RecoveredCreation::Completed(found)) => {
            format!("the worktree {} of session {} was created completely", found.path().display(), short(id))
        }
        Some(_) => format!("removed what a crash had left of the worktree of session {}", short(id)),
    };
    context.hint(&text, &[id], &["worktree", "ls"]);
    Ok(())
}

async fn recover_trash(context: &Context, worktrees: Worktrees) -> Result<()> {
    let mut failed = None;
    for entry in blocking(move || worktrees.recover()).await? {
        let (session, text) = match entry {
            RecoveredEntry::Removed(entry) => {
                (entry.session, format!("removed the worktree {}", entry.path.display()))
            }
            RecoveredEntry::Kept(entry) => {
                (entry.session, format!("left the worktree {}", entry.path.display()))
            }
            RecoveredEntry::Restored(tree) => {
                (tree.session(), format!("restored the worktree {}", tree.path().display()))
            }
            RecoveredEntry::Purged(entry) => {
                (entry.session, format!("purged the worktree {}", entry.path.display()))
            }
            RecoveredEntry::RolledBack(leftover) => {
                (leftover.session, format!("rolled back the worktree {}", leftover.path.display()))
            }
            RecoveredEntry::Failed { id, reason } => {
                let text = format!("the entry {id} of the trash of worktrees cannot be recovered: {reason}");
                failed.get_or_insert(Failure::new(ErrorCode::GitFailed, text).next(&["worktree", "ls"]));
                continue;
            }
            _ => continue,
        };
        context.hint(&format!("{text}, which was interrupted"), &[session], &["worktree", "ls"]);
    }
    failed.map_or(Ok(()), Err)
}
