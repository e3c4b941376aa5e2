//! The files and folders beside a database: only our own kinds of things at our places, for this user alone. Nothing here
//! follows a symlink.

use std::fs::{File, ReadDir};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, CWD, Mode, OFlags, RenameFlags};
use rustix::io::{Errno, retry_on_intr};
use session_core::{FileSystem, SessionId, StorageError, file_system};
use xxhash_rust::xxh3::xxh3_64;

use crate::error::IoContext;
use crate::look::{Kind, identity_at, kind_of};

/// Kept losses whose names begin so are known to nobody yet.
const UNACKNOWLEDGED: &[&str] = &["degraded-", "lost-"];

/// Opens a regular file, and nothing else, for this user alone if it is made.
pub(crate) fn open(path: &Path, flags: OFlags) -> io::Result<File> {
    // NONBLOCK means nothing to a regular file, and keeps a planted pipe from holding this thread for ever.
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::from(retry_on_intr(|| fs::open(path, flags, Mode::RUSR | Mode::WUSR))?);
    if kind_of(&file)? == Kind::File {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
}

/// Gives a file its name, which nothing has yet.
///
/// # Errors
/// `AlreadyExists` where something has; what the system says.
pub fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match retry_on_intr(|| fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)) {
        // A file system that does not know the flag, but hard links.
        Err(Errno::INVAL | Errno::NOSYS) => {
            std::fs::hard_link(from, to)?;
            std::fs::remove_file(from)
        }
        result => Ok(result?),
    }
}

/// Makes the names in a folder durable.
///
/// # Errors
/// What the system says.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = retry_on_intr(|| fs::open(path, flags, Mode::empty()))?;
    Ok(fs::fsync(&folder)?)
}

/// Refuses a place on a network or FUSE file system: their locks, flushes and shared memory cannot be relied on. Of a path
/// that is not there yet, the nearest folder above it counts.
///
/// # Errors
/// `Unavailable` with the reason; `Io` where the system does not say.
pub fn refuse_remote(path: &Path) -> Result<(), StorageError> {
    let mut place = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let found = loop {
        match file_system(place) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => break other.context("look at the file system of", place)?,
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
                "{} is on a {name} file system, where locks and flushes cannot be relied on: choose a local one",
                path.display()
            ),
            source: None,
        }),
        FileSystem::Local | _ => Ok(()),
    }
}

/// The folder beside a database: `marks`, `owners/`, `sessions/<id>/`, `quarantine/<id>/`.
#[derive(Debug, Clone)]
pub struct Folders {
    root: PathBuf,
}

impl Folders {
    /// Those in this folder. Touches nothing.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The file of the marks.
    #[must_use]
    pub fn marks(&self) -> PathBuf {
        self.root.join("marks")
    }

    /// For whoever announces owners.
    #[must_use]
    pub fn owners(&self) -> PathBuf {
        self.root.join("owners")
    }

    /// For what belongs to sessions beside their logs, a folder for each.
    #[must_use]
    pub fn sessions(&self) -> PathBuf {
        self.root.join("sessions")
    }

    /// For what was cut from damaged logs, a folder for each session.
    #[must_use]
    pub fn quarantine(&self) -> PathBuf {
        self.root.join("quarantine")
    }

