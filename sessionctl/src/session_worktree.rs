//! The worktree of a session: where it is, and what would be lost with it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sessionkit::backend::blocking;
use sessionkit::log::PersistedSession;
use sessionkit::worktree::{
    self, EntryState, RecordedWorktree, SessionWorktreeError, TrashEntry, Worktree, WorktreeError, Worktrees,
};
use sessionkit::{Head, SessionManager};
use tokio::task::JoinSet;

use crate::approval;
use crate::error::{Failure, Result};
use crate::render::{local_time, size};
use crate::worktree_state::{WorktreeState, path_of};

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

/// Returns a session's worktree in its place, or what is left of one whose directory was deleted. `None` if there is nothing to
/// remove.
pub(crate) async fn removable_worktree(stored: &PersistedSession) -> Option<Worktree> {
    let recorded = worktree::recorded(stored.worktree.as_ref()?);
    blocking(move || recorded.locate().or_else(|_| recorded.locate_lost()).ok()).await
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

/// Reads the state of a session's worktree; `None` if it has none.
pub(crate) async fn state(stored: &PersistedSession, disk: Disk) -> Option<WorktreeState> {
    let (config, made) = stored.config.worktree.as_ref().zip(stored.worktree.as_ref())?;
    let (repository, recorded) = (config.repository.clone(), worktree::recorded(made));
    let base = made.plan.base.clone();
    let read = move || {
        let found = recorded.locate()?;
        let worktrees = approval::with_approvals(Worktrees::new(repository)?);
        let status = worktrees.status(&found, Some(&base))?;
        let bytes = matches!(disk, Disk::Measure).then(|| worktrees.disk_bytes(&found));
        Ok(WorktreeState::present(&found, &status, true, bytes))
    };
    Some(match blocking(read).await {
        Ok(state) => state,
        Err(error) => match removed(stored).await {
            Some(entry) => WorktreeState::in_trash(&entry),
            None => WorktreeState::failed(&error),
        },
    })
}

/// Describes the worktree of a session in a sentence.
pub(crate) fn sentence(worktree: &WorktreeState, stored: &PersistedSession) -> String {
    let at = worktree.removed_at.map(local_time).unwrap_or_default();
    match (worktree.state, &worktree.error) {
        ("present", _) => {
            let plan = stored.worktree.as_ref().map(|made| &made.plan);
            let moved = match &worktree.path {
                Some(path) if plan.is_some_and(|plan| path_of(&plan.path) != *path) => {
                    format!("moved to {path}, ")
                }
                _ => String::new(),
            };
            let created = plan.map(|plan| &plan.branch);
            let branch = match &worktree.branch {
                branch if branch.as_ref() == created => String::new(),
                Some(branch) => format!("on branch {branch} now, "),
                None => "on no branch now, ".to_owned(),
            };
            let size = worktree.disk_bytes.map(|bytes| format!(", {} on disk", size(bytes)));
            format!("{moved}{branch}{}{}", worktree.changes, size.unwrap_or_default())
        }
        ("removed", _) => format!("in the trash since {at}, `worktree restore` brings it back"),
        (_, Some(error)) => error.clone(),
        (state, None) => format!("{state} since {at}, which `recover` completes"),
    }
}

/// Says if the bytes on the disk are counted, which takes a look at each file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disk {
    Measure,
    Skip,
}

/// The states of the worktrees of several sessions, by their marks: several sessions may have one worktree.
#[derive(Debug, Default)]
pub(crate) struct WorktreeStates(BTreeMap<String, WorktreeState>);

/// Worktrees of one repository, by their marks, with the commits at which they started.
type Wanted = BTreeMap<String, (RecordedWorktree, String)>;
/// A worktree that is in its place, with its repository and the commit at which it started.
type Present = (String, Worktrees, Worktree, String);

impl WorktreeStates {
    /// Reads the states of the worktrees of these sessions, several at a time. None is begun after `BUDGET`: a list is for a look,
    /// and a large repository takes seconds.
    pub(crate) async fn read(manager: &dyn SessionManager, heads: impl Iterator<Item = &Head>) -> Self {
        const BUDGET: Duration = Duration::from_secs(2);
        const CONCURRENT: usize = 4;
        let begin = Instant::now();
        let (mut states, mut present) = (BTreeMap::new(), Vec::new());
        for (repository, wanted) in wanted(manager, heads).await {
            let (found, others) = blocking(move || sort(&repository, &wanted)).await;
            present.extend(found);
            states.extend(others);
        }
        let mut reads = JoinSet::new();
        for (mark, worktrees, worktree, base) in present {
            if reads.len() == CONCURRENT {
                states.extend(reads.join_next().await.and_then(Result::ok));
            }
            if begin.elapsed() >= BUDGET {
                let unread =
                    WorktreeState { state: "unread", changes: "…".to_owned(), ..WorktreeState::default() };
                states.insert(mark, unread);
                continue;
            }
            reads.spawn(blocking(move || {
                let read = worktrees.status(&worktree, Some(&base));
                let read = read.map(|status| WorktreeState::present(&worktree, &status, true, None));
                (mark, read.unwrap_or_else(|error| WorktreeState::failed(&error)))
            }));
        }
        while let Some(read) = reads.join_next().await {
            states.extend(read.ok());
        }
        Self(states)
    }

    /// Returns the state of a session's worktree.
    pub(crate) fn of(&self, head: &Head) -> Option<&WorktreeState> {
        self.0.get(head.place.as_ref()?.mark.as_ref()?)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns `true` if the time was up before all were read.
    pub(crate) fn has_unread(&self) -> bool {
        self.0.values().any(|state| state.state == "unread")
    }
}

/// Returns the worktrees of sessions, by their repositories.
async fn wanted(
    manager: &dyn SessionManager,
    heads: impl Iterator<Item = &Head>,
) -> BTreeMap<PathBuf, Wanted> {
    let (mut found, mut seen) = (BTreeMap::new(), BTreeSet::new());
    for head in heads {
        let Some(mark) = head.place.as_ref().and_then(|place| place.mark.clone()) else { continue };
        if seen.insert(mark.clone())
            && let Ok(stored) = manager.restore_session(head.id).await
            && let (Some(config), Some(made)) = (stored.config.worktree, stored.worktree)
        {
            let wanted: &mut Wanted = found.entry(config.repository).or_default();
            wanted.insert(mark, (worktree::recorded(&made), made.plan.base));
        }
    }
    found
}

/// Separates the worktrees of a repository that are in their place from the states of the others. Runs no git for a worktree.
fn sort(repository: &Path, wanted: &Wanted) -> (Vec<Present>, BTreeMap<String, WorktreeState>) {
    let (mut present, mut others) = (Vec::new(), BTreeMap::new());
    let opened = Worktrees::new(repository).map(approval::with_approvals);
    let trash = opened.as_ref().ok().and_then(|worktrees| worktrees.trash().ok()).unwrap_or_default();
    for (mark, (recorded, base)) in wanted {
        let state = match (recorded.locate(), &opened) {
            (Ok(worktree), Ok(worktrees)) => {
                present.push((mark.clone(), worktrees.clone(), worktree, base.clone()));
                continue;
            }
            (Ok(_), Err(error)) => WorktreeState::failed(error),
            (Err(error), _) => match trash.iter().rfind(|entry| entry.mark == *mark) {
                Some(entry) => WorktreeState::in_trash(entry),
                None => WorktreeState::failed(&error),
            },
        };
        others.insert(mark.clone(), state);
    }
    (present, others)
}
