//! The few things that are done with files and folders: no symbolic link is followed, what is made is its user's alone.

use std::fs::{self, File, Permissions};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use session_core::StorageError;
use session_storage_engine::{FileKind, Folders, IoContext as _, stat_path};

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OpenMode {
    /// To read what is there.
    Read,
    /// To read and write; made if it is not there.
    Create,
    /// To write; it must not be there.
    CreateNew,
}

/// Opens a file, or makes it for nobody but its user.
pub(crate) fn open(path: &Path, mode: OpenMode) -> io::Result<File> {
    let flags = match mode {
        OpenMode::Read => OFlags::RDONLY,
        OpenMode::Create => OFlags::RDWR | OFlags::CREATE,
        OpenMode::CreateNew => OFlags::RDWR | OFlags::CREATE | OFlags::EXCL,
    };
    // What does not come from a pipe is not waited for.
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?);
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
}

/// The start of a file, as much as `max_bytes` bytes; `None` if there is none.
pub(crate) fn read_start(path: &Path, max_bytes: u64) -> Result<Option<Vec<u8>>, StorageError> {
    let file = match open(path, OpenMode::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        result => result.context("open", path)?,
    };
    let mut bytes = Vec::new();
    file.take(max_bytes).read_to_end(&mut bytes).context("read", path)?;
    Ok(Some(bytes))
}

/// Makes durable which names a folder has.
pub(crate) fn sync_folder(path: &Path) -> Result<(), StorageError> {
    File::open(path).and_then(|folder| folder.sync_all()).context("flush", path)
}

/// The names in a folder, ascending; none where there is no such folder.
pub(crate) fn names(path: &Path) -> Result<Vec<String>, StorageError> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        result => result.context("list", path)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry.context("list", path)?.file_name().to_string_lossy().into_owned());
    }
    names.sort_unstable();
    Ok(names)
}

/// Removes whatever a path names, and what is in it; nothing if there is nothing. Links are removed, not followed.
pub(crate) fn remove(path: &Path) -> Result<(), StorageError> {
    let removed = match stat_path(path).context("look at", path)? {
        None => return Ok(()),
        Some((FileKind::Folder, _)) => fs::remove_dir_all(path),
        Some((FileKind::File | FileKind::Other, _)) => fs::remove_file(path),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.context("remove", path),
    }
}

/// How the bytes of a copy come about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CopyMode {
    /// Shared with the original until one of the two changes, where the file system can do that.
    Reflink,
    /// Each read, as a reader of the file sees it, and written anew.
    Bytes,
}

/// Copies a folder that sled made, with all that is in it, and makes the copy durable. Anything but files and folders is
/// left out: sled makes nothing else.
pub(crate) fn copy_folder(from: &Path, to: &Path, mode: CopyMode) -> Result<(), StorageError> {
    Folders::create(to)?;
    for name in names(from)? {
        let (from, to) = (from.join(&name), to.join(&name));
        match stat_path(&from).context("look at", &from)? {
            Some((FileKind::Folder, _)) => copy_folder(&from, &to, mode)?,
            Some((FileKind::File, _)) => copy_file(&from, &to, mode)?,
            Some((FileKind::Other, _)) | None => {}
        }
    }
    sync_folder(to)
}

fn copy_file(from: &Path, to: &Path, mode: CopyMode) -> Result<(), StorageError> {
    let mut source = open(from, OpenMode::Read).context("open", from)?;
    let mut copy = open(to, OpenMode::CreateNew).context("create", to)?;
    let reflinked = mode == CopyMode::Reflink && rustix::fs::ioctl_ficlone(&copy, &source).is_ok();
    if !reflinked {
        io::copy(&mut source, &mut copy).context("write", to)?;
    }
    copy.set_permissions(Permissions::from_mode(0o600)).context("change", to)?;
    copy.sync_all().context("flush", to)
}
