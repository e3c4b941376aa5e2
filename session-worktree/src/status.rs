//! The state of a worktree: what a person would lose if it were deleted.

use std::fs;
use std::path::Path;

use crate::error::{IoContext as _, Result};
use crate::processes;
use crate::repository::Repository;
use crate::scan::Scan;
use crate::worktree::Worktree;

/// The files of a registration that show an operation in progress.
const OPERATIONS: [(&str, &str); 7] = [
    ("rebase-merge", "rebase"),
    ("rebase-apply", "rebase"),
    ("MERGE_HEAD", "merge"),
    ("CHERRY_PICK_HEAD", "cherry-pick"),
    ("REVERT_HEAD", "revert"),
    ("sequencer", "sequence of commits"),
    ("BISECT_LOG", "bisection"),
];

/// The state of a worktree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorktreeStatus {
    /// The branch that is checked out; `None` for a detached HEAD.
    pub branch: Option<String>,
    /// Commits of HEAD that the base does not have.
    pub ahead: u64,
    /// Commits of the base that HEAD does not have.
    pub behind: u64,
    /// Tracked files that differ from HEAD in the index or on the disk, also where a flag in the index hides that.
    pub changed: u64,
    /// Lines added to tracked files since HEAD.
    pub lines_added: u64,
    /// Lines removed from tracked files since HEAD.
    pub lines_removed: u64,
    /// Files that git neither tracks nor ignores.
    pub untracked: u64,
    /// Ignored files outside caches.
    pub ignored: u64,
    /// Other repositories and submodules inside.
    pub repositories: Vec<String>,
    /// The operation of git that is in progress.
    pub operation: Option<&'static str>,
    /// Processes of this user that work in it.
    pub processes: Vec<u32>,
    /// The number of processes of other users, which cannot be read.
    pub unknown_processes: u64,
}

impl WorktreeStatus {
    /// Returns `true` if its branch has everything: nothing is changed, untracked or in progress, nothing but caches is
    /// ignored, and no known process works in it.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.changed == 0
            && self.untracked == 0
            && self.ignored == 0
            && self.repositories.is_empty()
            && self.operation.is_none()
            && self.processes.is_empty()
    }
}

/// Reads the state of a worktree. `base` is the commit that it started at.
pub(crate) fn status(
    repository: &Repository,
    worktree: &Worktree,
    base: Option<&str>,
    caches: &[String],
) -> Result<WorktreeStatus> {
    let scan = Scan::read(repository.git(), worktree, caches)?;
    let index = PlainIndex::of(repository, worktree)?;
    let unapproved = repository.unapproved()?;
    let call = |what: &str| {
        let call = repository.git().call(&worktree.path, what).settings(&unapproved.settings).offline();
        call.env("GIT_INDEX_FILE", index.path())
    };
    let mut status = WorktreeStatus {
        branch: worktree.branch()?,
        ignored: scan.entries.iter().filter(|entry| entry.is_ignored).count() as u64,
        repositories: scan.repositories().map(|path| String::from_utf8_lossy(path).into_owned()).collect(),
        operation: operation_in(worktree.git_dir()),
        ..WorktreeStatus::default()
    };
    // Submodules are among the repositories: no git is run in them, whose settings are their own.
    let args = [
        "status",
        "--porcelain=v2",
        "-z",
        "--untracked-files=all",
        "--no-renames",
        "--ignore-submodules=dirty",
    ];
    for entry in call("read the state").args(args).run()?.fields() {
        match entry.first() {
            Some(b'1' | b'2' | b'u') => status.changed += 1,
            Some(b'?') if !entry.ends_with(b"/") => status.untracked += 1,
            _ => {}
        }
    }
    let args = [
        "diff",
        "--numstat",
        "-z",
        "--no-renames",
        "--no-ext-diff",
        "--no-textconv",
        "--ignore-submodules",
        "HEAD",
        "--",
    ];
    let differences = call("compare with HEAD").args(args).output()?;
    for entry in differences.fields() {
        let text = String::from_utf8_lossy(entry);
        let mut numbers = text.split('\t').map(|number| number.parse::<u64>().unwrap_or(0));
        status.lines_added += numbers.next().unwrap_or(0);
        status.lines_removed += numbers.next().unwrap_or(0);
    }
    if let Some(base) = base {
        let range = format!("{base}...HEAD");
        let args = ["rev-list", "--left-right", "--count", "--end-of-options", &range, "--"];
        let counted = call("count commits").args(args).output()?;
        let text = String::from_utf8_lossy(counted.line()).into_owned();
        let mut numbers = text.split_whitespace().map(|number| number.parse().unwrap_or(0));
        (status.behind, status.ahead) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    }
    (status.processes, status.unknown_processes) = processes::inside(&worktree.path);
    Ok(status)
}

/// Returns the operation that is in progress in the worktree with this registration.
pub(crate) fn operation_in(git_dir: &Path) -> Option<&'static str> {
    let is_there = |file: &str| git_dir.join(file).symlink_metadata().is_ok();
    OPERATIONS.into_iter().find(|(file, _)| is_there(file)).map(|(_, name)| name)
}

/// A copy of a worktree's index without the flags that hide changes.
struct PlainIndex {
    folder: tempfile::TempDir,
}

impl PlainIndex {
    fn of(repository: &Repository, worktree: &Worktree) -> Result<Self> {
        let folder = tempfile::tempdir().context("create", &std::env::temp_dir())?;
        let plain = Self { folder };
        let index = worktree.git_dir().join("index");
        match fs::copy(&index, plain.path()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).context("read", &index);
            }
            _ => {}
        }
        let call = |what: &str| {
            repository.git().call(&worktree.path, what).env("GIT_INDEX_FILE", plain.path()).offline()
        };
        let listed = call("read the index").args(["ls-files", "-z", "-v"]).run()?;
        let (mut assumed, mut skipped) = (Vec::new(), Vec::new());
        for entry in listed.fields() {
            let (Some(flag), Some(path)) = (entry.first(), entry.get(2..)) else { continue };
            let line = |list: &mut Vec<u8>| list.extend([path, b"\0"].concat());
            if flag.is_ascii_lowercase() {
                line(&mut assumed);
            }
            // A file of a sparse checkout that is not there is no change.
            if flag.eq_ignore_ascii_case(&b'S')
                && crate::scan::join(&worktree.path, path).symlink_metadata().is_ok()
            {
                line(&mut skipped);
            }
        }
        for (flag, paths) in [("--no-assume-unchanged", assumed), ("--no-skip-worktree", skipped)] {
            if !paths.is_empty() {
                call("read the index").args(["update-index", flag, "-z", "--stdin"]).input(paths).run()?;
            }
        }
        Ok(plain)
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("index")
    }
}

/// Returns the changes since a commit, as git prints them.
pub(crate) fn diff(repository: &Repository, worktree: &Worktree, base: &str, stat: bool) -> Result<Vec<u8>> {
    let index = PlainIndex::of(repository, worktree)?;
    let unapproved = repository.unapproved()?;
    let args = ["diff", "--no-ext-diff", "--no-textconv", if stat { "--stat" } else { "--patch" }];
    let call = repository.git().call(&worktree.path, "compare a worktree").settings(&unapproved.settings);
    let call =
        call.offline().env("GIT_INDEX_FILE", index.path()).args(args).args(["--end-of-options", base, "--"]);
    Ok(call.run()?.stdout)
}
