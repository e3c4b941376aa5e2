//! The trash: worktrees that were removed, whole, with their registrations. Nothing is removed that is not here, and what
//! is here can be put back.
//!
//! An entry is a folder in the repository with a file that names everything. It is written before the first move and
//! alone is enough to put the worktree back, or to complete a removal that was interrupted.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use session_core::os_text;
use session_core::{Clock as _, SessionId, SystemClock, Timestamp};

use crate::error::{IoContext as _, Result, WorktreeError};
use crate::files;
use crate::leftover::{self, Leftover};
use crate::pin::{self, Pin};
use crate::processes;
use crate::registration::{Registration, lock_reason};
use crate::removal::{BranchOutcome, RemoveOptions, delete_branch};
use crate::repository::Repository;
use crate::worktree::{RecordedWorktree, Worktree, is_same};

/// The name of the file of an entry.
const FILE: &str = "entry.json";

/// A worktree that was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TrashEntry {
    format: u32,
    /// The name of the entry.
    pub id: String,
    /// The session that the worktree was created for.
    pub session: SessionId,
    /// The directory that it had.
    #[serde(with = "os_text::path")]
    pub path: PathBuf,
    /// The registration that it had.
    #[serde(with = "os_text::path")]
    pub git_dir: PathBuf,
    /// The random text of its mark.
    pub mark: String,
    /// The branch that was checked out; `None` for a detached HEAD.
    pub branch: Option<String>,
    /// The commit that was checked out; `None` on a branch without one.
    pub head: Option<String>,
    /// The commit that keeps its content from git's garbage collection.
    pub pin: Pin,
    /// The time of its removal.
    pub at: Timestamp,
    /// The step that a removal or restoration is in.
    pub state: EntryState,
    /// The place of its directory in the trash.
    #[serde(with = "os_text::path")]
    tree: PathBuf,
}

/// The step that a removal or restoration is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EntryState {
    /// It is being removed.
    Removing,
    /// It is in the trash.
    Removed,
    /// It is being put back at this place.
    Restoring {
        /// The directory.
        #[serde(with = "os_text::path")]
        path: PathBuf,
        /// The registration.
        #[serde(with = "os_text::path")]
        git_dir: PathBuf,
    },
    /// It is being deleted for good: parts of it may be gone.
    Purging,
}

/// The result of a removal.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RemovedWorktree {
    /// The entry in the trash.
    pub entry: TrashEntry,
    /// The result for its branch.
    pub branch: BranchOutcome,
}

/// The result of a recovery of the trash.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecoveredEntry {
    /// A removal was completed.
    Removed(TrashEntry),
    /// A removal that had not moved anything yet was given up: the worktree is in its place.
    Kept(TrashEntry),
    /// A restoration was completed.
    Restored(Worktree),
    /// A deletion for good was completed.
    Purged(TrashEntry),
    /// A worktree that had not been completed was moved into the trash.
    RolledBack(Leftover),
    /// One that cannot be recovered now. The others were.
    Failed {
        /// The name of the entry.
        id: String,
        /// The reason.
        reason: String,
    },
}

impl TrashEntry {
    fn folder(&self, repository: &Repository) -> PathBuf {
        repository.trash().join(&self.id)
    }

    fn registration(&self, repository: &Repository) -> PathBuf {
        self.folder(repository).join("registration")
    }

    fn write(&self, repository: &Repository) -> Result<()> {
        files::write_json(&self.folder(repository).join(FILE), self)
    }

    /// Moves the worktree into the trash, as far as it is not there yet: first the registration, so that git forgets the
    /// worktree only when it is there.
    fn complete_removal(&mut self, repository: &Repository) -> Result<()> {
        let registration = self.registration(repository);
        if !files::exists(&registration) {
            files::move_dir(&self.git_dir, &registration)?;
        }
        if !files::exists(&self.tree) && files::exists(&self.path) {
            if let Some(parent) = self.tree.parent() {
                files::create_dir(parent)?;
            }
            files::move_dir(&self.path, &self.tree)?;
        }
        self.state = EntryState::Removed;
        self.write(repository)
    }

