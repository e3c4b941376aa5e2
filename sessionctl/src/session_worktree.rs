//! The worktree of a session: where it is, and what would be lost with it.

use sessionkit::backend::blocking;
use sessionkit::log::PersistedSession;
use sessionkit::worktree::{self, Worktree, WorktreeError, WorktreeStatus};

use crate::error::{Failure, Result};
use crate::render::size;

/// Returns a session's worktree in its place; `None` if it has none.
///
/// # Errors
/// `WORKTREE_GONE`, with the command that restores it.
pub(crate) async fn made_worktree(stored: &PersistedSession) -> Result<Option<Worktree>> {
    let Some(made) = &stored.worktree else { return Ok(None) };
    let (recorded, id) = (worktree::recorded(made), stored.head.id);
    let found = blocking(move || recorded.locate()).await;
    let failed = |error| Failure::from(error).about(id).next(&["worktree", "restore", &id.to_string()]);
    found.map(Some).map_err(failed)
}

/// Describes the worktree of a session for people: what it would lose, or why it is not there. `None` if it has none.
pub(crate) async fn describe(stored: &PersistedSession) -> Option<String> {
    let made = stored.worktree.as_ref()?;
    Some(match status(stored).await {
        Ok((status, bytes)) => {
            let branch = match &status.branch {
                Some(branch) if *branch == made.plan.branch => String::new(),
                Some(branch) => format!("on branch {branch} now, "),
                None => "on no branch now, ".to_owned(),
            };
            format!("{branch}{}, {} on disk", changes(&status), size(bytes))
        }
        Err(failure) => failure.message().unwrap_or_default().to_owned(),
    })
}

/// Returns the state of a session's worktree, and the bytes that it takes on the disk.
async fn status(stored: &PersistedSession) -> Result<(WorktreeStatus, u64)> {
    let gone = || Failure::invalid("it has none");
    let (config, made) = stored.config.worktree.as_ref().zip(stored.worktree.as_ref()).ok_or_else(gone)?;
    let found = made_worktree(stored).await?.ok_or_else(gone)?;
    let (worktrees, base) = (worktree::repository(config).await?, made.plan.base.clone());
    let read = move || Ok((worktrees.status(&found, Some(&base))?, worktrees.disk_bytes(&found)));
    blocking(read).await.map_err(|error: WorktreeError| Failure::from(error))
}

/// Describes what would be lost with a worktree, as in `2 ahead, 3 changed +10 -2, 1 untracked`; `clean` if nothing would.
pub(crate) fn changes(status: &WorktreeStatus) -> String {
    let WorktreeStatus { ahead, behind, changed, lines_added, lines_removed, untracked, ignored, .. } =
        status;
    let mut parts = Vec::new();
    let counted = [(ahead, "ahead"), (behind, "behind")];
    let after = [(untracked, "untracked"), (ignored, "ignored")];
    let text = |(count, what): &(&u64, &str)| (**count > 0).then(|| format!("{count} {what}"));
    parts.extend(counted.iter().filter_map(text));
    if *changed > 0 {
        parts.push(format!("{changed} changed +{lines_added} -{lines_removed}"));
    }
    parts.extend(after.iter().filter_map(text));
    if !status.repositories.is_empty() {
        parts.push(format!("other repositories: {}", status.repositories.join(", ")));
    }
    parts.extend(status.operation.map(|operation| format!("{operation} in progress")));
    if !status.processes.is_empty() {
        parts.push("in use".to_owned());
    }
    if parts.is_empty() { "clean".to_owned() } else { parts.join(", ") }
}
