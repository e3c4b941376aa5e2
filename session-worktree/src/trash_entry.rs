//! An entry of the trash: its file, and the steps of a removal, a restoration and a deletion for good, each of which can be
//! repeated after a crash.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use session_core::os_text;
use session_core::{SessionId, Timestamp};

use crate::error::{IoContext as _, Result, WorktreeError};
use crate::files;
use crate::merged::MergeProof;
use crate::pin::Pin;
use crate::registration::Registration;
use crate::repository::Repository;
use crate::worktree::{RecordedWorktree, Worktree};

/// The name of the file of an entry.
const FILE: &str = "entry.json";

/// A worktree that was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TrashEntry {
    pub(crate) format: u32,
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
    /// The proof that another branch has what its commits brought, if it was removed for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merged: Option<MergeProof>,
    /// The time of its removal.
    pub at: Timestamp,
    /// The step that a removal or restoration is in.
    pub state: EntryState,
    /// The place of its directory in the trash.
    #[serde(with = "os_text::path")]
    pub(crate) tree: PathBuf,
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

impl TrashEntry {
    pub(crate) fn folder(&self, repository: &Repository) -> PathBuf {
        repository.trash().join(&self.id)
    }

    pub(crate) fn registration(&self, repository: &Repository) -> PathBuf {
        self.folder(repository).join("registration")
    }

    pub(crate) fn write(&self, repository: &Repository) -> Result<()> {
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
    pub(crate) fn remove_or_undo(&mut self, repository: &Repository) -> Result<()> {
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
    pub(crate) fn complete_restoration(&mut self, repository: &Repository) -> Result<Worktree> {
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

    /// Returns the bytes of its directory, if that is kept on the file system of the worktree.
    pub(crate) fn outside_bytes(&self, repository: &Repository) -> u64 {
        if self.tree.starts_with(self.folder(repository)) { 0 } else { files::disk_bytes(&self.tree) }
    }

    /// Deletes what is left, and returns its bytes.
    pub(crate) fn complete_purge(&self, repository: &Repository) -> Result<u64> {
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

/// Reads an entry; `None` if there is none of this name.
pub(crate) fn read(repository: &Repository, id: &str) -> Result<Option<TrashEntry>> {
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
pub(crate) fn discard(folder: &Path) -> Result<()> {
    match fs::remove_file(folder.join(FILE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).context("remove", &folder.join(FILE));
        }
        _ => {}
    }
    fs::remove_dir(folder).context("remove", folder)?;
    files::flush_parent(folder)
}
