//! The files and folders next to a database: created for this user alone, and checked to be of the expected type.
//! Nothing here follows a symlink.

use std::fmt;
use std::fs::{File, ReadDir};
use std::io::{self, BufWriter, IntoInnerError, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, CWD, Mode, OFlags, RenameFlags};
use rustix::io::{Errno, retry_on_intr};
use session_core::backend::{FileSystem, file_system};
use session_core::{SessionId, StorageError};
use xxhash_rust::xxh3::Xxh3;

use crate::error::IoContext;
use crate::file_stat::{FileKind, kind_of, stat_path};

/// Prefixes of quarantined losses that no one has acknowledged yet.
const UNACKNOWLEDGED: &[&str] = &["degraded-", "lost-"];

/// Name of a quarantined part that is being written.
const UNFINISHED: &str = "unfinished";

/// The lines of a session that are being quarantined.
pub struct QuarantinedLines {
    file: BufWriter<File>,
    sum: Xxh3,
    path: PathBuf,
}

impl fmt::Debug for QuarantinedLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuarantinedLines").field("path", &self.path).finish_non_exhaustive()
    }
}

impl QuarantinedLines {
    /// Adds a line, without its line end.
    ///
    /// # Errors
    /// The system's error.
    pub fn add(&mut self, line: &[u8]) -> Result<(), StorageError> {
        self.add_part(line)?;
        self.end_line()
    }

    /// Adds a part of a line.
    ///
    /// # Errors
    /// The system's error.
    pub fn add_part(&mut self, part: &[u8]) -> Result<(), StorageError> {
        self.sum.update(part);
        self.file.write_all(part).context("write", &self.path)
    }

    /// Ends a line that was added in parts.
    ///
    /// # Errors
    /// The system's error.
    pub fn end_line(&mut self) -> Result<(), StorageError> {
        self.add_part(b"\n")
    }
}

/// Opens a regular file, and nothing else; a new file is for this user alone.
pub(crate) fn open_file(path: &Path, flags: OFlags) -> io::Result<File> {
    // NONBLOCK has no effect on a regular file, and keeps a planted pipe from blocking this thread forever.
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::from(retry_on_intr(|| fs::open(path, flags, Mode::RUSR | Mode::WUSR))?);
    if kind_of(&file)? == FileKind::File {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
}

/// Renames a file to a name that does not exist yet.
///
/// # Errors
/// `AlreadyExists` if the name exists; else the system's error.
pub fn rename_noreplace(from: &Path, to: &Path) -> io::Result<()> {
    match retry_on_intr(|| fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)) {
        // A file system that does not support the flag, but hard links.
        Err(Errno::INVAL | Errno::NOSYS) => {
            std::fs::hard_link(from, to)?;
            std::fs::remove_file(from)
        }
        result => Ok(result?),
    }
}

/// Flushes the names in a folder.
///
/// # Errors
/// The system's error.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = retry_on_intr(|| fs::open(path, flags, Mode::empty()))?;
    // On systems of Apple, `fsync` leaves the names in the cache of the disk.
    #[cfg(target_vendor = "apple")]
    fs::fcntl_fullfsync(&folder)?;
    #[cfg(not(target_vendor = "apple"))]
    fs::fsync(&folder)?;
    Ok(())
}

/// Refuses a path on a network or FUSE file system: their locks, flushes and shared memory cannot be relied on. For a
/// path that does not exist yet, the nearest existing folder above it is checked.
///
/// # Errors
/// `Unavailable` with the reason; `Io` if the file system cannot be determined.
pub fn refuse_remote(path: &Path) -> Result<(), StorageError> {
    let mut place = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let found = loop {
        match file_system(place) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => break other.context("determine the file system of", place)?,
        }
        place = match place.parent() {
            Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
            Some(parent) => parent,
            None => Path::new("/"),
        };
    };
    match found {
        FileSystem::Remote { name } => Err(StorageError::Unavailable {
            what: format!(
                "{} is on a {name} file system, where locks and flushes are unreliable: choose a path on a local disk",
                path.display()
            ),
            source: None,
        }),
        FileSystem::Local | _ => Ok(()),
    }
}