    /// Moves the worktree into the trash, or leaves it as it was.
    fn remove_or_undo(&mut self, repository: &Repository) -> Result<()> {
        let removed = self.complete_removal(repository);
        if removed.is_err() {
            self.undo_removal(repository)?;
        }
        removed
    }

    /// Gives up a removal whose directory could not be moved: git knows the worktree again.
    fn undo_removal(&self, repository: &Repository) -> Result<()> {
        let registration = self.registration(repository);
        if files::exists(&self.tree) || !files::exists(&self.path) {
            return Ok(());
        }
        if files::exists(&registration) && !files::exists(&self.git_dir) {
            files::create_dir(&repository.registrations())?;
            files::move_dir(&registration, &self.git_dir)?;
        }
        discard(&self.folder(repository))
    }

    /// Moves the worktree back, as far as it is not there yet.
    fn complete_restoration(&mut self, repository: &Repository) -> Result<Worktree> {
        let EntryState::Restoring { path, git_dir } = self.state.clone() else {
            return Err(WorktreeError::NothingKept { what: self.id.clone() });
        };
        if files::exists(&self.tree) {
            if let Some(parent) = path.parent() {
                files::create_dir(parent)?;
            }
            files::move_dir(&self.tree, &path)?;
        }
        let mut git_dir = git_dir;
        let kept = Registration::new(self.registration(repository));
        while files::exists(&kept.dir) {
            files::create_dir(&repository.registrations())?;
            // Before git sees it, so that it never names another directory.
            kept.connect_as(&path, &git_dir)?;
            match files::move_dir(&kept.dir, &git_dir) {
                Err(WorktreeError::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {
                    // A garbage collection that ran meanwhile has created a directory of that name.
                    git_dir = files::free(&git_dir);
                    self.state = EntryState::Restoring { path: path.clone(), git_dir: git_dir.clone() };
                    self.write(repository)?;
                }
                moved => moved?,
            }
        }
        let worktree = RecordedWorktree::new(&path, &git_dir, &self.mark).locate()?;
        if let (Some(branch), Some(head)) = (&self.branch, &self.head) {
            // It may have been deleted with the worktree. One that is there is left as it is.
            let name = format!("refs/heads/{branch}");
            if repository.ref_target(&name)?.is_none() {
                let nothing = "0".repeat(head.len());
                repository.call("create a branch").args(["update-ref", &name, head, &nothing]).run()?;
            }
        }
        let folder = self.folder(repository);
        fs::remove_file(folder.join(FILE)).context("remove", &folder.join(FILE))?;
        fs::remove_dir(&folder).context("remove", &folder)?;
        files::flush_parent(&folder)?;
        Ok(worktree)
    }
}

impl TrashEntry {
    /// Returns the bytes of its directory, if that is kept on the file system of the worktree.
    pub(crate) fn outside_bytes(&self, repository: &Repository) -> u64 {
        if self.tree.starts_with(self.folder(repository)) { 0 } else { files::disk_bytes(&self.tree) }
    }

    /// Deletes what is left, and returns its bytes.
    fn complete_purge(&self, repository: &Repository) -> Result<u64> {
        let mut freed = 0;
        for dir in [self.tree.clone(), self.registration(repository)] {
            // Both were renamed by us, to names with a random part.
            freed += files::disk_bytes(&dir);
            match fs::remove_dir_all(&dir) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).context("remove", &dir);
                }
                _ => {}
            }
        }
        discard(&self.folder(repository))?;
        Ok(freed)
    }
}

