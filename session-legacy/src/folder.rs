//! A read-only folder of an older store. It is read from a handle, so that no symbolic link leads out of it, with a
//! limit on the size of each file.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

/// Flags that neither block on a pipe nor acquire a controlling terminal.
const OPEN_FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::CLOEXEC)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY);

/// An open folder.
#[derive(Debug)]
pub(crate) struct Folder {
    handle: OwnedFd,
    /// Its path, for programs that take no handle.
    path: PathBuf,
}

impl Folder {
    /// Opens the folder that the user named. A symbolic link in this path is followed.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let path = path.canonicalize()?;
        let handle = fs::open(&path, OPEN_FLAGS | OFlags::DIRECTORY, Mode::empty())?;
        Ok(Self { handle, path })
    }

    /// Opens a folder in it; `None` if there is no entry of that name. A symbolic link is not opened.
    pub(crate) fn folder(&self, name: impl AsRef<OsStr>) -> io::Result<Option<Self>> {
        let name = name.as_ref();
        match fs::openat(&self.handle, name, OPEN_FLAGS | OFlags::DIRECTORY, Mode::empty()) {
            Ok(handle) => Ok(Some(Self { handle, path: self.path.join(name) })),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns `true` if it has an entry of this name, symbolic links included.
    pub(crate) fn holds(&self, name: &str) -> bool {
        fs::statat(&self.handle, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// Returns the names in it, sorted.
    pub(crate) fn names(&self) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.handle)? {
            let name = OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// Reads the text of a file in it; `None` if there is no entry of that name. The error is the reason.
    pub(crate) fn read(&self, name: &OsStr, limit: u64) -> Result<Option<String>, String> {
        let handle = match fs::openat(&self.handle, name, OPEN_FLAGS, Mode::empty()) {
            Ok(handle) => handle,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err("is a symbolic link, which is not followed".to_owned()),
            Err(error) => return Err(format!("cannot be opened: {error}")),
        };
        let unreadable = |error: io::Error| format!("cannot be read: {error}");
        let found = fs::fstat(&handle).map_err(|error| unreadable(error.into()))?;
        if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
            return Err("is not a regular file".to_owned());
        }
        let mut bytes = Vec::new();
        File::from(handle).take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 > limit {
            return Err(format!("is larger than {} MiB", limit / (1024 * 1024)));
        }
        let text = String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())?;
        Ok(Some(text.strip_prefix('\u{feff}').map_or_else(|| text.clone(), str::to_owned)))
    }
}
