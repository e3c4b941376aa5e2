//! A folder of lock files, whose kernel locks carry the information. The meaning of the files is defined elsewhere.
//!
//! All access is relative to the opened folder, follows no symbolic link, and touches regular files only. A lock is
//! valid only while the name still refers to the locked file: every acquisition checks that again, because the file may
//! have been removed in between. Invariant: a file is removed only under its exclusive lock (guard:
//! `session-core/src/presence/tests.rs::a_file_is_locked_for_as_long_as_it_has_its_name`).

use std::fs::{DirBuilder, File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use rustix::fs::{AtFlags, Dir, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::id::LockFolderId;

/// Number of times that a file may be removed concurrently before we give up.
const ATTEMPTS: usize = 64;

/// The file with the random part of the folder's id: a UUID and a line feed. A sweep leaves it.
pub(super) const ID: &str = ".id";
/// Length of that file.
const ID_BYTES: u64 = 37;

/// Interval at which a damaged file of an id is tried again while another process replaces it.
const RETRY: Duration = Duration::from_millis(1);

#[derive(Debug)]
pub(super) struct LockDir {
    fd: OwnedFd,
}

/// The state of a lock file.
#[derive(Debug)]
pub(super) enum Probe {
    /// A process holds its exclusive lock.
    Held,
    /// No process holds it.
    Free,
    /// There is no such file, or something else has the name: a symbolic link, a pipe, a folder.
    Missing,
}

impl LockDir {
    /// Opens the folder; `None` if it does not exist.
    pub(super) fn open(path: &Path) -> io::Result<Option<Self>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(fd) => Ok(Some(Self { fd })),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens the folder, creating it with its parents if necessary, accessible to its user only.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        if let Some(existing) = Self::open(path)? {
            return Ok(existing);
        }
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        Self::open(path)?.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Checks whether a process holds the exclusive lock of a file.
    pub(super) fn probe(&self, name: &str) -> io::Result<Probe> {
        for _ in 0..ATTEMPTS {
            let Some(file) = self.open_file(name)? else { return Ok(Probe::Missing) };
            if let Some(probe) = self.probe_opened(name, &file)? {
                return Ok(probe);
            }
        }
        Err(vanished())
    }

    /// Checks the lock of an opened file; `None` if the file was removed or replaced since.
    pub(super) fn probe_opened(&self, name: &str, file: &File) -> io::Result<Option<Probe>> {
        match file.try_lock_shared() {
            Ok(()) => Ok(self.is_at(name, file)?.then_some(Probe::Free)),
            Err(TryLockError::WouldBlock) => Ok(Some(Probe::Held)),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Creates a file with this name, exclusively locked; `None` if the name is taken. No process ever sees the file under
    /// its name without the lock or its content, which `write` writes. `temporary` returns a new name at each call.
    pub(super) fn create_locked(
        &self,
        name: &str,
        temporary: impl Fn() -> String,
        write: impl Fn(&File) -> io::Result<()>,
    ) -> io::Result<Option<File>> {
        for _ in 0..ATTEMPTS {
            let temporary = temporary();
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = File::from(rustix::fs::openat(&self.fd, &*temporary, flags, Mode::RUSR | Mode::WUSR)?);
            if !self.lock_new(&temporary, &file)? {
                continue;
            }
            return match write(&file).and_then(|()| self.rename_new(&temporary, name)) {
                Ok(true) => Ok(Some(file)),
                Ok(false) => self.remove(&temporary).map(|()| None),
                Err(error) => {
                    self.remove(&temporary)?;
                    Err(error)
                }
            };
        }
        Err(vanished())
    }

    /// Acquires the exclusive lock of a file that was just created; `false` if a concurrent sweep took the unlocked
    /// file for a leftover and locked or removed it.
    pub(super) fn lock_new(&self, name: &str, file: &File) -> io::Result<bool> {
        match file.try_lock() {
            Ok(()) => self.is_at(name, file),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Opens and exclusively locks the file with this name, creating it if necessary; `None` if the lock is held.
    pub(super) fn try_lock(&self, name: &str) -> io::Result<Option<File>> {
        for _ in 0..ATTEMPTS {
            // Read and write access, so that opening a pipe in its place does not block: `fifo(7)`.
            let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = File::from(rustix::fs::openat(&self.fd, name, flags, Mode::RUSR | Mode::WUSR)?);
            if !file.metadata()?.is_file() {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
            }
            match file.try_lock() {
                Ok(()) if self.is_at(name, &file)? => return Ok(Some(file)),
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Err(vanished())
    }

    /// Returns the id of the folder; `None` if it has none, or its file is damaged. The file's identity is part of the id:
    /// in a copy of the folder it is another file.
    pub(super) fn id(&self) -> io::Result<Option<LockFolderId>> {
        self.open_file(ID)?.map_or(Ok(None), |file| id_in(&file))
    }

    /// Returns the id of the folder, and first creates its file if there is none, or a damaged one: it is then empty or
    /// cut, which no writer of it leaves. Of several processes that create it, one wins, and all return the same id. It
    /// survives power loss, because logs that do so name it.
    pub(super) fn ensure_id(&self, temporary: impl Fn() -> String) -> io::Result<LockFolderId> {
        for _ in 0..ATTEMPTS {
            if let Some(id) = self.id()? {
                return Ok(id);
            }
            if let Some(damaged) = self.open_file(ID)? {
                // Another process may have replaced it since, so only a file that is damaged under its lock is removed.
                if !self.lock_new(ID, &damaged)? {
                    std::thread::sleep(RETRY);
                } else if id_in(&damaged)?.is_none() {
                    self.remove(ID)?;
                }
                continue;
            }
            let created = self.create_locked(ID, &temporary, |file| {
                let mut writer = file;
                writer.write_all(format!("{}\n", LockFolderId::random()).as_bytes())?;
                file.sync_all()
            })?;
            if created.is_some() {
                self.flush()?;
            } else if self.open_file(ID)?.is_none() {
                let what = format!("{ID} is not a regular file");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
            }
        }
        Err(vanished())
    }

    /// Flushes the folder and its name.
    fn flush(&self) -> io::Result<()> {
        rustix::fs::fsync(&self.fd)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        // A parent that may be passed but not read cannot be flushed. Only power loss can then make a difference: the
        // owners of the folder would be unknown.
        match rustix::fs::openat(&self.fd, "..", flags, Mode::empty()) {
            Ok(parent) => Ok(rustix::fs::fsync(&parent)?),
            Err(Errno::ACCESS) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a file whose lock is free. Leaves held files, and everything that is not a regular file.
    pub(super) fn remove_if_free(&self, name: &str) -> io::Result<()> {
        let Some(file) = self.open_file(name)? else { return Ok(()) };
        match file.try_lock() {
            Ok(()) => self.remove_held(name, &file),
            Err(TryLockError::WouldBlock) => Ok(()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Removes a file whose exclusive lock the caller holds, unless the name refers to another file by now.
    pub(super) fn remove_held(&self, name: &str, file: &File) -> io::Result<()> {
        if self.is_at(name, file)? { self.remove(name) } else { Ok(()) }
    }

    /// Opens the regular file with this name, for reading and locking.
    pub(super) fn open_file(&self, name: &str) -> io::Result<Option<File>> {
        // Non-blocking, because opening a pipe in its place would wait for a writer.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        match rustix::fs::openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => {
                let file = File::from(fd);
                Ok(file.metadata()?.is_file().then_some(file))
            }
            // No file, a symbolic link, a socket.
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns all names that are UTF-8.
    pub(super) fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.fd)? {
            names.extend(entry?.file_name().to_str().ok().map(str::to_owned));
        }
        Ok(names)
    }

    /// Returns `true` if the name refers to this file.
    fn is_at(&self, name: &str, file: &File) -> io::Result<bool> {
        let ours = file.metadata()?;
        match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => Ok((device(&found), found.st_ino) == (ours.dev(), ours.ino())),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Renames a file without replacing another one; `false` if the new name is taken.
    pub(super) fn rename_new(&self, from: &str, to: &str) -> io::Result<bool> {
        match rustix::fs::renameat_with(&self.fd, from, &self.fd, to, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            // Not supported by the file system. A hard link does not replace either.
            Err(Errno::INVAL | Errno::NOSYS) => self.link_new(from, to),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn link_new(&self, from: &str, to: &str) -> io::Result<bool> {
        match rustix::fs::linkat(&self.fd, from, &self.fd, to, AtFlags::empty()) {
            Ok(()) => self.remove(from).map(|()| true),
            Err(Errno::EXIST) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Returns the id of a folder with this file of its id; `None` if the file is damaged.
fn id_in(file: &File) -> io::Result<Option<LockFolderId>> {
    let (mut text, found) = (Vec::new(), file.metadata()?);
    file.take(ID_BYTES + 1).read_to_end(&mut text)?;
    let random = std::str::from_utf8(&text).ok().and_then(|text| text.strip_suffix('\n')?.parse().ok());
    let born = found.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
    Ok(random.map(|random: LockFolderId| random.of_file(found.ino(), born)))
}

/// Returns the device of a file as the standard library does: its number is signed on systems of Apple.
fn device(stat: &rustix::fs::Stat) -> u64 {
    #[cfg(target_vendor = "apple")]
    return i64::from(stat.st_dev).cast_unsigned();
    #[cfg(not(target_vendor = "apple"))]
    stat.st_dev
}

fn vanished() -> io::Error {
    io::Error::other("lock file was removed repeatedly by another process")
}
