//! The worktrees of one repository.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use session_core::{SessionId, Timestamp};

use crate::creation::{self, CreationPlan, NewWorktree, RecoveredCreation};
use crate::error::{Result, WorktreeError};
use crate::files;
use crate::git::Git;
use crate::include::{self, IncludedFiles};
use crate::leftover::{self, Leftover};
use crate::merge::{self, Merge, MergeOptions};
use crate::merged::{self, MergeProof};
use crate::pin::{self, Pin};
use crate::registration::Registration;
use crate::removal::RemoveOptions;
use crate::repository::{Repository, RepositoryLock};
use crate::snapshots::{self, Snapshot, SnapshotSummary};
use crate::status::{self, WorktreeStatus};
use crate::trash::{self, RecoveredEntry, RemovedWorktree};
use crate::trash_entry::TrashEntry;
use crate::worktree::{RecordedWorktree, Worktree};

/// Names of directories whose ignored content can be created again, besides those with a `CACHEDIR.TAG`.
const CACHES: [&str; 2] = ["node_modules", "__pycache__"];

/// The worktrees of one repository. All calls block.
#[derive(Debug, Clone)]
pub struct Worktrees {
    repository: Repository,
    caches: Vec<String>,
}

impl Worktrees {
    /// Opens the repository of a directory, with the `git` of `PATH`.
    ///
    /// # Errors
    /// [`WorktreeError::NotARepository`]; git that is missing or too old.
    pub fn new(dir: impl AsRef<Path>) -> Result<Self> {
        Self::with_git(&Git::default(), dir)
    }

    /// Opens the repository of a directory, with another git.
    ///
    /// # Errors
    /// Those of [`new`](Self::new).
    pub fn with_git(git: &Git, dir: impl AsRef<Path>) -> Result<Self> {
        let repository = Repository::open(git, dir.as_ref())?;
        Ok(Self { repository, caches: CACHES.map(str::to_owned).to_vec() })
    }

    /// Sets the names of directories whose ignored content can be created again, besides those with a `CACHEDIR.TAG`. They
    /// go with a worktree into the trash, and are not pinned.
    #[must_use]
    pub fn caches(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.caches = names.into_iter().map(Into::into).collect();
        self
    }

    /// Returns the repository.
    #[must_use]
    pub const fn repository(&self) -> &Repository {
        &self.repository
    }

    /// Chooses directory, branch and commit of a worktree. Creates nothing.
    ///
    /// # Errors
    /// [`WorktreeError::Unborn`], [`WorktreeError::UnknownBase`], [`WorktreeError::NoPlace`].
    pub fn plan(&self, new: &NewWorktree) -> Result<CreationPlan> {
        creation::plan(&self.repository, new)
    }

    /// Creates a planned worktree: `None` if its directory or its branch was taken since, so that a new plan is needed.
    ///
    /// The plan has to be recorded before, so that [`recover_creation`](Self::recover_creation) finds what a crash leaves.
    ///
    /// # Errors
    /// [`WorktreeError::Git`], after which nothing is left of it.
    pub fn create(&self, plan: &CreationPlan) -> Result<Option<Worktree>> {
        creation::create(&self.repository, plan)
    }

    /// Completes or rolls back a creation that was interrupted.
    ///
    /// # Errors
    /// Those of git and of the system; it can be called again.
    pub fn recover_creation(&self, plan: &CreationPlan) -> Result<RecoveredCreation> {
        creation::recover(&self.repository, plan)
    }

    /// Returns the names of the filters, drivers and helpers that are not run, because only the repository's own configuration
    /// names them.
    ///
    /// # Errors
    /// Those of git.
    pub fn unapproved(&self) -> Result<Vec<String>> {
        Ok(self.repository.unapproved()?.names.into_iter().collect())
    }

    /// Returns the settings of the filters, drivers and helpers that are not run: `key=value`, one per line. Empty if there are
    /// none.
    ///
    /// # Errors
    /// Those of git.
    pub fn unapproved_settings(&self) -> Result<String> {
        Ok(self.repository.unapproved()?.text)
    }

