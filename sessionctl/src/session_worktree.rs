//! The worktree of a session: where it is, and what would be lost with it.

use sessionkit::backend::blocking;
use sessionkit::log::PersistedSession;
use sessionkit::worktree::{
    self, EntryState, SessionWorktreeError, TrashEntry, Worktree, WorktreeError, WorktreeStatus,
};

use crate::error::{Failure, Result};
use crate::render::{local_time, size};

/// Returns a session's worktree in its place; `None` if it has none.
///
/// # Errors
/// `WORKTREE_GONE`, with the command that brings it back, or that goes on without it.
pub(crate) async fn made_worktree(stored: &PersistedSession) -> Result<Option<Worktree>> {
    let Some(made) = &stored.worktree else { return Ok(None) };
    let (recorded, id) = (worktree::recorded(made), stored.head.id.to_string());
    let error = match blocking(move || recorded.locate()).await {
        Ok(found) => return Ok(Some(found)),
        Err(error) => Failure::from(error).about(stored.head.id),
    };
    Err(match removed(stored).await {
        Some(entry) if entry.state == EntryState::Removed => error.next(&["worktree", "restore", &id]),
        Some(_) => error.next(&["recover"]),
        None if stored.state.is_final() => error.next(&["retry", "--new-worktree", &id]),
        // Without it, its work cannot go on.
        None => error.next(&["cancel", &id]),
    })
}

/// Returns what is in the trash of a session's worktree.
pub(crate) async fn removed(stored: &PersistedSession) -> Option<TrashEntry> {
    let (config, made) = (stored.config.worktree.as_ref()?, stored.worktree.as_ref()?);
    let (worktrees, mark) = (worktree::repository(config).await.ok()?, made.mark.clone());
    let trash = blocking(move || worktrees.trash()).await.ok()?;
    trash.into_iter().rfind(|entry| entry.mark == mark)
}

/// Names the way out where a session cannot enter a worktree.
pub(crate) fn not_joinable(error: SessionWorktreeError) -> Failure {
    let next = if let SessionWorktreeError::Worktree(WorktreeError::Occupied { session, .. }) = &error {
        ["wait".to_owned(), session.to_string()]
    } else if let SessionWorktreeError::Worktree(WorktreeError::Unended { session, .. }) = &error {
        ["resume".to_owned(), session.to_string()]
    } else {
        ["worktree".to_owned(), "ls".to_owned()]
    };
    Failure::from(error).next(&next.each_ref().map(String::as_str))
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
        Err(failure) => match removed(stored).await {
            Some(entry) => {
                format!("in the trash since {}, `worktree restore` brings it back", local_time(entry.at))
            }
            None => failure.message().unwrap_or_default().to_owned(),
        },
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
