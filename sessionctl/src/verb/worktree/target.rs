//! The worktree that an argument means: that of a session of the store, or one that a repository still knows.

use std::path::{Path, PathBuf};

use sessionkit::backend::blocking;
use sessionkit::log::{PersistedSession, SessionWorktree};
use sessionkit::worktree::{
    self, Leftover, RemoveOptions, RemovedWorktree, TrashEntry, Worktree, WorktreeError, Worktrees,
};
use sessionkit::{ErrorCode, SessionId, Store};

use crate::context::Context;
use crate::error::{Failure, Result};
use crate::ids;

/// A session with the worktree that it has, or had.
pub(super) struct Target {
    pub(super) session: SessionId,
    pub(super) worktrees: Worktrees,
    store: Store,
    /// The record in its log; `None` if the session is gone.
    made: Option<SessionWorktree>,
}

impl Target {
    /// Finds the session that a text means, in the store, else in the repository.
    pub(super) async fn find(context: &Context, text: &str, repo: Option<&Path>) -> Result<Self> {
        let store = context.open().await?;
        match ids::resolve(context, &**store.manager(), text, ids::Purpose::Use).await {
            Ok(id) => {
                let stored = store
                    .manager()
                    .restore_session(id)
                    .await
                    .map_err(|error| Failure::from(error).about(id))?;
                Self::of(store, stored, repo).await
            }
            Err(failure) if failure.code() == Some(ErrorCode::NotFound) => {
                Self::in_repository(store, text, repo).await?.ok_or(failure)
            }
            Err(failure) => Err(failure),
        }
    }

    /// Takes a session of the store.
    pub(super) async fn of(store: Store, stored: PersistedSession, repo: Option<&Path>) -> Result<Self> {
        let session = stored.head.id;
        let (Some(config), Some(made)) = (stored.config.worktree, stored.worktree) else {
            let text = format!("session {session} has no worktree of its own");
            return Err(Failure::invalid(text).about(session).next(&["worktree", "ls"]));
        };
        let worktrees = match repo {
            Some(repo) => open(Some(repo)).await?,
            None => worktree::repository(&config).await?,
        };
        Ok(Self { session, worktrees, store, made: Some(made) })
    }

    /// Finds what the repository knows of a session that is not in the store: by the beginning of its id, or by the name of the
    /// worktree.
    async fn in_repository(store: Store, text: &str, repo: Option<&Path>) -> Result<Option<Self>> {
        let Ok(worktrees) = open(repo).await else { return Ok(None) };
        let (known, wanted) = (worktrees.clone(), text.to_owned());
        let found = blocking(move || {
            let is_named = |path: &Path| path.file_name().is_some_and(|name| name.to_str() == Some(&wanted));
            let mut found: Vec<SessionId> = Vec::new();
            found.extend(known.list()?.iter().filter(|tree| is_named(tree.path())).map(Worktree::session));
            found.extend(
                known.trash()?.iter().filter(|entry| is_named(&entry.path)).map(|entry| entry.session),
            );
            if found.is_empty() {
                let begins = |id: &SessionId| id.to_string().starts_with(&wanted.to_ascii_lowercase());
                found.extend(known.sessions()?.into_iter().filter(begins));
            }
            found.sort_unstable();
            found.dedup();
            Ok::<_, WorktreeError>(found)
        })
        .await?;
        match found.as_slice() {
            [] => Ok(None),
            [session] => Ok(Some(Self { session: *session, worktrees, store, made: None })),
            several => {
                let candidates = several.iter().map(ToString::to_string).collect();
                let text = format!("`{text}` matches {} sessions of this repository", several.len());
                Err(Failure::new(ErrorCode::Ambiguous, text).candidates(candidates))
            }
        }
    }

    /// Finds its worktree in its place.
    pub(super) async fn locate(&self) -> Result<Worktree> {
        if let Some(made) = &self.made {
            let recorded = worktree::recorded(made);
            let found = blocking(move || recorded.locate()).await;
            return found.map_err(|error| self.gone(error));
        }
        let (worktrees, session) = (self.worktrees.clone(), self.session);
        let found =
            blocking(move || worktrees.list()).await?.into_iter().find(|tree| tree.session() == session);
        found.ok_or_else(|| nothing_kept(self))
    }

    fn gone(&self, error: WorktreeError) -> Failure {
        let is_gone = matches!(error, WorktreeError::Gone { .. });
        let failure = Failure::from(error).about(self.session);
        if is_gone { failure.next(&["worktree", "restore", &self.session.to_string()]) } else { failure }
    }

    /// Returns the commit that it started at, if that is known.
    pub(super) fn base(&self) -> Option<String> {
        self.made.as_ref().map(|made| made.plan.base.clone())
    }

    /// Returns the session that it was created for, by which its snapshots are named.
    pub(super) async fn creator(&self) -> Result<SessionId> {
        let Some(made) = &self.made else { return Ok(self.session) };
        if let Ok(worktree) = self.locate().await {
            return Ok(worktree.session());
        }
        if let Some(entry) = self.removed().await?.first() {
            return Ok(entry.session);
        }
        let sessions = worktree::sessions_of(&**self.store.manager(), &made.mark).await?;
        Ok(sessions.first().map_or(self.session, |head| head.id))
    }

    /// Returns its entries in the trash, the oldest first.
    pub(super) async fn removed(&self) -> Result<Vec<TrashEntry>> {
        let worktrees = self.worktrees.clone();
        let mut entries = blocking(move || worktrees.trash()).await?;
        entries.retain(|entry| match &self.made {
            Some(made) => entry.mark == made.mark,
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
        let worktree = self.locate().await?;
        let manager = &**self.store.manager();
        worktree::remove(manager, &self.worktrees, &worktree, options).await.map(Some).map_err(refusal)
    }

    /// Checks that its worktree could be removed.
    pub(super) async fn removable(&self) -> Result<Option<RemovedWorktree>> {
        let worktree = self.locate().await?;
        let manager = &**self.store.manager();
        worktree::check_removable(manager, &self.worktrees, &worktree).await.map(|()| None).map_err(refusal)
    }
}

/// Names the way out of a refusal.
pub(super) fn refusal(error: worktree::SessionWorktreeError) -> Failure {
    if let worktree::SessionWorktreeError::Worktree(WorktreeError::Occupied { session, .. }) = &error {
        let next = ["cancel".to_owned(), session.to_string()];
        return Failure::from(error).next(&next.each_ref().map(String::as_str));
    }
    Failure::from(error)
}

/// Opens the repository of a directory.
pub(super) async fn open(dir: Option<&Path>) -> Result<Worktrees> {
    let dir = match dir {
        Some(dir) => dir.to_owned(),
        None => std::env::current_dir()
            .map_err(|error| Failure::invalid(format!("the current directory cannot be read: {error}")))?,
    };
    Ok(blocking(move || Worktrees::new(dir)).await?)
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
