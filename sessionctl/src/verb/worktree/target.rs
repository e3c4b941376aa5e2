//! The worktree that an argument means: that of a session of the store, or one that a repository still knows.

use std::path::{Path, PathBuf};

use sessionkit::backend::blocking;
use sessionkit::log::SessionWorktree;
use sessionkit::worktree::{
    self, EntryState, Leftover, Merge, MergeOptions, RecordedWorktree, RemoveOptions, RemovedWorktree,
    SessionWorktreeError, TrashEntry, Worktree, WorktreeError, Worktrees,
};
use sessionkit::{ErrorCode, SessionId, Store};

use crate::context::Context;
use crate::error::{Failure, Result};
use crate::{approval, ids};

/// A worktree of a session, as far as it is known: in its place, in the trash, or as a snapshot.
pub(super) struct Target {
    /// The session that is named to a person: the last one that has it, else the one that it was created for.
    pub(super) session: SessionId,
    pub(super) worktrees: Worktrees,
    store: Store,
    /// Set if it was found by the name of its directory, which may be deleted.
    place: Option<Worktree>,
    /// The record in the log; `None` if no session of the store has it.
    made: Option<SessionWorktree>,
}

impl Target {
    /// Finds the worktree that a text means: the one of this name in the repository, that of a session of the store, or what is
    /// left of a session that is gone.
    pub(super) async fn find(context: &Context, text: &str, repo: Option<&Path>) -> Result<Self> {
        let store = context.open().await?;
        let here = open(repo).await;
        if let Ok(worktrees) = &here
            && let Some(found) = Self::of_name(&store, worktrees, text).await?
        {
            return Ok(found);
        }
        let resolved = ids::resolve(context, &**store.manager(), text, ids::Purpose::Use).await;
        let refused = match resolved {
            Ok(id) => {
                let stored = store.manager().restore_session(id).await;
                let stored = stored.map_err(|error| Failure::from(error).about(id))?;
                if let (Some(config), Some(made)) = (stored.config.worktree, stored.worktree) {
                    let worktrees =
                        if repo.is_some() { here? } else { open(Some(&config.repository)).await? };
                    return Ok(Self { session: id, worktrees, store, place: None, made: Some(made) });
                }
                let text = format!("session {id} has no worktree of its own");
                Failure::invalid(text).about(id).next(&["worktree", "ls"])
            }
            Err(failure) if failure.code() == Some(ErrorCode::NotFound) => failure,
            Err(failure) => return Err(failure),
        };
        let Ok(worktrees) = here else { return Err(refused) };
        match Self::left_of(&worktrees, text).await?.as_slice() {
            [] => Err(refused),
            [session] => Ok(Self { session: *session, worktrees, store, place: None, made: None }),
            several => {
                let candidates = several.iter().map(ToString::to_string).collect();
                let text = format!("`{text}` matches {} sessions of this repository", several.len());
                Err(Failure::new(ErrorCode::Ambiguous, text).candidates(candidates))
            }
        }
    }

    /// Finds the worktree of this name that is in its place, or was deleted there.
    async fn of_name(store: &Store, worktrees: &Worktrees, name: &str) -> Result<Option<Self>> {
        let known = worktrees.clone();
        let mut found = blocking(move || {
            let (present, lost) = (known.list()?, known.lost()?);
            Ok::<_, WorktreeError>([present, lost].concat())
        })
        .await?;
        found.retain(|tree| has_name(tree.path(), name));
        let Some(place) = found.pop().filter(|_| found.is_empty()) else { return Ok(None) };
        Self::of_place(store, worktrees, place).await.map(Some)
    }

    /// Returns a worktree that was found by its place.
    pub(super) async fn of_place(store: &Store, worktrees: &Worktrees, place: Worktree) -> Result<Self> {
        let manager = &**store.manager();
        let last = worktree::sessions_of(manager, &place.record().mark).await?.pop();
        let session = last.as_ref().map_or(place.session(), |head| head.id);
        let made = match last {
            Some(head) => manager.restore_session(head.id).await.map_err(Failure::from)?.worktree,
            None => None,
        };
        let (worktrees, store) = (worktrees.clone(), store.clone());
        Ok(Self { session, worktrees, store, place: Some(place), made })
    }

