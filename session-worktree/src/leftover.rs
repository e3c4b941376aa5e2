//! Creations and restorations that were interrupted before their worktree had a mark: no program has worked in it. Their parts
//! are moved into the trash as they are, since a person may have put something there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use session_core::os_text;
use session_core::{Clock as _, SessionId, SystemClock, Timestamp};

use crate::error::{IoContext as _, Result, WorktreeError};
use crate::files;
use crate::registration::{Registration, session_of_lock};
use crate::repository::Repository;

/// The name of the file that describes one.
const FILE: &str = "leftover.json";

/// The parts of a worktree that was not completed, in the trash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Leftover {
    format: u32,
    /// The name of its folder in the trash.
    pub id: String,
    /// The session that it was for.
    pub session: SessionId,
    /// The directory that it had.
    #[serde(with = "os_text::path")]
    pub path: PathBuf,
    /// The time at which it was moved.
    pub at: Timestamp,
    /// The place of its directory in the trash.
    #[serde(with = "os_text::path")]
    tree: PathBuf,
}

impl Leftover {
    fn folder(&self, repository: &Repository) -> PathBuf {
        repository.trash().join(&self.id)
    }

    /// Returns the bytes that it takes on the disk.
    pub(crate) fn disk_bytes(&self, repository: &Repository) -> u64 {
        let folder = self.folder(repository);
        let outside = if self.tree.starts_with(&folder) { 0 } else { files::disk_bytes(&self.tree) };
        files::disk_bytes(&folder) + outside
    }

    /// Deletes it, and returns the bytes that this frees.
    pub(crate) fn purge(&self, repository: &Repository) -> Result<u64> {
        let freed = self.disk_bytes(repository);
        let folder = self.folder(repository);
        // All were renamed by us, to names with a random part. The file that describes them goes last, so that a purge that is
        // interrupted can be repeated.
        for dir in [self.tree.clone(), folder.join("registration"), folder] {
            match fs::remove_dir_all(&dir) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).context("remove", &dir);
                }
                _ => {}
            }
        }
        files::flush_parent(&self.folder(repository))?;
        Ok(freed)
    }
}

/// Moves the parts of a worktree without a mark into the trash. The caller holds the lock.
pub(crate) fn move_to_trash(
    repository: &Repository,
    registration: &Registration,
    path: &Path,
    session: SessionId,
) -> Result<Leftover> {
    let id = format!("{session}.creation.{}", uuid::Uuid::new_v4().simple());
    let folder = repository.trash().join(&id);
    files::create_dir(&folder)?;
    let tree = files::trash_place(&folder, path)?;
    let at = SystemClock.now();
    let leftover = Leftover { format: 1, id, session, path: path.to_owned(), at, tree };
    files::write_json(&folder.join(FILE), &leftover)?;
    // First the directory: as long as its registration is there, an interrupted recovery is repeated.
    if files::exists(path) {
        files::move_dir(path, &leftover.tree)?;
    }
    files::move_dir(&registration.dir, &folder.join("registration"))?;
    Ok(leftover)
}

/// Moves all worktrees of sessions that were not completed into the trash. The caller holds the lock, so none is being
/// created.
pub(crate) fn recover(repository: &Repository) -> Result<Vec<Leftover>> {
    let mut recovered = Vec::new();
    for registration in Registration::all(&repository.registrations())? {
        let Some(session) = registration.lock_reason()?.as_deref().and_then(session_of_lock) else {
            continue;
        };
        let Some(path) = registration.worktree()? else { continue };
        // A damaged mark is one.
        if matches!(registration.mark(), Ok(None)) {
            recovered.push(move_to_trash(repository, &registration, &path, session)?);
        }
    }
    Ok(recovered)
}

/// Returns all that are in the trash, the oldest first.
pub(crate) fn list(repository: &Repository) -> Result<Vec<Leftover>> {
    let trash = repository.trash();
    let found = match fs::read_dir(&trash) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        found => found.context("list", &trash)?,
    };
    let mut leftovers = Vec::new();
    for folder in found {
        let path = folder.context("list", &trash)?.path().join(FILE);
        let Some(content) = files::read(&path)? else { continue };
        let parsed: std::result::Result<Leftover, _> = serde_json::from_slice(&content);
        match parsed {
            Ok(leftover) if path.parent() == Some(&*trash.join(&leftover.id)) => leftovers.push(leftover),
            Ok(_) => {
                return Err(WorktreeError::Damaged { path, reason: "it names another folder".to_owned() });
            }
            Err(error) => return Err(WorktreeError::Damaged { path, reason: error.to_string() }),
        }
    }
    leftovers.sort_by(|one, other| (one.at, &one.id).cmp(&(other.at, &other.id)));
    Ok(leftovers)
}
