//! A repository, and the lock under which its worktrees are created and removed.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags};

use crate::error::{IoContext as _, Result, WorktreeError};
use crate::files;
use crate::git::{Call, Git, Unapproved};

/// The folder of this crate in the repository: the lock and the trash.
const FOLDER: &str = "sessions";

/// A repository, found from a directory in it.
#[derive(Debug, Clone)]
pub struct Repository {
    git: Git,
    /// The directory that was asked for.
    dir: PathBuf,
    /// The main worktree; the repository itself if it is bare.
    root: PathBuf,
    /// The directory that all worktrees share.
    common: PathBuf,
    /// The settings with programs that may be run, as they were approved.
    approved: String,
}

impl Repository {
    /// Finds the repository of a directory.
    ///
    /// # Errors
    /// [`WorktreeError::NotARepository`]; git that is missing or too old.
    pub fn open(git: &Git, dir: &Path) -> Result<Self> {
        git.check()?;
        let ask = |what: &str| {
            let args = ["rev-parse", "--path-format=absolute", what];
            let output = git.call(dir, "find the repository").args(args).offline().output()?;
            if output.code == Some(0) {
                return Ok(output);
            }
            Err(WorktreeError::NotARepository { dir: dir.to_owned(), reason: output.reason() })
        };
        let common = ask("--git-common-dir")?.path();
        let is_bare = git
            .call(&common, "read the configuration")
            .args(["config", "--type=bool", "--default=false", "--get", "core.bare"])
            .run()?
            .line()
            == b"true";
        let root = match common.parent() {
            Some(parent) if !is_bare && common.file_name() == Some(OsStr::new(".git")) => parent.to_owned(),
            // A bare repository, a submodule, or one whose directory lies elsewhere.
            _ => {
                let listed = git
                    .call(&common, "list the worktrees")
                    .args(["worktree", "list", "--porcelain", "-z"])
                    .run()?;
                let first = listed.fields().find_map(|field| field.strip_prefix(b"worktree "));
                first.map_or_else(|| common.clone(), |path| PathBuf::from(OsStr::from_bytes(path)))
            }
        };
        Ok(Self { git: git.clone(), dir: dir.to_owned(), root, common, approved: String::new() })
    }

    /// Returns the main worktree; the repository itself if it is bare.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the directory that all worktrees share.
    #[must_use]
    pub fn common_dir(&self) -> &Path {
        &self.common
    }

    pub(crate) fn approve(&mut self, settings: String) {
        self.approved = settings;
    }

    /// Returns the programs that only this repository's configuration names, and that are not run; none if exactly these were
    /// approved.
    pub(crate) fn unapproved(&self) -> Result<Unapproved> {
        let found = self.git.unapproved(&self.common)?;
        Ok(if found.text == self.approved { Unapproved::default() } else { found })
    }

    pub(crate) fn git(&self) -> &Git {
        &self.git
    }

    /// Prepares a call in the directory that the repository was found from.
    pub(crate) fn call_here(&self, what: impl Into<String>) -> Call {
        self.git.call(&self.dir, what)
    }

    /// Prepares a call that concerns no worktree.
    pub(crate) fn call(&self, what: impl Into<String>) -> Call {
        self.git.call(&self.common, what)
    }

    /// Returns the name of the repository's directory, without `.git`.
    pub(crate) fn name(&self) -> OsString {
        let name = self.root.file_name().unwrap_or(OsStr::new("repository"));
        match name.as_bytes().strip_suffix(b".git") {
            Some(stem) if !stem.is_empty() => OsStr::from_bytes(stem).to_owned(),
            _ => name.to_owned(),
        }
    }

    /// Returns the folder with the registrations of all linked worktrees.
    pub(crate) fn registrations(&self) -> PathBuf {
        self.common.join("worktrees")
    }

    /// Returns the folder for what was removed.
    pub(crate) fn trash(&self) -> PathBuf {
        self.common.join(FOLDER).join("trash")
    }

    pub(crate) fn lock(&self) -> Result<RepositoryLock> {
        let folder = self.common.join(FOLDER);
        files::create_dir(&folder)?;
        let path = folder.join("lock");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default())
            .open(&path)
            .context("open", &path)?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive).context("lock", &path)?;
        Ok(RepositoryLock { file })
    }

    /// Returns the object that a revision names, of the wanted type.
    pub(crate) fn resolve(&self, revision: &str, kind: &str) -> Result<String> {
        let wanted = format!("{revision}^{{{kind}}}");
        let args = ["rev-parse", "--verify", "--quiet", "--end-of-options", &wanted];
        let output = self.call_here("resolve a revision").args(args).offline().output()?;
        if output.code != Some(0) {
            return Err(WorktreeError::UnknownBase { base: revision.to_owned(), reason: output.reason() });
        }
        Ok(String::from_utf8_lossy(output.line()).into_owned())
    }

    /// Returns `true` if a remote has promised the objects that are missing.
    pub(crate) fn is_partial(&self) -> Result<bool> {
        let args = ["config", "--get", "extensions.partialClone"];
        Ok(self.call("read the configuration").args(args).output()?.code == Some(0))
    }

    /// Returns the names of the branches that can be the default one, the likeliest first.
    pub(crate) fn default_branches(&self) -> Result<Vec<String>> {
        let args = ["symbolic-ref", "--quiet", "--short", "refs/remotes/origin/HEAD"];
        let remote = self.call("read the default branch").args(args).output()?;
        let remote = (remote.code == Some(0)).then(|| String::from_utf8_lossy(remote.line()).into_owned());
        Ok(remote.into_iter().chain(["main".to_owned(), "master".to_owned()]).collect())
    }

    /// Returns the id of a tree without files.
    pub(crate) fn empty_tree(&self) -> Result<String> {
        let args = ["hash-object", "-t", "tree", "--stdin"];
        let output = self.call("hash nothing").args(args).input(Vec::new()).run()?;
        Ok(String::from_utf8_lossy(output.line()).into_owned())
    }

    /// Returns the worktree that has a branch checked out.
    pub(crate) fn checked_out_in(&self, branch_ref: &str) -> Result<Option<PathBuf>> {
        let listed = self.call("list worktrees").args(["worktree", "list", "--porcelain", "-z"]).run()?;
        let mut path = PathBuf::new();
        for field in listed.fields() {
            if let Some(found) = field.strip_prefix(b"worktree ") {
                path = PathBuf::from(OsStr::from_bytes(found));
            } else if field.strip_prefix(b"branch ") == Some(branch_ref.as_bytes()) {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    /// Returns the object that a ref points to; `None` if there is no such ref.
    pub(crate) fn ref_target(&self, name: &str) -> Result<Option<String>> {
        let args = ["rev-parse", "--verify", "--quiet", "--end-of-options", name];
        let output = self.call("read a ref").args(args).offline().output()?;
        Ok((output.code == Some(0)).then(|| String::from_utf8_lossy(output.line()).into_owned()))
    }
}

/// The lock of a repository: while it is held, no other process creates, removes or restores one of its worktrees. Released
/// when it is dropped, and by the kernel when the process ends.
#[derive(Debug)]
pub struct RepositoryLock {
    file: File,
}

impl AsFd for RepositoryLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