/// Moves a worktree into the trash. The caller holds the lock.
pub(crate) fn remove(
    repository: &Repository,
    worktree: &Worktree,
    caches: &[String],
    options: RemoveOptions,
) -> Result<RemovedWorktree> {
    if worktree.is_lost() {
        // What only its registration keeps is pinned as that of any other.
        worktree.revive()?;
    }
    // It may have changed while the lock was waited for.
    let worktree = worktree.record().locate()?;
    if worktree.path.is_symlink() {
        let reason =
            "a link is in its place: move what it leads to there with `git worktree move`".to_owned();
        return Err(WorktreeError::Gone { path: worktree.path, reason });
    }
    if let Some(reason) =
        worktree.registration.lock_reason()?.filter(|reason| *reason != lock_reason(worktree.session))
    {
        return Err(WorktreeError::Locked { path: worktree.path, reason });
    }
    let check_processes = || {
        let (processes, _) = processes::inside(&worktree.path);
        if processes.is_empty() || options.in_use {
            return Ok(());
        }
        Err(WorktreeError::InUse { path: worktree.path.clone(), processes })
    };
    check_processes()?;
    let mut pinned = pin::pin(repository, &worktree, caches)?;
    let id = format!("{}.{}", worktree.session, uuid::Uuid::new_v4().simple());
    let folder = repository.trash().join(&id);
    files::create_dir(&folder)?;
    let mut entry = TrashEntry {
        format: 1,
        id,
        session: worktree.session,
        path: worktree.path.clone(),
        git_dir: worktree.registration.dir.clone(),
        mark: worktree.mark.clone(),
        branch: worktree.branch()?,
        head: pin::head(repository, &worktree)?,
        pin: pinned.pin.clone(),
        at: SystemClock.now(),
        state: EntryState::Removing,
        tree: files::trash_place(&folder, &worktree.path)?,
    };
    entry.write(repository)?;
    // The last look: from here to the moves, nothing else is done.
    let looked = check_processes().and_then(|()| {
        while !pin::is_unchanged(repository, &worktree, &pinned.scan, caches)? {
            pinned = pin::pin(repository, &worktree, caches)?;
            entry.pin = pinned.pin.clone();
            (entry.branch, entry.head) = (worktree.branch()?, pin::head(repository, &worktree)?);
            entry.write(repository)?;
        }
        Ok(())
    });
    if let Err(error) = looked {
        discard(&folder)?;
        return Err(error);
    }
    entry.remove_or_undo(repository)?;
    let branch = match (&entry.branch, &entry.head) {
        (None, _) | (_, None) => BranchOutcome::None,
        (Some(_), Some(_)) if !options.delete_branch => BranchOutcome::Kept,
        (Some(branch), Some(head)) => delete_branch(repository, branch, head)?,
    };
    Ok(RemovedWorktree { entry, branch })
}

/// Puts a worktree back: at its former place, or at the given one; if that is taken, next to it.
pub(crate) fn restore(repository: &Repository, id: &str, to: Option<&Path>) -> Result<Worktree> {
    let _lock = repository.lock()?;
    let mut entry =
        read(repository, id)?.ok_or_else(|| WorktreeError::NothingKept { what: id.to_owned() })?;
    if entry.state != EntryState::Removed || !files::exists(&entry.tree) {
        return Err(WorktreeError::NothingKept { what: id.to_owned() });
    }
    let path = files::free(to.unwrap_or(&entry.path));
    if !files::on_one_device(&entry.tree, files::existing_parent(&path)) {
        let reason = format!("{} is on another file system", path.display());
        return Err(WorktreeError::NoPlace { slug: id.to_owned(), reason });
    }
    let git_dir = files::free(&entry.git_dir);
    entry.state = EntryState::Restoring { path, git_dir };
    entry.write(repository)?;
    entry.complete_restoration(repository)
}

/// Completes or gives up what was interrupted. One entry that cannot be recovered does not keep the others.
pub(crate) fn recover(repository: &Repository) -> Result<Vec<RecoveredEntry>> {
    let _lock = repository.lock()?;
    let mut recovered: Vec<RecoveredEntry> = Vec::new();
    for id in ids(repository)? {
        let entry = read(repository, &id);
        match entry.and_then(|entry| entry.map_or(Ok(None), |entry| recover_entry(repository, entry))) {
            Ok(entry) => recovered.extend(entry),
            Err(error) => recovered.push(RecoveredEntry::Failed { id, reason: error.to_string() }),
        }
    }
    // After the restorations: those complete their own.
    recovered.extend(leftover::recover(repository)?.into_iter().map(RecoveredEntry::RolledBack));
    Ok(recovered)
}