    /// Lets git run the filters, drivers and helpers of the repository's own configuration, as long as their settings are exactly
    /// these, as [`unapproved_settings`](Self::unapproved_settings) returned them.
    #[must_use]
    pub fn approve(mut self, settings: impl Into<String>) -> Self {
        self.repository.approve(settings.into());
        self
    }

    /// Returns the worktrees of sessions that are in their place.
    ///
    /// # Errors
    /// If the registrations cannot be read.
    pub fn list(&self) -> Result<Vec<Worktree>> {
        self.registered(RecordedWorktree::locate)
    }

    /// Returns the worktrees of sessions whose directory was deleted by other means than [`remove`](Self::remove), which takes
    /// what is left of them, too.
    ///
    /// # Errors
    /// If the registrations cannot be read.
    pub fn lost(&self) -> Result<Vec<Worktree>> {
        self.registered(RecordedWorktree::locate_lost)
    }

    /// Returns the worktrees with a mark that can be located in this way.
    fn registered(&self, locate: impl Fn(&RecordedWorktree) -> Result<Worktree>) -> Result<Vec<Worktree>> {
        let mut found = Vec::new();
        for registration in Registration::all(&self.repository.registrations())? {
            let Ok(Some(mark)) = registration.mark() else { continue };
            let path = registration.worktree()?.unwrap_or_default();
            found.extend(locate(&RecordedWorktree::new(path, registration.dir, mark.text)).ok());
        }
        Ok(found)
    }

    /// Keeps the content of a worktree in a commit under `refs/sessions/<session>`. The worktree, its index and its files
    /// are left as they are.
    ///
    /// # Errors
    /// [`WorktreeError::CannotPin`].
    pub fn pin(&self, worktree: &Worktree) -> Result<Pin> {
        Ok(pin::pin(&self.repository, worktree, &self.caches)?.pin)
    }

    /// Reads the state of a worktree, compared with the commit that it started at.
    ///
    /// # Errors
    /// Files that cannot be read; those of git.
    pub fn status(&self, worktree: &Worktree, base: Option<&str>) -> Result<WorktreeStatus> {
        status::status(&self.repository, worktree, base, &self.caches)
    }

    /// Proves that the branch from which a worktree started, the default branch, or the upstream of one of them has the commit that
    /// is checked out, or everything that it brought: after a merge, a squash, a rebase or cherry-picks. `None` if that cannot be
    /// proven.
    ///
    /// # Errors
    /// Those of git.
    pub fn merged(&self, worktree: &Worktree) -> Result<Option<MergeProof>> {
        match pin::head(&self.repository, worktree)? {
            Some(head) => merged::proof(&self.repository, worktree, &head),
            None => Ok(None),
        }
    }

    /// Merges what is committed in a worktree into another branch. Nothing is changed unless all of it is merged.
    ///
    /// # Errors
    /// [`WorktreeError::Uncommitted`], [`WorktreeError::NoTarget`], [`WorktreeError::NotFastForward`];
    /// [`WorktreeError::TargetDirty`] and [`WorktreeError::OperationInProgress`] of the worktree that has the target checked out.
    pub fn merge(&self, worktree: &Worktree, options: &MergeOptions) -> Result<Merge> {
        let lock = self.lock()?;
        self.merge_locked(&lock, worktree, options)
    }

    /// Merges like [`merge`](Self::merge), under a lock that is held already: what was checked under it still holds.
    ///
    /// # Errors
    /// Those of [`merge`](Self::merge).
    pub fn merge_locked(
        &self,
        lock: &RepositoryLock,
        worktree: &Worktree,
        options: &MergeOptions,
    ) -> Result<Merge> {
        merge::merge(&self.repository, lock, worktree, options, &self.caches)
    }

    /// Returns the worktree that has the target of a merge checked out.
    ///
    /// # Errors
    /// [`WorktreeError::NoTarget`].
    pub fn merge_target(&self, worktree: &Worktree, options: &MergeOptions) -> Result<Option<PathBuf>> {
        let into = merge::target(&self.repository, worktree, options)?;
        self.repository.checked_out_in(&format!("refs/heads/{into}"))
    }

