//! The worktree of a session, as its head shows it.

use serde::{Deserialize, Serialize};

use crate::event::{SessionWorktree, WorktreePlan};
use crate::limits::HEAD_TEXT;
use crate::text::cut;

/// The worktree of a session, with its texts cut. The log has them uncut, at `revision`, with more about it; its directory and its
/// name are [`cwd`](super::Head::cwd) and [`worktree`](super::Head::worktree) once it was created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WorktreePlace {
    /// The revision of its last record.
    pub revision: u64,
    /// The branch that was created with it.
    pub branch: String,
    /// The id of the commit that it started at.
    pub base: String,
    /// The branch by which this commit was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_branch: Option<String>,
    /// The random text in its registration, uncut; `None` before it was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<String>,
}

impl WorktreePlace {
    pub(super) fn planned(plan: &WorktreePlan, revision: u64) -> Self {
        let short = |text: &str| cut(text, HEAD_TEXT);
        Self {
            revision,
            branch: short(&plan.branch),
            base: short(&plan.base),
            base_branch: plan.base_branch.as_deref().map(short),
            mark: None,
        }
    }

    pub(super) fn made(worktree: &SessionWorktree, revision: u64) -> Self {
        Self { mark: Some(worktree.mark.clone()), ..Self::planned(&worktree.plan, revision) }
    }

    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        let optional = [&self.base_branch, &self.mark].into_iter().flatten();
        [&self.branch, &self.base].into_iter().chain(optional).map(String::as_str)
    }

    /// Cuts its texts further, except for the mark, which is compared with others.
    pub(super) fn shorten(&mut self, limit: usize) {
        for text in [&mut self.branch, &mut self.base] {
            *text = cut(text, limit);
        }
        self.base_branch = self.base_branch.as_deref().map(|branch| cut(branch, limit));
    }
}
