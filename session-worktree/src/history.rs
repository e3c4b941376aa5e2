//! The history of any worktree, ours or another tool's: its branch, and the times of its first and last use.

use std::path::Path;
use std::time::Duration;

use session_core::Timestamp;

use crate::error::{Result, WorktreeError};
use crate::git::Git;
use crate::worktree::is_same;

/// Timeout of one call of git. The repository may be a hostile one.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The history of a worktree as git has recorded it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorktreeHistory {
    /// The branch that is checked out; `None` for a detached HEAD.
    pub branch: Option<String>,
    /// The oldest time in the reflog of HEAD; without a reflog, the time of the commit; `None` without a commit.
    pub first_used: Option<Timestamp>,
    /// The newest time in the reflog of HEAD; without a reflog, the time of the commit; `None` without a commit.
    pub last_used: Option<Timestamp>,
    /// `true` if the times are those of the reflog.
    pub has_reflog: bool,
}

impl WorktreeHistory {
    /// Reads the history of the worktree at this path. Writes nothing, and runs nothing that the repository names.
    ///
    /// # Errors
    /// [`WorktreeError::NotARepository`] if the path is not the top of a worktree; [`WorktreeError::GitMissing`];
    /// [`WorktreeError::Git`], also if git does not answer within 20 s.
    pub fn read(git: &Git, path: &Path) -> Result<Self> {
        let call = |args: &[&str]| git.call(path, "read the worktree").args(args).offline().timeout(TIMEOUT);
        let top = call(&["rev-parse", "--show-toplevel"]).run()?.path();
        // For a directory that is no worktree, git names the one around it.
        if !is_same(&top, path) {
            let reason = format!("it is a directory in {}", top.display());
            return Err(WorktreeError::NotARepository { dir: path.to_owned(), reason });
        }
        let branch = call(&["symbolic-ref", "--quiet", "--short", "HEAD"]).output()?;
        let branch = (branch.code == Some(0)).then(|| String::from_utf8_lossy(branch.line()).into_owned());
        let reflog = ["log", "--walk-reflogs", "--no-patch", "--date=unix", "--format=%gd", "HEAD", "--"];
        let reflog = call(&reflog).output()?;
        let mut times = reflog.stdout.split(|byte| *byte == b'\n').filter_map(reflog_time);
        let last = times.next();
        let mut history = Self {
            branch,
            first_used: times.next_back().or(last),
            last_used: last,
            has_reflog: last.is_some(),
        };
        if !history.has_reflog {
            let commit = call(&["log", "-1", "--no-patch", "--format=%ct", "HEAD", "--"]).output()?;
            history.first_used = timestamp(commit.line());
            history.last_used = history.first_used;
        }
        Ok(history)
    }
}

/// Parses the time in `HEAD@{1740823200}`.
fn reflog_time(line: &[u8]) -> Option<Timestamp> {
    timestamp(line.strip_suffix(b"}")?.strip_prefix(b"HEAD@{")?)
}

fn timestamp(seconds: &[u8]) -> Option<Timestamp> {
    let seconds: i64 = std::str::from_utf8(seconds).ok()?.parse().ok()?;
    Timestamp::from_millis(seconds.checked_mul(1000)?)
}