    /// Copies the files into a new worktree that git ignores and the file `.worktreeinclude` of the main worktree names.
    ///
    /// # Errors
    /// If they cannot be listed; one that cannot be copied is skipped.
    pub fn include_files(&self, worktree: &Worktree) -> Result<IncludedFiles> {
        include::copy(&self.repository, self.repository.root(), worktree.path())
    }

    /// Returns all sessions that have a worktree here, in its place or in the trash, or a snapshot.
    ///
    /// # Errors
    /// Those of git.
    pub fn sessions(&self) -> Result<BTreeSet<SessionId>> {
        let mut sessions: BTreeSet<SessionId> = self.snapshot_summaries()?.into_keys().collect();
        sessions.extend(self.list()?.iter().chain(&self.lost()?).map(Worktree::session));
        sessions.extend(self.trash()?.iter().map(|entry| entry.session));
        sessions.extend(self.leftovers()?.iter().map(|leftover| leftover.session));
        Ok(sessions)
    }

    /// Returns the sessions that have snapshots, with their number and the name of the worktree.
    ///
    /// # Errors
    /// Those of git.
    pub fn snapshot_summaries(&self) -> Result<BTreeMap<SessionId, SnapshotSummary>> {
        snapshots::summaries(&self.repository)
    }

    /// Returns the changes in a worktree since a commit, as `git diff` prints them, or only their numbers of lines. Files that
    /// are not tracked are not among them.
    ///
    /// # Errors
    /// Those of git.
    pub fn diff(&self, worktree: &Worktree, base: &str, stat: bool) -> Result<Vec<u8>> {
        status::diff(&self.repository, worktree, base, stat)
    }

    /// Returns the bytes that a worktree takes on the disk, without those of the repository.
    #[must_use]
    pub fn disk_bytes(&self, worktree: &Worktree) -> u64 {
        files::disk_bytes(worktree.path())
    }

    /// Returns the bytes that a removed worktree takes on the disk.
    #[must_use]
    pub fn trash_bytes(&self, entry: &TrashEntry) -> u64 {
        files::disk_bytes(&self.repository.trash().join(&entry.id)) + entry.outside_bytes(&self.repository)
    }

    /// Unlocks a worktree, so that git commands can move or remove it. It is still one of ours.
    ///
    /// # Errors
    /// Those of git, also if it is not locked.
    pub fn unlock(&self, worktree: &Worktree) -> Result<()> {
        let call = self.repository.call("unlock a worktree").args(["worktree", "unlock", "--end-of-options"]);
        call.arg(worktree.path()).run().map(drop)
    }

    /// Returns the snapshots of a session, the oldest first.
    ///
    /// # Errors
    /// Those of git.
    pub fn snapshots(&self, session: SessionId) -> Result<Vec<Snapshot>> {
        snapshots::list(&self.repository, session)
    }

    /// Removes a snapshot of a session. Git may delete its content then.
    ///
    /// # Errors
    /// [`WorktreeError::NothingKept`].
    pub fn drop_snapshot(&self, session: SessionId, number: u64) -> Result<()> {
        snapshots::drop(&self.repository, session, number)
    }

    /// Creates a worktree from a snapshot: its files, its index and HEAD, on its branch if that is still at the same
    /// commit and checked out nowhere else.
    ///
    /// # Errors
    /// [`WorktreeError::NothingKept`]; [`WorktreeError::NoPlace`] if the path is taken.
    pub fn restore_snapshot(&self, session: SessionId, number: u64, path: &Path) -> Result<Worktree> {
        snapshots::restore(&self.repository, session, number, path)
    }

    /// Moves a worktree into the trash, whatever its state, after its content was pinned; of a [lost](Self::lost) one, what is
    /// left. Its branch stays unless its deletion is
    /// asked for.
    ///
    /// # Errors
    /// [`WorktreeError::InUse`], [`WorktreeError::Locked`], [`WorktreeError::Gone`], [`WorktreeError::CannotPin`]: then it is
    /// in its place.
    pub fn remove(&self, worktree: &Worktree, options: RemoveOptions) -> Result<RemovedWorktree> {
        let lock = self.lock()?;
        self.remove_locked(&lock, worktree, options)
    }