    /// Returns the sessions of which the repository still has something: by the name of the worktree, or the beginning of the id.
    async fn left_of(worktrees: &Worktrees, text: &str) -> Result<Vec<SessionId>, WorktreeError> {
        let (known, wanted) = (worktrees.clone(), text.to_owned());
        blocking(move || {
            let mut found: Vec<SessionId> = Vec::new();
            let trash = known.trash()?;
            found.extend(
                trash.iter().filter(|entry| has_name(&entry.path, &wanted)).map(|entry| entry.session),
            );
            if found.is_empty() {
                let kept = known.snapshot_summaries()?.into_iter();
                found.extend(kept.filter(|(_, kept)| kept.name == wanted).map(|(session, _)| session));
            }
            if found.is_empty() {
                let begins = |id: &SessionId| id.to_string().starts_with(&wanted.to_ascii_lowercase());
                found.extend(known.sessions()?.into_iter().filter(begins));
            }
            found.sort_unstable();
            found.dedup();
            Ok(found)
        })
        .await
    }

    /// Finds it in its place. If it is gone, the only one that was created for its session since, from a snapshot.
    pub(super) async fn locate(&self) -> Result<Worktree> {
        let gone = match self.recorded() {
            Some(recorded) => match blocking(move || recorded.locate()).await {
                Ok(found) => return Ok(found),
                Err(error) => Some(error),
            },
            None => None,
        };
        let (worktrees, session) = (self.worktrees.clone(), self.creator().await?);
        let mut others = blocking(move || worktrees.list()).await?;
        others.retain(|tree| tree.session() == session);
        match (others.pop().filter(|_| others.is_empty()), gone) {
            (Some(found), _) => Ok(found),
            (None, Some(error)) => Err(self.gone(error).await?),
            (None, None) => Err(nothing_kept(self)),
        }
    }

    fn recorded(&self) -> Option<RecordedWorktree> {
        let place = self.place.as_ref().map(Worktree::record);
        place.or_else(|| self.made.as_ref().map(worktree::recorded))
    }

    /// Finds what is left of it if its directory was deleted.
    async fn locate_lost(&self) -> Option<Worktree> {
        let recorded = self.recorded()?;
        blocking(move || recorded.locate_lost().ok()).await
    }

    /// Finds it in its place, or what is left of it.
    async fn locate_removable(&self) -> Result<Worktree> {
        match self.locate_lost().await {
            Some(lost) => Ok(lost),
            None => self.locate().await,
        }
    }

    /// Names the way to a worktree that is not in its place.
    async fn gone(&self, error: WorktreeError) -> Result<Failure> {
        let is_gone = matches!(error, WorktreeError::Gone { .. });
        let (failure, id) = (Failure::from(error).about(self.session), self.session.to_string());
        Ok(match self.removed().await?.pop() {
            _ if !is_gone => failure,
            Some(entry) if entry.state == EntryState::Removed => failure.next(&["worktree", "restore", &id]),
            Some(_) => failure.next(&["recover"]),
            None if self.locate_lost().await.is_some() => failure.next(&["worktree", "rm", &id]),
            None => failure.next(&["worktree", "snapshots", &id]),
        })
    }

    /// Returns the commit that it started at, if that is known.
    pub(super) fn base(&self) -> Option<String> {
        self.made.as_ref().map(|made| made.plan.base.clone())
    }

    /// Returns the session that it was created for, by which its snapshots are named.
    pub(super) async fn creator(&self) -> Result<SessionId> {
        if let Some(place) = &self.place {
            return Ok(place.session());
        }
        let Some(made) = &self.made else { return Ok(self.session) };
        if let Some(entry) = self.removed().await?.first() {
            return Ok(entry.session);
        }
        // The first one that has it.
        let sessions = worktree::sessions_of(&**self.store.manager(), &made.mark).await?;
        Ok(sessions.first().map_or(self.session, |head| head.id))
    }

