//! A worktree of a session, found again by what was recorded of it.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use session_core::SessionId;

use crate::error::{IoContext as _, Result, WorktreeError};
use crate::files;
use crate::registration::{Mark, Registration};

/// The record of a worktree that was created: enough to find it again, and to know that it is this one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordedWorktree {
    /// Its directory when it was created.
    pub path: PathBuf,
    /// Its registration in the repository.
    pub git_dir: PathBuf,
    /// The random text in the registration.
    pub mark: String,
}

impl RecordedWorktree {
    /// Creates a record from its parts.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, git_dir: impl Into<PathBuf>, mark: impl Into<String>) -> Self {
        Self { path: path.into(), git_dir: git_dir.into(), mark: mark.into() }
    }

    /// Finds the worktree, also after it was moved.
    ///
    /// # Errors
    /// [`WorktreeError::Gone`] if it is not there, or another one is in its place.
    pub fn locate(&self) -> Result<Worktree> {
        let gone = |reason: String| WorktreeError::Gone { path: self.path.clone(), reason };
        let (registration, mark) = self.registration()?;
        let path =
            registration.worktree()?.ok_or_else(|| gone("its registration names no directory".to_owned()))?;
        let link = Registration::of_worktree(&path)?
            .ok_or_else(|| gone(format!("{} is not there, or no worktree", path.display())))?;
        if !is_same(&link.dir, &registration.dir) {
            return Err(gone(format!("another worktree is at {}", path.display())));
        }
        Ok(Worktree { path, registration, mark })
    }

    /// Finds what is left of a worktree whose directory was deleted by other means than [`Worktrees::remove`]: its registration.
    ///
    /// [`Worktrees::remove`]: crate::Worktrees::remove
    ///
    /// # Errors
    /// [`WorktreeError::Gone`] if its registration is gone, too, or something is in its place.
    pub fn locate_lost(&self) -> Result<Worktree> {
        let (registration, mark) = self.registration()?;
        let path = registration.worktree()?.unwrap_or_else(|| self.path.clone());
        let lost = Worktree { path, registration, mark };
        if !lost.is_lost() {
            let reason = "something else is in its place".to_owned();
            return Err(WorktreeError::Gone { path: lost.path, reason });
        }
        Ok(lost)
    }

    /// Finds its registration by the mark: at the recorded place, or where a restoration has put it.
    fn registration(&self) -> Result<(Registration, Mark)> {
        let recorded = Registration::new(self.git_dir.clone());
        let found = match recorded.mark() {
            Ok(Some(mark)) if mark.text == self.mark => return Ok((recorded, mark)),
            Ok(Some(_)) => "its registration belongs to another worktree".to_owned(),
            Ok(None) => format!("its registration {} is gone", self.git_dir.display()),
            Err(error) => error.to_string(),
        };
        for registration in Registration::all(self.git_dir.parent().unwrap_or(&self.git_dir))? {
            if let Ok(Some(mark)) = registration.mark()
                && mark.text == self.mark
            {
                return Ok((registration, mark));
            }
        }
        Err(WorktreeError::Gone { path: self.path.clone(), reason: found })
    }
}

/// A worktree of a session that is in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worktree {
    pub(crate) path: PathBuf,
    pub(crate) registration: Registration,
    pub(crate) mark: Mark,
}

impl Worktree {
    /// Returns the worktree at a path.
    ///
    /// # Errors
    /// [`WorktreeError::NotOurs`] if it has no mark of this crate; [`WorktreeError::Gone`] if it is no worktree.
    pub fn at(path: &Path) -> Result<Self> {
        let gone = |reason: &str| WorktreeError::Gone { path: path.to_owned(), reason: reason.to_owned() };
        let registration =
            Registration::of_worktree(path)?.ok_or_else(|| gone("it is no linked worktree"))?;
        let not_ours =
            |reason: &str| WorktreeError::NotOurs { path: path.to_owned(), reason: reason.to_owned() };
        let mark = registration.mark()?.ok_or_else(|| not_ours("it has no mark of a session"))?;
        RecordedWorktree::new(path, registration.dir, mark.text).locate()
    }

    /// Returns the directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the directory of the registration.
    #[must_use]
    pub fn git_dir(&self) -> &Path {
        &self.registration.dir
    }

    /// Returns the session that it was created for.
    #[must_use]
    pub const fn session(&self) -> SessionId {
        self.mark.session
    }

    /// Returns `true` if only its registration is left: its directory was deleted, or emptied.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        match self.path.symlink_metadata() {
            Err(error) => error.kind() == io::ErrorKind::NotFound,
            Ok(metadata) => metadata.is_dir() && is_bare(&self.path),
        }
    }

    /// Creates the directory of a lost worktree, without its files. Afterwards it is one whose files were deleted.
    pub(crate) fn revive(&self) -> Result<()> {
        files::create_dir(&self.path)?;
        let link = self.path.join(".git");
        let target = self.registration.dir.as_os_str().as_bytes();
        // In one write: a file that is empty, because that was interrupted, is written again.
        fs::write(&link, [b"gitdir: ", target, b"\n"].concat()).context("write", &link)?;
        files::flush_parent(&link)
    }

    /// Removes the directory that [`revive`](Self::revive) created.
    pub(crate) fn undo_revival(&self) -> Result<()> {
        let link = self.path.join(".git");
        fs::remove_file(&link).context("remove", &link)?;
        fs::remove_dir(&self.path).context("remove", &self.path)
    }

    /// Returns the branch that it started from, if it started from one.
    #[must_use]
    pub fn base_branch(&self) -> Option<&str> {
        self.mark.base_branch.as_deref()
    }

    /// Returns what has to be recorded to find it again.
    #[must_use]
    pub fn record(&self) -> RecordedWorktree {
        RecordedWorktree::new(&self.path, &self.registration.dir, &self.mark.text)
    }

    /// Returns `true` if this command has prepared the worktree: see [`set_up_by`](Self::set_up_by).
    ///
    /// # Errors
    /// If its registration cannot be read.
    pub fn is_set_up_by(&self, command: &str) -> Result<bool> {
        Ok(self.registration.set_up()?.as_deref() == Some(command))
    }

    /// Records in the registration that a command has prepared the worktree, so that it does not run there again.
    ///
    /// # Errors
    /// If the registration cannot be written.
    pub fn set_up_by(&self, command: &str) -> Result<()> {
        self.registration.set_set_up(command)
    }

    /// Returns the branch that is checked out; `None` for a detached HEAD.
    ///
    /// # Errors
    /// If its registration cannot be read.
    pub fn branch(&self) -> Result<Option<String>> {
        self.registration.branch()
    }
}

/// Returns `true` if a directory has nothing but a link to a registration that was never written.
fn is_bare(dir: &Path) -> bool {
    let is_unwritten = |entry: &fs::DirEntry| {
        let metadata = entry.path().symlink_metadata();
        entry.file_name() == ".git"
            && metadata.is_ok_and(|metadata| metadata.is_file() && metadata.len() == 0)
    };
    fs::read_dir(dir)
        .is_ok_and(|mut entries| entries.all(|entry| entry.is_ok_and(|entry| is_unwritten(&entry))))
}

/// Returns `true` if two paths name the same directory.
pub(crate) fn is_same(one: &Path, other: &Path) -> bool {
    one == other || matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}