    /// Makes a folder for this user alone, and those above it, unless it is there. Its name is durable after that.
    ///
    /// # Errors
    /// `Unavailable` where something else stands at its place; what the system says.
    pub fn make(path: &Path) -> Result<(), StorageError> {
        if Self::is_folder(path)? {
            return Ok(());
        }
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // Above the store the user's own links are as good as folders.
        if !parent.is_dir() {
            Self::make(parent)?;
        }
        match retry_on_intr(|| fs::mkdir(path, Mode::RWXU)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error).context("create", path),
        }
        sync_dir(parent).context("flush", parent)?;
        Self::is_folder(path).map(drop)
    }

    /// Whether a folder is there. Anything else in its place is refused: a link could lead anywhere.
    ///
    /// # Errors
    /// `Unavailable` where something else stands at its place; what the system says.
    pub fn is_folder(path: &Path) -> Result<bool, StorageError> {
        Self::is(path, Kind::Folder, "a folder")
    }

    /// Whether a regular file is there. Anything else in its place is refused.
    ///
    /// # Errors
    /// `Unavailable` where something else stands at its place; what the system says.
    pub fn is_file(path: &Path) -> Result<bool, StorageError> {
        Self::is(path, Kind::File, "a regular file")
    }

    fn is(path: &Path, wanted: Kind, word: &str) -> Result<bool, StorageError> {
        match identity_at(path).context("look at", path)? {
            None => Ok(false),
            Some((kind, _)) if kind == wanted => Ok(true),
            Some(_) => Err(StorageError::Unavailable {
                what: format!("{} is not {word}: put it away and try again", path.display()),
                source: None,
            }),
        }
    }

    /// Removes what belongs to a session beside its log. Nothing there is fine.
    ///
    /// # Errors
    /// What the system says.
    pub fn remove_session(&self, id: SessionId) -> Result<(), StorageError> {
        let sessions = self.sessions();
        if !Self::is_folder(&sessions)? {
            return Ok(());
        }
        let path = sessions.join(id.to_string());
        remove_tree(&path).context("remove", &path)
    }

    /// The sessions that have a folder, ascending, and the names that are none.
    ///
    /// # Errors
    /// What the system says.
    pub fn session_folders(&self) -> Result<(Vec<SessionId>, Vec<String>), StorageError> {
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

    /// Keeps bytes that are cut from a session's log, durably: `quarantine/<id>/<why>-after-<readable>-<sum>`. The same
    /// bytes kept again take the place of the first ones. `why` is `lost` or `degraded` where somebody has to know of it.
    ///
    /// # Errors
    /// What the system says.
    pub fn keep(
        &self,
        id: SessionId,
        why: &str,
        readable: u64,
        bytes: &[u8],
    ) -> Result<PathBuf, StorageError> {
        let folder = self.quarantine().join(id.to_string());
        Self::make(&folder)?;
        let path = folder.join(format!("{why}-after-{readable}-{:016x}", xxh3_64(bytes)));
        let write = || -> io::Result<()> {
            remove_tree(&path)?;
            let mut file = open(&path, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            sync_dir(&folder)
        };
        write().context("write", &path)?;
        tracing::warn!(session = %id, why, kept = %path.display(), "a log was mended");
        Ok(path)
    }

    /// The losses of a session that nobody has acknowledged yet, ascending by name.
    ///
    /// # Errors
    /// What the system says.
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

    /// Notes that the losses of a session are known to somebody, and says how many there were. What was cut stays.
    ///
    /// # Errors
    /// What the system says.
    pub fn acknowledge(&self, id: SessionId) -> Result<usize, StorageError> {
        let losses = self.losses(id)?;
        for path in &losses {
            let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { continue };
            let known = folder.join(format!("acknowledged-{}", name.to_string_lossy()));
            std::fs::rename(path, &known).context("rename", path)?;
            sync_dir(folder).context("flush", folder)?;
        }
        Ok(losses.len())
    }
}

/// The names in a folder of ours; none where it is not there.
fn names(folder: &Path) -> Result<Vec<String>, StorageError> {
    if !Folders::is_folder(folder)? {
        return Ok(Vec::new());
    }
    let list = |entries: ReadDir| -> io::Result<Vec<String>> {
        // A name that is no text is none of ours; it must still be seen.
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    };
    std::fs::read_dir(folder).and_then(list).context("list", folder)
}

/// Removes a file, a link or a whole folder; nothing there is fine.
fn remove_tree(path: &Path) -> io::Result<()> {
    let result = match identity_at(path)? {
        None => return Ok(()),
        // Follows no links, also not ones that are put there meanwhile.
        Some((Kind::Folder, _)) => std::fs::remove_dir_all(path),
        Some((Kind::File | Kind::Other, _)) => {
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
