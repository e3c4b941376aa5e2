//! A folder of lock files: files that say something only by who holds their kernel lock. What the files stand for is
//! not known here.
//!
//! All access is relative to the opened folder, follows no symbolic link, and touches regular files only. A lock
//! counts only while its file is what the name stands for: whoever got one looks again, because the file may have
//! been removed in between. Invariant: nobody removes a file without holding its exclusive lock
//! (guard: `session-core/src/presence/tests.rs::a_file_has_its_lock_for_as_long_as_it_has_its_name`).

use std::fs::{DirBuilder, File, TryLockError};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

/// How often a file may vanish under our hands before that is called a failure.
const ATTEMPTS: usize = 64;

#[derive(Debug)]
pub(super) struct LockDir {
    fd: OwnedFd,
}

/// What a look at a lock file shows.
#[derive(Debug)]
pub(super) enum Probe {
    /// Somebody holds its exclusive lock.
    Held,
    /// Nobody does.
    Free,
    /// There is no such file, or something that is none of ours: a symbolic link, a pipe, a folder.
    Missing,
}

impl LockDir {
    /// The folder, if there is one.
    pub(super) fn open(path: &Path) -> io::Result<Option<Self>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(fd) => Ok(Some(Self { fd })),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The folder, made with its parents if need be, for nobody but its user.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        if let Some(there) = Self::open(path)? {
            return Ok(there);
        }
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        Self::open(path)?.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Whether anybody holds the exclusive lock of a file.
    pub(super) fn probe(&self, name: &str) -> io::Result<Probe> {
        for _ in 0..ATTEMPTS {
            let Some(file) = self.open_file(name)? else { return Ok(Probe::Missing) };
            if let Some(probe) = self.probe_opened(name, &file)? {
                return Ok(probe);
            }
        }
        Err(vanished())
    }

    /// What an opened file says of its name; nothing if it was removed or replaced since.
    pub(super) fn probe_opened(&self, name: &str, file: &File) -> io::Result<Option<Probe>> {
        match file.try_lock_shared() {
            Ok(()) => Ok(self.is_at(name, file)?.then_some(Probe::Free)),
            Err(TryLockError::WouldBlock) => Ok(Some(Probe::Held)),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// A new file of this name with its exclusive lock, and this content; `None` if the name is taken. It comes into
    /// being locked: nobody ever sees it under its name without the lock. `temporary` makes a new name each time.
    pub(super) fn create_locked(
        &self,
        name: &str,
        temporary: impl Fn() -> String,
        content: &[u8],
    ) -> io::Result<Option<File>> {
        for _ in 0..ATTEMPTS {
            let temporary = temporary();
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = File::from(rustix::fs::openat(&self.fd, &*temporary, flags, Mode::RUSR | Mode::WUSR)?);
            if !self.lock_new(&temporary, &file)? {
                continue;
            }
            let mut there = &file;
            let moved =
                io::Write::write_all(&mut there, content).and_then(|()| self.rename_new(&temporary, name));
            return match moved {
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

    /// Takes the exclusive lock of a file that was just made; `false` where somebody who cleans up took it for a leftover,
    /// which it was for a moment, and removes it or has done so.
    pub(super) fn lock_new(&self, name: &str, file: &File) -> io::Result<bool> {
        match file.try_lock() {
            Ok(()) => self.is_at(name, file),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// The file of this name with its exclusive lock, made if need be; `None` if somebody holds it.
    pub(super) fn try_lock(&self, name: &str) -> io::Result<Option<File>> {
        for _ in 0..ATTEMPTS {
            // For reading and writing, so that not even a pipe which somebody put there is waited for: `fifo(7)`.
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

    /// Removes a file that nobody holds. One that somebody holds, or that is none of ours, is left alone.
    pub(super) fn remove_if_free(&self, name: &str) -> io::Result<()> {
        let Some(file) = self.open_file(name)? else { return Ok(()) };
        match file.try_lock() {
            Ok(()) => self.remove_held(name, &file),
            Err(TryLockError::WouldBlock) => Ok(()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Removes a file of which the caller holds the exclusive lock, unless the name stands for another one by now.
    pub(super) fn remove_held(&self, name: &str, file: &File) -> io::Result<()> {
        if self.is_at(name, file)? { self.remove(name) } else { Ok(()) }
    }

    /// The regular file of this name, to look at and to lock.
    pub(super) fn open_file(&self, name: &str) -> io::Result<Option<File>> {
        // Without waiting: a pipe that somebody put there has nobody at its other end.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        match rustix::fs::openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => {
                let file = File::from(fd);
                Ok(file.metadata()?.is_file().then_some(file))
            }
            // Nothing, a symbolic link, a socket.
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// All names that are text.
    pub(super) fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.fd)? {
            names.extend(entry?.file_name().to_str().ok().map(str::to_owned));
        }
        Ok(names)
    }

    /// Whether the name stands for this very file.
    fn is_at(&self, name: &str, file: &File) -> io::Result<bool> {
        let ours = file.metadata()?;
        match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(there) => Ok((there.st_dev, there.st_ino) == (ours.dev(), ours.ino())),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Renames without replacing; `false` if the new name is taken.
    pub(super) fn rename_new(&self, from: &str, to: &str) -> io::Result<bool> {
        match rustix::fs::renameat_with(&self.fd, from, &self.fd, to, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            // A file system that cannot do this: a link does not replace either.
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

fn vanished() -> io::Error {
    io::Error::other("a lock file vanishes as fast as it is made")
}