    /// Returns its entries in the trash, the oldest first.
    pub(super) async fn removed(&self) -> Result<Vec<TrashEntry>> {
        let worktrees = self.worktrees.clone();
        let mut entries = blocking(move || worktrees.trash()).await?;
        let mark = self.place.as_ref().map(|place| place.record().mark);
        let mark = mark.or_else(|| self.made.as_ref().map(|made| made.mark.clone()));
        entries.retain(|entry| match &mark {
            Some(mark) => entry.mark == *mark,
            None => entry.session == self.session,
        });
        Ok(entries)
    }

    /// Returns the parts of worktrees of this session that were never completed.
    pub(super) async fn leftovers(&self) -> Result<Vec<Leftover>> {
        let worktrees = self.worktrees.clone();
        let mut leftovers = blocking(move || worktrees.leftovers()).await?;
        leftovers.retain(|leftover| leftover.session == self.session);
        Ok(leftovers)
    }

    /// Returns the entry that was removed last.
    pub(super) async fn last_removed(&self) -> Result<TrashEntry> {
        self.removed().await?.pop().ok_or_else(|| nothing_kept(self))
    }

    /// Returns the directory for a new worktree from a snapshot.
    pub(super) fn place_for(&self, to: Option<PathBuf>, number: u64) -> Result<PathBuf> {
        let next = self.made.as_ref().map(|made| next_to(&made.plan.path, number));
        to.or(next).ok_or_else(|| Failure::invalid("say where it is to be created: --to DIR"))
    }

    /// Moves its worktree into the trash.
    pub(super) async fn remove(&self, options: RemoveOptions) -> Result<Option<RemovedWorktree>> {
        let worktree = self.locate_removable().await?;
        let manager = &**self.store.manager();
        worktree::remove(manager, &self.worktrees, &worktree, options)
            .await
            .map(Some)
            .map_err(|error| refusal(error, self.session))
    }

    /// Merges what is committed in it into another branch.
    pub(super) async fn merge(
        &self,
        worktree: &Worktree,
        options: &MergeOptions,
    ) -> Result<Merge, SessionWorktreeError> {
        worktree::merge(&**self.store.manager(), &self.worktrees, worktree, options).await
    }

    /// Checks that its worktree could be removed.
    pub(super) async fn removable(&self) -> Result<Option<RemovedWorktree>> {
        let worktree = self.locate_removable().await?;
        let manager = &**self.store.manager();
        worktree::check_removable(manager, &self.worktrees, &worktree)
            .await
            .map(|()| None)
            .map_err(|error| refusal(error, self.session))
    }
}

/// Names the way out of a refusal.
pub(super) fn refusal(error: SessionWorktreeError, of: SessionId) -> Failure {
    let of = of.to_string();
    let SessionWorktreeError::Worktree(refused) = &error else { return Failure::from(error) };
    let occupant = if let WorktreeError::Occupied { session, .. } = refused {
        session.to_string()
    } else {
        String::new()
    };
    let next: &[&str] = if !occupant.is_empty() {
        &["cancel", &occupant]
    } else if let WorktreeError::InUse { .. } = refused {
        &["worktree", "rm", "--in-use", &of]
    } else if let WorktreeError::Locked { .. } = refused {
        &["worktree", "unlock", &of]
    } else {
        &["worktree", "ls"]
    };
    Failure::chain(refused.code(), refused).next(next)
}

/// Opens the repository of a directory.
pub(super) async fn open(dir: Option<&Path>) -> Result<Worktrees> {
    let dir = match dir {
        Some(dir) => dir.to_owned(),
        None => std::env::current_dir()
            .map_err(|error| Failure::invalid(format!("the current directory cannot be read: {error}")))?,
    };
    Ok(blocking(move || Worktrees::new(dir).map(approval::with_approvals)).await?)
}

/// Creates the failure of asking for what was never removed.
pub(super) fn nothing_kept(target: &Target) -> Failure {
    let text = format!("nothing of a worktree of session {} is in the trash", target.session);
    Failure::new(ErrorCode::NotFound, text).about(target.session).next(&["worktree", "ls"])
}

/// Returns the directory for a worktree from a snapshot.
fn next_to(path: &Path, number: u64) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".snapshot-{number}"));
    path.with_file_name(name)
}

fn has_name(path: &Path, name: &str) -> bool {
    path.file_name().is_some_and(|found| found.to_str() == Some(name))
}
