//! Repositories in temporary folders.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use session_core::SessionId;
use session_worktree::{NewWorktree, Slug, Worktree, Worktrees};

/// A repository with one commit.
pub(crate) struct Fixture {
    pub(crate) folder: tempfile::TempDir,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let fixture = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir(fixture.repo()).unwrap();
        fixture.git(&["init", "--quiet", "--initial-branch=main"]);
        fixture.write("README", "hello\n");
        fixture.write("src/main.rs", "fn main() {}\n");
        fixture.write(".gitignore", "*.log\n/target\n");
        fixture.git(&["add", "--all"]);
        fixture.git(&["commit", "--quiet", "--message=first"]);
        fixture
    }

    pub(crate) fn repo(&self) -> PathBuf {
        self.folder.path().join("repo")
    }

    pub(crate) fn write(&self, name: &str, content: &str) {
        write(&self.repo().join(name), content);
    }

    /// Runs git as a person would, in the main worktree.
    pub(crate) fn git(&self, args: &[&str]) -> String {
        git(&self.repo(), args)
    }

    pub(crate) fn worktrees(&self) -> Worktrees {
        Worktrees::new(self.repo()).unwrap()
    }

    /// Creates a worktree for a new session.
    pub(crate) fn create(&self, name: &str) -> Worktree {
        let new = NewWorktree::new(SessionId::random(), Slug::from_text(name));
        let worktrees = self.worktrees();
        loop {
            // Another process may take the name first.
            if let Some(created) = worktrees.create(&worktrees.plan(&new).unwrap()).unwrap() {
                return created;
            }
        }
    }
}

pub(crate) fn write(path: &Path, content: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// Runs git, without the configuration of this machine.
pub(crate) fn git(dir: &Path, args: &[&str]) -> String {
    let ran = git_command(dir, args).output().unwrap();
    let printed = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "git {args:?}: {printed}{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap().trim_end().to_owned()
}

pub(crate) fn git_command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("git");
    for (name, _) in std::env::vars_os() {
        if name.as_bytes().starts_with(b"GIT_") {
            command.env_remove(name);
        }
    }
    command
        .arg("-C")
        .arg(dir)
        .args(["-c", "user.name=Test", "-c", "user.email=test@localhost", "-c", "protocol.file.allow=always"])
        // It would still work in the directory when the call is over.
        .args(["-c", "maintenance.auto=false"])
        .args(args)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null");
    command
}

/// Returns everything below a directory: type, mode and content of each file.
pub(crate) fn content(dir: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut pending = vec![dir.to_owned()];
    while let Some(next) = pending.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            let bytes = if metadata.is_symlink() {
                fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec()
            } else if metadata.is_file() {
                fs::read(&path).unwrap()
            } else {
                Vec::new()
            };
            let name = path.strip_prefix(dir).unwrap().to_owned();
            // The link to the registration follows a move.
            if name.as_os_str() != OsStr::new(".git") {
                found.insert(name, (metadata.mode(), bytes));
            }
            if metadata.is_dir() {
                pending.push(path);
            }
        }
    }
    found
}
