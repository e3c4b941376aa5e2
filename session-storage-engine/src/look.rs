//! What stands at a path or is open: which file, of what kind, and how long. When it was changed is not asked. Linux keeps
//! times coarse as long as nobody asks; whoever does gives the next change of that file, and of every other one after it, a
//! time of its own, and each flush then has an inode to write besides.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{self, FileType, Stat};
use rustix::io::{Errno, retry_on_intr};

/// Which file something is: its device and its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity(u64, u64);

/// What stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// Anything else, symlinks included.
    Other,
}

/// What a look tells.
#[derive(Debug, Clone, Copy)]
struct Seen {
    kind: Kind,
    identity: Identity,
    length: u64,
}

/// What stands at a path, itself and not what a symlink leads to; `None` is nothing.
///
/// # Errors
/// Whatever the system says, other than that nothing is there.
pub fn identity_at(path: &Path) -> io::Result<Option<(Kind, Identity)>> {
    Ok(look_at(path)?.map(|seen| (seen.kind, seen.identity)))
}

/// Which file stands at a path, and how long it is; `None` where nothing does.
pub(crate) fn length_at(path: &Path) -> io::Result<Option<(Identity, u64)>> {
    Ok(look_at(path)?.map(|seen| (seen.identity, seen.length)))
}

/// Of what kind an open file is.
pub(crate) fn kind_of(file: &File) -> io::Result<Kind> {
    Ok(system::look(file, Path::new(""))?.kind)
}

/// Identity and length of an open file.
pub(crate) fn identity(file: &File) -> io::Result<(Identity, u64)> {
    let seen = system::look(file, Path::new(""))?;
    Ok((seen.identity, seen.length))
}

fn look_at(path: &Path) -> io::Result<Option<Seen>> {
    match retry_on_intr(|| system::look(fs::CWD, path)) {
        Ok(seen) => Ok(Some(seen)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl Seen {
    #[expect(clippy::useless_conversion, reason = "the fields are narrower on other systems")]
    fn of(stat: &Stat) -> Self {
        Self {
            kind: kind(FileType::from_raw_mode(stat.st_mode)),
            identity: Identity(u64::from(stat.st_dev), u64::from(stat.st_ino)),
            length: u64::try_from(stat.st_size).unwrap_or(0),
        }
    }
}

fn kind(found: FileType) -> Kind {
    match found {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Folder,
        FileType::Symlink
        | FileType::Fifo
        | FileType::Socket
        | FileType::CharacterDevice
        | FileType::BlockDevice
        | FileType::Unknown => Kind::Other,
    }
}

#[cfg(target_os = "linux")]
mod system {
    use std::os::fd::AsFd;
    use std::path::Path;

    use rustix::fs::{self, AtFlags, FileType, StatxFlags};
    use rustix::io::Errno;

    use super::{Identity, Seen, kind};

    /// Looks at what stands at a path below a folder; without a path, at that itself.
    pub(super) fn look(at: impl AsFd, path: &Path) -> Result<Seen, Errno> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
        let asked = StatxFlags::TYPE | StatxFlags::INO | StatxFlags::SIZE;
        match fs::statx(&at, path, flags, asked) {
            Ok(seen) => Ok(Seen {
                kind: kind(FileType::from_raw_mode(seen.stx_mode.into())),
                identity: Identity(fs::makedev(seen.stx_dev_major, seen.stx_dev_minor), seen.stx_ino),
                length: seen.stx_size,
            }),
            // Sandboxes that do not know the call say either.
            Err(Errno::NOSYS | Errno::PERM) => fs::statat(at, path, flags).map(|stat| Seen::of(&stat)),
            Err(error) => Err(error),
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::os::fd::AsFd;
    use std::path::Path;

    use rustix::fs::{self, AtFlags};
    use rustix::io::Errno;

    use super::Seen;

    /// Looks at what stands at a path below a folder; without a path, at that itself.
    pub(super) fn look(at: impl AsFd, path: &Path) -> Result<Seen, Errno> {
        let stat = if path.as_os_str().is_empty() {
            fs::fstat(at)
        } else {
            fs::statat(at, path, AtFlags::SYMLINK_NOFOLLOW)
        };
        stat.map(|stat| Seen::of(&stat))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_tells_what_the_system_says_of_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        assert!(look_at(&path).unwrap().is_none());
        std::fs::write(&path, b"12345").unwrap();
        let (known, expected) = (length_at(&path).unwrap().unwrap(), Seen::of(&fs::lstat(&path).unwrap()));
        assert_eq!(known, (expected.identity, 5));
        assert_eq!(identity(&File::open(&path).unwrap()).unwrap(), known);
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let kinds = [&path, &link, folder.path()].map(|path: &Path| identity_at(path).unwrap().unwrap().0);
        assert_eq!(kinds, [Kind::File, Kind::Other, Kind::Folder]);
        assert_ne!(length_at(&link).unwrap().unwrap().0, known.0, "a link is not followed");
    }
}
