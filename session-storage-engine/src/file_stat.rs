//! File identity, type and length by `statx`, without timestamps: Linux keeps a file's times coarse until they are
//! asked for. After a query, the next change of that file, and later changes of other files, get fine-grained times,
//! and then each flush has to write the inode too.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{self, FileType, Stat};
use rustix::io::{Errno, retry_on_intr};

/// The identity of a file: its device and its inode number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileIdentity(u64, u64);

/// The type of the file at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// Anything else, including symlinks.
    Other,
}

/// The attributes that are read, never the timestamps.
#[derive(Debug, Clone, Copy)]
struct FileStat {
    kind: FileKind,
    identity: FileIdentity,
    length: u64,
}

/// Returns type and identity of the file at a path, without following a symlink there; `None` if nothing is there.
///
/// # Errors
/// The system's error, except that nothing is there.
pub fn stat_path(path: &Path) -> io::Result<Option<(FileKind, FileIdentity)>> {
    Ok(stat(path)?.map(|stat| (stat.kind, stat.identity)))
}

/// Returns identity and length of the file at a path; `None` if nothing is there.
pub(crate) fn identity_and_length_at(path: &Path) -> io::Result<Option<(FileIdentity, u64)>> {
    Ok(stat(path)?.map(|stat| (stat.identity, stat.length)))
}

/// Returns the type of an open file.
pub(crate) fn kind_of(file: &File) -> io::Result<FileKind> {
    Ok(system::stat(file, Path::new(""))?.kind)
}

/// Returns identity and length of an open file.
pub(crate) fn identity_and_length(file: &File) -> io::Result<(FileIdentity, u64)> {
    let stat = system::stat(file, Path::new(""))?;
    Ok((stat.identity, stat.length))
}

fn stat(path: &Path) -> io::Result<Option<FileStat>> {
    match retry_on_intr(|| system::stat(fs::CWD, path)) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl FileStat {
    #[expect(clippy::useless_conversion, reason = "the fields are narrower on other systems")]
    fn from_stat(stat: &Stat) -> Self {
        Self {
            kind: kind(FileType::from_raw_mode(stat.st_mode)),
            identity: FileIdentity(system::device(stat), u64::from(stat.st_ino)),
            length: u64::try_from(stat.st_size).unwrap_or(0),
        }
    }
}

fn kind(file_type: FileType) -> FileKind {
    match file_type {
        FileType::RegularFile => FileKind::File,
        FileType::Directory => FileKind::Folder,
        FileType::Symlink
        | FileType::Fifo
        | FileType::Socket
        | FileType::CharacterDevice
        | FileType::BlockDevice
        | FileType::Unknown => FileKind::Other,
    }
}

#[cfg(target_os = "linux")]
mod system {
    use std::os::fd::AsFd;
    use std::path::Path;

    use rustix::fs::{self, AtFlags, FileType, Stat, StatxFlags};
    use rustix::io::Errno;

    use super::{FileIdentity, FileStat, kind};

    /// Reads the attributes of a path relative to a folder; with an empty path, of the open file itself.
    pub(super) fn stat(at: impl AsFd, path: &Path) -> Result<FileStat, Errno> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
        let mask = StatxFlags::TYPE | StatxFlags::INO | StatxFlags::SIZE;
        match fs::statx(&at, path, flags, mask) {
            Ok(stat) => Ok(FileStat {
                kind: kind(FileType::from_raw_mode(stat.stx_mode.into())),
                identity: FileIdentity(fs::makedev(stat.stx_dev_major, stat.stx_dev_minor), stat.stx_ino),
                length: stat.stx_size,
            }),
            // Sandboxes that do not know the call return either error.
            Err(Errno::NOSYS | Errno::PERM) => {
                fs::statat(at, path, flags).map(|stat| FileStat::from_stat(&stat))
            }
            Err(error) => Err(error),
        }
    }

    #[expect(clippy::useless_conversion, reason = "the field is narrower on other architectures")]
    pub(super) fn device(stat: &Stat) -> u64 {
        stat.st_dev.into()
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::os::fd::AsFd;
    use std::path::Path;

    use rustix::fs::{self, AtFlags, Stat};
    use rustix::io::Errno;

    use super::FileStat;

    /// Reads the attributes of a path relative to a folder; with an empty path, of the open file itself.
    pub(super) fn stat(at: impl AsFd, path: &Path) -> Result<FileStat, Errno> {
        let stat = if path.as_os_str().is_empty() {
            fs::fstat(at)
        } else {
            fs::statat(at, path, AtFlags::SYMLINK_NOFOLLOW)
        };
        stat.map(|stat| FileStat::from_stat(&stat))
    }

    /// Device numbers are signed on some systems.
    pub(super) fn device(stat: &Stat) -> u64 {
        i64::from(stat.st_dev).cast_unsigned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_agrees_with_lstat_and_follows_no_link() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        assert!(stat(&path).unwrap().is_none());
        std::fs::write(&path, b"12345").unwrap();
        let known = identity_and_length_at(&path).unwrap().unwrap();
        let expected = FileStat::from_stat(&fs::lstat(&path).unwrap());
        assert_eq!(known, (expected.identity, 5));
        assert_eq!(identity_and_length(&File::open(&path).unwrap()).unwrap(), known);
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let kinds = [&path, &link, folder.path()].map(|path: &Path| stat_path(path).unwrap().unwrap().0);
        assert_eq!(kinds, [FileKind::File, FileKind::Other, FileKind::Folder]);
        assert_ne!(identity_and_length_at(&link).unwrap().unwrap().0, known.0, "a link is not followed");
    }
}
