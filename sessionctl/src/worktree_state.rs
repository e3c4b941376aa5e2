//! The state of a worktree, as JSON.

use std::path::Path;

use serde::Serialize;
use sessionkit::log::Timestamp;
use sessionkit::text::escape_bytes;
use sessionkit::worktree::{EntryState, TrashEntry, Worktree, WorktreeError, WorktreeStatus};

/// The state of a worktree, as JSON, and its changes in words.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct WorktreeState {
    /// `present`, `removed`, `removing`, `restoring`, `purging`, `rolled_back` (never completed), `snapshots` (nothing else is
    /// left), `gone`, `unreadable`, or `unread` (left out, because others took too long).
    pub(crate) state: &'static str,
    /// Its directory now, or before it was removed.
    pub(crate) path: Option<String>,
    /// The branch that is, or was, checked out.
    pub(crate) branch: Option<String>,
    /// Commits since the base.
    pub(crate) ahead: Option<u64>,
    /// Commits of the base that it lacks.
    pub(crate) behind: Option<u64>,
    /// Tracked files that differ from HEAD.
    pub(crate) files_changed: Option<u64>,
    pub(crate) lines_added: Option<u64>,
    pub(crate) lines_removed: Option<u64>,
    pub(crate) untracked: Option<u64>,
    /// Ignored files outside caches.
    pub(crate) ignored: Option<u64>,
    /// `true` if its branch has everything.
    pub(crate) clean: Option<bool>,
    /// The operation of git that is in progress.
    pub(crate) operation: Option<&'static str>,
    /// Processes of this user that work in it.
    pub(crate) processes: Vec<u32>,
    /// Bytes on the disk.
    pub(crate) disk_bytes: Option<u64>,
    pub(crate) removed_at: Option<Timestamp>,
    /// The reason why it cannot be read.
    pub(crate) error: Option<String>,
    /// All of it in words.
    #[serde(skip)]
    pub(crate) changes: String,
}

impl WorktreeState {
    /// Creates the state of a worktree in its place.
    pub(crate) fn present(
        worktree: &Worktree,
        status: &WorktreeStatus,
        has_base: bool,
        disk_bytes: Option<u64>,
    ) -> Self {
        Self {
            state: "present",
            path: Some(path_of(worktree.path())),
            branch: status.branch.clone(),
            ahead: has_base.then_some(status.ahead),
            behind: has_base.then_some(status.behind),
            files_changed: Some(status.changed),
            lines_added: Some(status.lines_added),
            lines_removed: Some(status.lines_removed),
            untracked: Some(status.untracked),
            ignored: Some(status.ignored),
            clean: Some(status.is_clean()),
            operation: status.operation,
            processes: status.processes.clone(),
            disk_bytes,
            changes: changes(status),
            ..Self::default()
        }
    }

    /// Creates the state of a worktree in the trash.
    pub(crate) fn in_trash(entry: &TrashEntry) -> Self {
        let state = match entry.state {
            EntryState::Removing => "removing",
            EntryState::Restoring { .. } => "restoring",
            EntryState::Purging => "purging",
            EntryState::Removed | _ => "removed",
        };
        let (branch, removed_at) = (entry.branch.clone(), Some(entry.at));
        Self {
            state,
            path: Some(path_of(&entry.path)),
            branch,
            removed_at,
            changes: state.to_owned(),
            ..Self::default()
        }
    }

    /// Creates the state of a worktree that cannot be read.
    pub(crate) fn failed(error: &WorktreeError) -> Self {
        let state = if matches!(error, WorktreeError::Gone { .. }) { "gone" } else { "unreadable" };
        Self { state, error: Some(error.to_string()), changes: state.to_owned(), ..Self::default() }
    }
}

/// Returns a path as JSON and tables have it.
pub(crate) fn path_of(path: &Path) -> String {
    escape_bytes(path.as_os_str()).into_owned()
}

/// Describes what would be lost with a worktree, as in `2 ahead, 3 changed +10 -2, 1 untracked`; `clean` if nothing would.
fn changes(status: &WorktreeStatus) -> String {
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