fn recover_entry(repository: &Repository, mut entry: TrashEntry) -> Result<Option<RecoveredEntry>> {
    match &entry.state {
        EntryState::Removed => Ok(None),
        EntryState::Restoring { .. } => {
            entry.complete_restoration(repository).map(RecoveredEntry::Restored).map(Some)
        }
        EntryState::Purging => {
            entry.complete_purge(repository)?;
            Ok(Some(RecoveredEntry::Purged(entry)))
        }
        EntryState::Removing if files::exists(&entry.registration(repository)) => {
            // Git knows the worktree no more: only the directory is left to be moved, if it is still that one.
            let is_it = Registration::of_worktree(&entry.path)?
                .is_some_and(|link| is_same_or_gone(&link.dir, &entry.git_dir));
            if files::exists(&entry.path) && !is_it {
                let reason = "another directory is in its place".to_owned();
                return Err(WorktreeError::Gone { path: entry.path, reason });
            }
            entry.remove_or_undo(repository)?;
            Ok(Some(RecoveredEntry::Removed(entry)))
        }
        EntryState::Removing => {
            discard(&entry.folder(repository))?;
            Ok(Some(RecoveredEntry::Kept(entry)))
        }
    }
}

/// Returns the entries of the trash, the oldest first.
pub(crate) fn list(repository: &Repository) -> Result<Vec<TrashEntry>> {
    let mut entries = Vec::new();
    for id in ids(repository)? {
        entries.extend(read(repository, &id)?);
    }
    entries.sort_by(|one, other| (one.at, &one.id).cmp(&(other.at, &other.id)));
    Ok(entries)
}

/// Returns the names of all entries.
fn ids(repository: &Repository) -> Result<Vec<String>> {
    let trash = repository.trash();
    let found = match fs::read_dir(&trash) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        found => found.context("list", &trash)?,
    };
    let mut ids = Vec::new();
    for folder in found {
        ids.extend(folder.context("list", &trash)?.file_name().into_string().ok());
    }
    ids.sort_unstable();
    Ok(ids)
}

/// Deletes an entry for good. `all` deletes one with content that its pin does not keep, too. Returns the bytes that were
/// freed, or `None` if it was left.
pub(crate) fn purge(repository: &Repository, id: &str, all: bool) -> Result<Option<u64>> {
    let _lock = repository.lock()?;
    let mut entry =
        read(repository, id)?.ok_or_else(|| WorktreeError::NothingKept { what: id.to_owned() })?;
    let is_complete = entry.pin.unkept.is_empty() || all;
    if entry.state != EntryState::Purging && (entry.state != EntryState::Removed || !is_complete) {
        return Ok(None);
    }
    // Before the first file is gone: half a worktree is not put back.
    entry.state = EntryState::Purging;
    entry.write(repository)?;
    entry.complete_purge(repository).map(Some)
}

fn read(repository: &Repository, id: &str) -> Result<Option<TrashEntry>> {
    if id.contains('/') || id.starts_with('.') {
        return Ok(None);
    }
    let path = repository.trash().join(id).join(FILE);
    let Some(content) = files::read(&path)? else { return Ok(None) };
    let parsed: std::result::Result<TrashEntry, _> = serde_json::from_slice(&content);
    match parsed {
        Ok(entry) if entry.id == id => Ok(Some(entry)),
        Ok(_) => Err(WorktreeError::Damaged { path, reason: "it names another entry".to_owned() }),
        Err(error) => Err(WorktreeError::Damaged { path, reason: error.to_string() }),
    }
}

/// Removes the folder of an entry whose parts are in their place, or gone.
fn discard(folder: &Path) -> Result<()> {
    match fs::remove_file(folder.join(FILE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).context("remove", &folder.join(FILE));
        }
        _ => {}
    }
    fs::remove_dir(folder).context("remove", folder)?;
    files::flush_parent(folder)
}

/// Compares two paths of which one may be gone.
fn is_same_or_gone(one: &Path, other: &Path) -> bool {
    is_same(one, other)
        || one.file_name() == other.file_name()
            && matches!((one.parent(), other.parent()), (Some(one), Some(other)) if is_same(one, other))
}
