//! The changes in a worktree, in words.

use sessionkit::worktree::WorktreeStatus;

/// Describes what would be lost with a worktree, as in `2 ahead, 3 changed +10 -2, 1 untracked`; `clean` if nothing would.
pub(super) fn of(status: &WorktreeStatus) -> String {
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