    /// Moves a worktree into the trash like [`remove`](Self::remove), under a lock that is held already: what was checked
    /// under it still holds.
    ///
    /// # Errors
    /// Those of [`remove`](Self::remove).
    pub fn remove_locked(
        &self,
        _lock: &RepositoryLock,
        worktree: &Worktree,
        options: RemoveOptions,
    ) -> Result<RemovedWorktree> {
        trash::remove(&self.repository, worktree, &self.caches, options)
    }

    /// Waits until no other process creates, removes or restores a worktree of this repository.
    ///
    /// # Errors
    /// If the lock cannot be taken.
    pub fn lock(&self) -> Result<RepositoryLock> {
        self.repository.lock()
    }

    /// Returns the removed worktrees, the oldest first.
    ///
    /// # Errors
    /// If the trash cannot be read.
    pub fn trash(&self) -> Result<Vec<TrashEntry>> {
        trash::list(&self.repository)
    }

    /// Puts a removed worktree back, at its former place or at the given one; if that is taken, next to it.
    ///
    /// # Errors
    /// [`WorktreeError::NothingKept`]; another file system.
    pub fn restore(&self, id: &str, to: Option<&Path>) -> Result<Worktree> {
        trash::restore(&self.repository, id, to)
    }

    /// Returns the entry of a session that was removed last.
    ///
    /// # Errors
    /// [`WorktreeError::NothingKept`].
    pub fn last_removed(&self, session: SessionId) -> Result<TrashEntry> {
        let mut entries = self.trash()?;
        entries.retain(|entry| entry.session == session);
        entries.pop().ok_or_else(|| WorktreeError::NothingKept { what: session.to_string() })
    }

    /// Deletes a removed worktree for good, and returns the bytes that this frees. Its pin stays. One with content that its
    /// pin does not keep is left, with `None`, unless `all` is set.
    ///
    /// # Errors
    /// [`WorktreeError::NothingKept`]; files that cannot be deleted.
    pub fn purge(&self, id: &str, all: bool) -> Result<Option<u64>> {
        trash::purge(&self.repository, id, all)
    }

    /// Returns the parts of worktrees that were never completed, in the trash.
    ///
    /// # Errors
    /// If the trash cannot be read.
    pub fn leftovers(&self) -> Result<Vec<Leftover>> {
        leftover::list(&self.repository)
    }

    /// Deletes the parts of a worktree that was never completed, and returns the bytes that this frees.
    ///
    /// # Errors
    /// Files that cannot be deleted.
    pub fn purge_leftover(&self, leftover: &Leftover) -> Result<u64> {
        let _lock = self.lock()?;
        leftover.purge(&self.repository)
    }

    /// Returns the bytes that the parts of a worktree that was never completed take on the disk.
    #[must_use]
    pub fn leftover_bytes(&self, leftover: &Leftover) -> u64 {
        leftover.disk_bytes(&self.repository)
    }

    /// Deletes for good what was removed before a time and is complete in its snapshot, and returns the directories that it had.
    /// Parts of worktrees that were never completed have no snapshot, so they are left.
    ///
    /// # Errors
    /// If the trash cannot be read; files that cannot be deleted.
    pub fn purge_older(&self, before: Timestamp) -> Result<Vec<PathBuf>> {
        let mut purged = Vec::new();
        for entry in self.trash()?.into_iter().filter(|entry| entry.at < before) {
            if self.purge(&entry.id, false)?.is_some() {
                purged.push(entry.path);
            }
        }
        Ok(purged)
    }

    /// Completes removals and restorations that were interrupted, or gives them up.
    ///
    /// # Errors
    /// Those of the system; it can be called again.
    pub fn recover(&self) -> Result<Vec<RecoveredEntry>> {
        let recovered = trash::recover(&self.repository)?;
        if let Err(error) =
            self.list().and_then(|worktrees| pin::remove_incomplete(&self.repository, &worktrees))
        {
            tracing::warn!(%error, "could not look for incomplete pins");
        }
        Ok(recovered)
    }
}
