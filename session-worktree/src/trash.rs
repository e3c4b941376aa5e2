//! The trash: worktrees that were removed, whole, with their registrations. Nothing is removed that is not here, and what
//! is here can be put back.
//!
//! An entry is a folder in the repository with a file that names everything. It is written before the first move and
//! alone is enough to put the worktree back, or to complete a removal that was interrupted.

use std::fs;
use std::io;
use std::path::Path;

use session_core::{Clock as _, SystemClock};

use crate::error::{IoContext as _, Result, WorktreeError};
use crate::files;
use crate::leftover::{self, Leftover};
use crate::merged::{self, MergeProof};
use crate::pin;
use crate::processes;
use crate::registration::{Registration, lock_reason};
use crate::removal::{BranchOutcome, RemoveOptions, delete_branch};
use crate::repository::Repository;
use crate::trash_entry::{EntryState, TrashEntry, discard, read};
use crate::worktree::{Worktree, is_same};

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

/// Moves a worktree into the trash. The caller holds the lock.
pub(crate) fn remove(
    repository: &Repository,
    worktree: &Worktree,
    caches: &[String],
    options: RemoveOptions,
) -> Result<RemovedWorktree> {
    if !worktree.is_lost() {
        return remove_present(repository, worktree, caches, options);
    }
    check_lock(worktree)?;
    // What only its registration keeps is pinned as that of any other.
    worktree.revive()?;
    let removed = remove_present(repository, worktree, caches, options);
    if removed.is_err()
        && let Err(error) = worktree.undo_revival()
    {
        tracing::warn!(path = %worktree.path.display(), %error, "an empty directory is left of a deleted worktree");
    }
    removed
}

/// Checks that no other tool and no person has locked a worktree.
fn check_lock(worktree: &Worktree) -> Result<()> {
    let own = lock_reason(worktree.session());
    match worktree.registration.lock_reason()?.filter(|reason| *reason != own) {
        Some(reason) => Err(WorktreeError::Locked { path: worktree.path.clone(), reason }),
        None => Ok(()),
    }
}

fn remove_present(
    repository: &Repository,
    worktree: &Worktree,
    caches: &[String],
    options: RemoveOptions,
) -> Result<RemovedWorktree> {
    // It may have changed while the lock was waited for.
    let worktree = worktree.record().locate()?;
    if worktree.path.is_symlink() {
        let reason =
            "a link is in its place: move what it leads to there with `git worktree move`".to_owned();
        return Err(WorktreeError::Gone { path: worktree.path, reason });
    }
    check_lock(&worktree)?;
    let check_processes = || {
        let (processes, _) = processes::inside(&worktree.path);
        if processes.is_empty() || options.in_use {
            return Ok(());
        }
        Err(WorktreeError::InUse { path: worktree.path.clone(), processes })
    };
    check_processes()?;
    let mut pinned = pin::pin(repository, &worktree, caches)?;
    let id = format!("{}.{}", worktree.session(), uuid::Uuid::new_v4().simple());
    let folder = repository.trash().join(&id);
    files::create_dir(&folder)?;
    let mut entry = TrashEntry {
        format: 1,
        id,
        session: worktree.session(),
        path: worktree.path.clone(),
        git_dir: worktree.registration.dir.clone(),
        mark: worktree.mark.text.clone(),
        branch: worktree.branch()?,
        head: pin::head(repository, &worktree)?,
        pin: pinned.pin.clone(),
        merged: None,
        at: SystemClock.now(),
        state: EntryState::Removing,
        tree: files::trash_place(&folder, &worktree.path)?,
    };
    entry.write(repository)?;
    if options.delete_merged_branch {
        entry.merged = prove(repository, &worktree, entry.head.as_deref())?;
        entry.write(repository)?;
    }
    // The last look: from here to the moves, nothing else is done.
    let looked = check_processes().and_then(|()| {
        while !pin::is_unchanged(repository, &worktree, &pinned.scan, caches)? {
            pinned = pin::pin(repository, &worktree, caches)?;
            entry.pin = pinned.pin.clone();
            (entry.branch, entry.head) = (worktree.branch()?, pin::head(repository, &worktree)?);
            if options.delete_merged_branch {
                entry.merged = prove(repository, &worktree, entry.head.as_deref())?;
            }
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
        (Some(_), Some(_)) if !options.delete_branch && entry.merged.is_none() => BranchOutcome::Kept,
        (Some(branch), Some(head)) => delete_branch(repository, branch, head)?,
    };
    Ok(RemovedWorktree { entry, branch })
}

/// Proves that another branch has the commit that is checked out.
fn prove(repository: &Repository, worktree: &Worktree, head: Option<&str>) -> Result<Option<MergeProof>> {
    head.map_or(Ok(None), |head| merged::proof(repository, worktree, head))
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

/// Compares two paths of which one may be gone.
fn is_same_or_gone(one: &Path, other: &Path) -> bool {
    is_same(one, other)
        || one.file_name() == other.file_name()
            && matches!((one.parent(), other.parent()), (Some(one), Some(other)) if is_same(one, other))
}
