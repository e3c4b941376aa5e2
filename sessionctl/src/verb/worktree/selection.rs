//! The worktrees that may be removed without a look of a person: clean ones, whose sessions have ended.

use std::time::Duration;

use sessionkit::backend::blocking;
use sessionkit::manager::SessionList;
use sessionkit::worktree::{Worktree, WorktreeError, Worktrees};
use sessionkit::{Head, SessionFilter, SessionId, Store};

use super::target::Target;
use crate::error::Result;
use crate::render::short;
use crate::verb;
use crate::worktree_state::WorktreeState;

/// The condition of a selection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Selection {
    /// Only with a proof that another branch has everything.
    pub(super) merged: bool,
    /// Only if the last session ended at least that long ago.
    pub(super) older_than: Option<Duration>,
}

/// A worktree of the repository, and the reason why it stays, if it does.
pub(super) struct Selected {
    pub(super) target: Target,
    pub(super) worktree: Worktree,
    pub(super) stays: Option<String>,
}

impl Selection {
    /// Looks at all worktrees of a repository.
    pub(super) async fn apply(self, store: &Store, worktrees: &Worktrees) -> Result<Vec<Selected>> {
        let SessionList { heads, unreadable, .. } =
            store.manager().list_sessions(SessionFilter::all()).await?;
        let known = worktrees.clone();
        let mut selected = Vec::new();
        for worktree in blocking(move || known.list()).await? {
            let mark = worktree.record().mark;
            let has_it = |head: &&Head| {
                head.place.as_ref().is_some_and(|place| place.mark.as_deref() == Some(mark.as_str()))
            };
            let sessions: Vec<&Head> = heads.iter().filter(has_it).collect();
            let stays = match self.kept_by(&sessions, unreadable.first().map(|(id, _)| *id)) {
                Some(reason) => Some(reason),
                None => self.kept_for_content(worktrees, &worktree).await?,
            };
            let target = Target::of_place(store, worktrees, worktree.clone()).await?;
            selected.push(Selected { target, worktree, stays });
        }
        Ok(selected)
    }

    /// Returns the reason why the sessions of a worktree keep it.
    fn kept_by(self, sessions: &[&Head], unreadable: Option<SessionId>) -> Option<String> {
        // One that cannot be read may have any worktree.
        if let Some(id) = unreadable {
            return Some(format!("session {} cannot be read, and may have it", short(id)));
        }
        if let Some(head) = sessions.iter().find(|head| !head.state().is_final()) {
            return Some(format!("session {} has not ended", short(head.id)));
        }
        let Some(last) = sessions.iter().filter_map(|head| head.ended_at).max() else {
            return Some("no session of this store has it".to_owned());
        };
        let before = self.older_than.map(|age| verb::now().before(age));
        before.is_some_and(|before| last >= before).then(|| "its last session ended later".to_owned())
    }

    /// Returns the reason why the content of a worktree keeps it.
    async fn kept_for_content(self, worktrees: &Worktrees, worktree: &Worktree) -> Result<Option<String>> {
        let (worktrees, worktree) = (worktrees.clone(), worktree.clone());
        let look = move || {
            let status = worktrees.status(&worktree, None)?;
            if !status.is_clean() {
                return Ok(Some(WorktreeState::present(&worktree, &status, false, None).changes));
            }
            let is_merged = !self.merged || worktrees.merged(&worktree)?.is_some();
            Ok::<_, WorktreeError>((!is_merged).then(|| "it is not merged".to_owned()))
        };
        Ok(blocking(look).await?)
    }
}