/// The folder next to a database: `marks`, `reserve`, `owners/`, `sessions/<id>/`, `quarantine/<id>/`.
#[derive(Debug, Clone)]
pub struct Folders {
    root: PathBuf,
}

impl Folders {
    /// Describes the files in this folder. Touches nothing.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Returns the folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the path of the marks file.
    #[must_use]
    pub fn marks(&self) -> PathBuf {
        self.root.join("marks")
    }

    /// Returns the folder in which owners are announced.
    #[must_use]
    pub fn owners(&self) -> PathBuf {
        self.root.join("owners")
    }

    /// Returns the folder for what sessions have besides their logs, one folder for each session.
    #[must_use]
    pub fn sessions(&self) -> PathBuf {
        self.root.join("sessions")
    }

    /// Returns the folder for what was cut from damaged logs, one folder for each session.
    #[must_use]
    pub fn quarantine(&self) -> PathBuf {
        self.root.join("quarantine")
    }

    /// Creates a folder for this user alone, and missing parents, unless it exists. Its name is flushed.
    ///
    /// # Errors
    /// `Unavailable` if something else is at the path; else the system's error.
    pub fn create(path: &Path) -> Result<(), StorageError> {
        if Self::is_folder(path)? {
            return Ok(());
        }
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // Above the store, links are the user's own and are followed.
        if !parent.is_dir() {
            Self::create(parent)?;
        }
        match retry_on_intr(|| fs::mkdir(path, Mode::RWXU)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error).context("create", path),
        }
        sync_dir(parent).context("flush", parent)?;
        Self::is_folder(path).map(drop)
    }

    /// Returns `true` if a folder is at the path. Refuses anything else: a link could lead anywhere.
    ///
    /// # Errors
    /// `Unavailable` if something else is at the path; else the system's error.
    pub fn is_folder(path: &Path) -> Result<bool, StorageError> {
        Self::is_kind(path, FileKind::Folder, "a folder")
    }

    /// Returns `true` if a regular file is at the path. Refuses anything else.
    ///
    /// # Errors
    /// `Unavailable` if something else is at the path; else the system's error.
    pub fn is_file(path: &Path) -> Result<bool, StorageError> {
        Self::is_kind(path, FileKind::File, "a regular file")
    }

    fn is_kind(path: &Path, expected: FileKind, name: &str) -> Result<bool, StorageError> {
        match stat_path(path).context("stat", path)? {
            None => Ok(false),
            Some((kind, _)) if kind == expected => Ok(true),
            Some(_) => Err(StorageError::Unavailable {
                what: format!("{} is not {name}: move it elsewhere, then try again", path.display()),
                source: None,
            }),
        }
    }

    /// Removes the folder of a session, if there is one.
    ///
    /// # Errors
    /// The system's error.
    pub fn remove_session(&self, id: SessionId) -> Result<(), StorageError> {
        let sessions = self.sessions();
        if !Self::is_folder(&sessions)? {
            return Ok(());
        }
        let path = sessions.join(id.to_string());
        remove_tree(&path).context("remove", &path)
    }

    /// Lists the sessions that have a folder, ascending, and the names that are not session ids.
    ///
    /// # Errors
    /// The system's error.
    pub fn list_session_folders(&self) -> Result<(Vec<SessionId>, Vec<String>), StorageError> {
        let sessions = self.sessions();
        let (mut ids, mut foreign) = (Vec::new(), Vec::new());
        for name in names(&sessions)? {
            match name.parse() {
                Ok(id) => ids.push(id),
                Err(_) => foreign.push(name),
            }
        }
        ids.sort_unstable();
        foreign.sort_unstable();
        Ok((ids, foreign))
    }

    /// Quarantines lines that are cut from a session's log, each with a line end, flushed:
    /// `quarantine/<id>/<why>-after-<readable>-<sum>`. The same bytes replace their earlier copy. `why` is `lost` or
    /// `degraded` if a user has to acknowledge it. `write` adds the lines one by one: all of them may be larger than the
    /// memory.
    ///
    /// # Errors
    /// The system's error; those of `write`.
    pub fn quarantine_lines<E: From<StorageError>>(
        &self,
        id: SessionId,
        why: &str,
        readable: u64,
        write: impl FnOnce(&mut QuarantinedLines) -> Result<(), E>,
    ) -> Result<PathBuf, E> {
        let folder = self.quarantine().join(id.to_string());
        Self::create(&folder)?;
        let unfinished = folder.join(UNFINISHED);
        remove_tree(&unfinished).context("remove", &unfinished)?;
        let file = open_file(&unfinished, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)
            .context("create", &unfinished)?;
        let mut lines =
            QuarantinedLines { file: BufWriter::new(file), sum: Xxh3::new(), path: unfinished.clone() };
        write(&mut lines)?;
        let QuarantinedLines { file, sum, .. } = lines;
        let path = folder.join(format!("{why}-after-{readable}-{:016x}", sum.digest()));
        let finish = || -> io::Result<()> {
            file.into_inner().map_err(IntoInnerError::into_error)?.sync_all()?;
            std::fs::rename(&unfinished, &path)?;
            sync_dir(&folder)
        };
        finish().context("write", &path)?;
        tracing::warn!(session = %id, why, kept = %path.display(), "quarantined the damaged end of a log");
        Ok(path)
    }

    /// Lists the losses of a session that no one has acknowledged yet, ascending by name.
    ///
    /// # Errors
    /// The system's error.
    pub fn losses(&self, id: SessionId) -> Result<Vec<PathBuf>, StorageError> {
        if !Self::is_folder(&self.quarantine())? {
            return Ok(Vec::new());
        }
        let folder = self.quarantine().join(id.to_string());
        let mut names = names(&folder)?;
        names.retain(|name| UNACKNOWLEDGED.iter().any(|prefix| name.starts_with(prefix)));
        names.sort_unstable();
        Ok(names.into_iter().map(|name| folder.join(name)).collect())
    }

    /// Marks the losses of a session as acknowledged and returns their number. The quarantined bytes stay.
    ///
    /// # Errors
    /// The system's error.
    pub fn acknowledge(&self, id: SessionId) -> Result<usize, StorageError> {
        let losses = self.losses(id)?;
        for path in &losses {
            let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { continue };
            let acknowledged = folder.join(format!("acknowledged-{}", name.to_string_lossy()));
            std::fs::rename(path, &acknowledged).context("rename", path)?;
            sync_dir(folder).context("flush", folder)?;
        }
        Ok(losses.len())
    }
}

/// Lists the names in a folder of the store; none if it does not exist.
fn names(folder: &Path) -> Result<Vec<String>, StorageError> {
    if !Folders::is_folder(folder)? {
        return Ok(Vec::new());
    }
    let list = |entries: ReadDir| -> io::Result<Vec<String>> {
        // A name that is not UTF-8 is never one of the store's; it must still be reported.
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    };
    std::fs::read_dir(folder).and_then(list).context("list", folder)
}

/// Removes a file, a link or a folder with its content, if there is one.
fn remove_tree(path: &Path) -> io::Result<()> {
    let result = match stat_path(path)? {
        None => return Ok(()),
        // Follows no links, not even ones that are placed there concurrently.
        Some((FileKind::Folder, _)) => std::fs::remove_dir_all(path),
        Some((FileKind::File | FileKind::Other, _)) => {
            retry_on_intr(|| fs::unlinkat(CWD, path, AtFlags::empty())).map_err(Into::into)
        }
    };
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests;
