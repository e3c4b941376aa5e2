//! The disk of the operating system. Only this module retries interrupted calls.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{self, AtFlags, CWD, FileType, Mode, OFlags, RenameFlags};
use rustix::io::{Errno, retry_on_intr};

use session_core::backend::FileSystem;

use super::{Disk, DiskFile, Identity, Kind, LockMode, Open};

/// The file system of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

#[derive(Debug)]
struct RealFile(File);

impl Disk for RealDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn DiskFile>> {
        let access = match how {
            Open::Read => OFlags::RDONLY,
            Open::Write => OFlags::RDWR,
            Open::Create => OFlags::RDWR | OFlags::CREATE | OFlags::EXCL,
            Open::CreateIfAbsent => OFlags::RDWR | OFlags::CREATE,
        };
        // NONBLOCK has no effect on a regular file, and keeps a planted pipe from blocking this thread for
        // ever.
        let flags = access | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let mode = Mode::RUSR | Mode::WUSR;
        let file = retry_on_intr(|| fs::open(path, flags, mode))?;
        if FileType::from_raw_mode(fs::fstat(&file)?.st_mode) != FileType::RegularFile {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok(Box::new(RealFile(File::from(file))))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        Ok(retry_on_intr(|| fs::mkdir(path, Mode::RWXU))?)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        Ok(retry_on_intr(|| fs::unlinkat(CWD, path, AtFlags::REMOVEDIR))?)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(path)? {
            // A name that is not UTF-8 is not ours; it is still returned, so that it can be rejected.
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        Ok(names)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Ok(retry_on_intr(|| fs::rename(from, to))?)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        match retry_on_intr(|| fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)) {
            // The file system does not support the flag. The caller holds the store's lock, so nothing can
            // appear between this check and the rename, and a folder that is not empty is never replaced.
            Err(Errno::INVAL | Errno::NOSYS) => match self.kind(to)? {
                Some(_) => Err(io::ErrorKind::AlreadyExists.into()),
                None => self.rename(from, to),
            },
            result => Ok(result?),
        }
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        Ok(retry_on_intr(|| fs::unlinkat(CWD, path, AtFlags::empty()))?)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = retry_on_intr(|| fs::open(path, flags, Mode::empty()))?;
        Ok(system::flush_dir(&folder)?)
    }

    fn kind(&self, path: &Path) -> io::Result<Option<(Kind, Identity)>> {
        let stat = match retry_on_intr(|| fs::lstat(path)) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let file_type = FileType::from_raw_mode(stat.st_mode);
        let kind = if file_type.is_file() {
            Kind::File
        } else if file_type.is_dir() {
            Kind::Dir
        } else {
            Kind::Other
        };
        Ok(Some((kind, identity_of(&stat))))
    }

    fn file_system(&self, path: &Path) -> io::Result<FileSystem> {
        session_core::backend::file_system(path)
    }

    fn boot(&self) -> io::Result<String> {
        std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned())
    }
}

impl DiskFile for RealFile {
    fn identity(&self) -> io::Result<Identity> {
        Ok(identity_of(&fs::fstat(&self.0)?))
    }

    fn len(&self) -> io::Result<u64> {
        let size = fs::fstat(&self.0)?.st_size;
        u64::try_from(size).map_err(|_| io::ErrorKind::InvalidData.into())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        uninterrupted(|| self.0.read_at(buffer, offset))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        uninterrupted(|| self.0.write_at(bytes, offset))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        uninterrupted(|| self.0.set_len(len))
    }

    fn sync(&self) -> io::Result<()> {
        // Called once, even if interrupted (the standard library would repeat it): a flush may have failed
        // already for pages that a second one no longer covers. The caller treats every error as a failed
        // flush.
        Ok(system::flush(&self.0)?)
    }

    fn try_lock(&self, mode: LockMode) -> io::Result<bool> {
        uninterrupted(|| {
            let result = match mode {
                LockMode::Shared => self.0.try_lock_shared(),
                LockMode::Exclusive => self.0.try_lock(),
            };
            match result {
                Ok(()) => Ok(true),
                Err(TryLockError::WouldBlock) => Ok(false),
                Err(TryLockError::Error(error)) => Err(error),
            }
        })
    }

    fn unlock(&self) -> io::Result<()> {
        uninterrupted(|| self.0.unlock())
    }
}

fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

// The width of this field differs between platforms.
#[expect(clippy::useless_conversion, reason = "the field has other types elsewhere")]
fn identity_of(stat: &fs::Stat) -> Identity {
    Identity { device: system::device(stat), inode: stat.st_ino.into() }
}

#[cfg(not(target_vendor = "apple"))]
mod system {
    use std::os::fd::AsFd;

    use rustix::fs::{self, Stat};
    use rustix::io::Errno;

    pub(super) fn flush(file: impl AsFd) -> Result<(), Errno> {
        fs::fdatasync(file)
    }

    pub(super) fn flush_dir(folder: impl AsFd) -> Result<(), Errno> {
        fs::fsync(folder)
    }

    #[expect(clippy::useless_conversion, reason = "the field has other types elsewhere")]
    pub(super) fn device(stat: &Stat) -> u64 {
        stat.st_dev.into()
    }
}

/// On systems of Apple, `fsync` leaves the data in the cache of the disk: only `F_FULLFSYNC` survives power loss.
#[cfg(target_vendor = "apple")]
mod system {
    use std::os::fd::AsFd;

    use rustix::fs::{self, Stat};
    use rustix::io::Errno;

    pub(super) fn flush(file: impl AsFd) -> Result<(), Errno> {
        fs::fcntl_fullfsync(file)
    }

    pub(super) fn flush_dir(folder: impl AsFd) -> Result<(), Errno> {
        fs::fcntl_fullfsync(folder)
    }

    /// Device numbers are signed there.
    pub(super) fn device(stat: &Stat) -> u64 {
        i64::from(stat.st_dev).cast_unsigned()
    }
}
