//! The merge of a session's worktree after its program has succeeded, for sessions that ask for it.

use std::sync::Arc;

use session_core::async_trait::async_trait;
use session_core::{Session, SessionManager};
use session_runner::Completion;
use session_worktree::{Merge, MergeOptions, MergeOutcome, Worktree, Worktrees};

use super::error::chain;
use super::merge::merge;

/// Conflicting paths that a summary names.
const NAMED: usize = 10;

/// Merges what a session has committed into the branch from which its worktree started.
pub(super) struct AutoMerge {
    manager: Arc<dyn SessionManager>,
    worktrees: Worktrees,
    worktree: Worktree,
}

impl std::fmt::Debug for AutoMerge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AutoMerge").field("worktree", &self.worktree).finish_non_exhaustive()
    }
}

impl AutoMerge {
    pub(super) fn new(manager: Arc<dyn SessionManager>, worktrees: Worktrees, worktree: Worktree) -> Self {
        Self { manager, worktrees, worktree }
    }
}

#[async_trait]
impl Completion for AutoMerge {
    async fn complete(&self, _session: &Session) -> String {
        match merge(&*self.manager, &self.worktrees, &self.worktree, &MergeOptions::new()).await {
            Ok(merge) => sentence(&merge),
            // The work is done and kept: that it is not merged is no failure of it.
            Err(error) => format!("not merged: {}", chain(&error)),
        }
    }
}

fn sentence(merge: &Merge) -> String {
    let short = |commit: &str| commit.chars().take(12).collect::<String>();
    let into = &merge.into;
    match &merge.outcome {
        MergeOutcome::Merged(commit) => format!("merged into {into} as {}", short(commit)),
        MergeOutcome::Conflicts(paths) => {
            let named: Vec<&str> = paths.iter().take(NAMED).map(String::as_str).collect();
            let more = if paths.len() > NAMED { ", …" } else { "" };
            format!("not merged: {} files conflict with {into}: {}{more}", paths.len(), named.join(", "))
        }
        MergeOutcome::UpToDate | _ => format!("nothing to merge into {into}"),
    }
}
