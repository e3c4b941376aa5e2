//! The registration of a linked worktree: the directory that git keeps of it in the repository, and our mark in it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use session_core::SessionId;

use crate::error::{IoContext as _, Result, WorktreeError};
use crate::files;

/// The name of the mark in a registration.
const MARK: &str = "session.json";

/// The name of the file with the set-up that has succeeded in the worktree.
const SET_UP: &str = "session-set-up.json";

/// The set-up that has succeeded in a worktree.
#[derive(Debug, Serialize, Deserialize)]
struct SetUpRecord {
    format: u32,
    command: String,
}

/// The file that shows that a worktree is one of ours, and which one. Written once, at its creation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    format: u32,
    /// The session that it was created for.
    pub(crate) session: SessionId,
    /// A random text: a worktree with the same name has another one.
    pub(crate) text: String,
    /// The branch that it started from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) base_branch: Option<String>,
}

/// A registration, by its directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Registration {
    pub(crate) dir: PathBuf,
}

impl Registration {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Returns all registrations of linked worktrees, from the folder that has them.
    pub(crate) fn all(folder: &Path) -> Result<Vec<Self>> {
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.context("list", folder)?,
        };
        let mut found = Vec::new();
        for entry in entries {
            found.push(Self::new(entry.context("list", folder)?.path()));
        }
        found.sort_by(|one, other| one.dir.cmp(&other.dir));
        Ok(found)
    }

    /// Reads the registration that a worktree's file `.git` names.
    pub(crate) fn of_worktree(path: &Path) -> Result<Option<Self>> {
        // A folder is the repository of another one.
        if path.join(".git").is_dir() {
            return Ok(None);
        }
        let Some(link) = files::read(&path.join(".git"))? else { return Ok(None) };
        let target = link.strip_prefix(b"gitdir: ").map(<[u8]>::trim_ascii_end);
        Ok(target.map(|target| Self::new(path.join(OsStr::from_bytes(target)))))
    }

    /// Returns the directory of the worktree, as the registration has it.
    pub(crate) fn worktree(&self) -> Result<Option<PathBuf>> {
        let Some(link) = files::read(&self.dir.join("gitdir"))? else { return Ok(None) };
        let link = self.dir.join(OsStr::from_bytes(link.trim_ascii_end()));
        Ok(link.parent().map(Path::to_owned))
    }

    pub(crate) fn mark(&self) -> Result<Option<Mark>> {
        let path = self.dir.join(MARK);
        let Some(content) = files::read(&path)? else { return Ok(None) };
        let parsed = serde_json::from_slice(&content);
        parsed.map(Some).map_err(|error| WorktreeError::Damaged { path, reason: error.to_string() })
    }

    /// Marks the registration as that of a session, and returns the mark.
    pub(crate) fn set_mark(&self, session: SessionId, base_branch: Option<String>) -> Result<Mark> {
        let text = uuid::Uuid::new_v4().simple().to_string();
        let mark = Mark { format: 1, session, text, base_branch };
        files::write_json(&self.dir.join(MARK), &mark)?;
        Ok(mark)
    }

    /// Returns the command that was set last by [`set_set_up`](Self::set_set_up). What cannot be read is none: it is run again.
    pub(crate) fn set_up(&self) -> Result<Option<String>> {
        let content = files::read(&self.dir.join(SET_UP))?.unwrap_or_default();
        Ok(serde_json::from_slice(&content).ok().map(|record: SetUpRecord| record.command))
    }

    /// Records that a command has prepared the worktree.
    pub(crate) fn set_set_up(&self, command: &str) -> Result<()> {
        files::write_json(&self.dir.join(SET_UP), &SetUpRecord { format: 1, command: command.to_owned() })
    }

    /// Returns the reason of its lock; `None` if it is not locked.
    pub(crate) fn lock_reason(&self) -> Result<Option<String>> {
        let reason = files::read(&self.dir.join("locked"))?;
        Ok(reason.map(|reason| String::from_utf8_lossy(reason.trim_ascii_end()).into_owned()))
    }

    /// Returns the branch that is checked out; `None` for a detached HEAD.
    pub(crate) fn branch(&self) -> Result<Option<String>> {
        let head = files::read(&self.dir.join("HEAD"))?.unwrap_or_default();
        let branch = head.strip_prefix(b"ref: refs/heads/").map(<[u8]>::trim_ascii_end);
        Ok(branch.map(|branch| String::from_utf8_lossy(branch).into_owned()))
    }

    /// Lets this registration, which is about to be moved to another place, and a worktree name each other.
    pub(crate) fn connect_as(&self, worktree: &Path, place: &Path) -> Result<()> {
        let line = |start: &[u8], path: &Path| [start, path.as_os_str().as_bytes(), b"\n"].concat();
        files::write(&self.dir.join("gitdir"), &line(b"", &worktree.join(".git")))?;
        files::write(&worktree.join(".git"), &line(b"gitdir: ", place))
    }
}

/// The begin of the reason of our locks. It names this library, so that no other tool's lock is taken for ours.
const LOCK_REASON: &str = "session-worktree: session ";

/// Returns the session in the reason of a lock, if it is one of ours.
pub(crate) fn session_of_lock(reason: &str) -> Option<SessionId> {
    reason.strip_prefix(LOCK_REASON)?.parse().ok()
}

/// Returns the reason with which a worktree of a session is locked.
pub(crate) fn lock_reason(session: SessionId) -> String {
    format!("{LOCK_REASON}{session}")
}
