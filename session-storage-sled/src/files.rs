//! Operations on files and folders. No symbolic link is followed, and new files are for this user alone.

use std::fs::{self, File, Permissions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use session_core::StorageError;
use session_storage_engine::{FileKind, Folders, IoContext as _, stat_path};

/// The mode in which a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OpenMode {
    /// Read an existing file.
    Read,
    /// Read and write; create the file if it does not exist.
    Create,
    /// Read and write a new file, which must not exist.
    CreateNew,
}

/// Opens a regular file; a new file is for this user alone.
pub(crate) fn open(path: &Path, mode: OpenMode) -> io::Result<File> {
    let flags = match mode {
        OpenMode::Read => OFlags::RDONLY,
        OpenMode::Create => OFlags::RDWR | OFlags::CREATE,
        OpenMode::CreateNew => OFlags::RDWR | OFlags::CREATE | OFlags::EXCL,
    };
    // NONBLOCK keeps a pipe at the path from blocking this thread.
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?);
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
}

/// Reads up to `max_bytes` bytes from the start of a file; `None` if it does not exist.
pub(crate) fn read_start(path: &Path, max_bytes: u64) -> Result<Option<Vec<u8>>, StorageError> {
    let file = match open(path, OpenMode::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        result => result.context("open", path)?,
    };
    let mut bytes = Vec::new();
    file.take(max_bytes).read_to_end(&mut bytes).context("read", path)?;
    Ok(Some(bytes))
}

/// Flushes the names in a folder.
pub(crate) fn sync_folder(path: &Path) -> Result<(), StorageError> {
    File::open(path).and_then(|folder| folder.sync_all()).context("flush", path)
}

/// Lists the names in a folder, ascending; none if the folder does not exist.
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

/// Removes the file or folder at a path, with its content, if there is one. Links are removed, not followed.
pub(crate) fn remove(path: &Path) -> Result<(), StorageError> {
    let removed = match stat_path(path).context("stat", path)? {
        None => return Ok(()),
        Some((FileKind::Folder, _)) => fs::remove_dir_all(path),
        Some((FileKind::File | FileKind::Other, _)) => fs::remove_file(path),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.context("remove", path),
    }
}

/// The method of copying a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CopyMode {
    /// Share blocks with the original until one of the two changes, if the file system supports that.
    Reflink,
    /// Read all bytes and write them again.
    Bytes,
}

/// Copies a folder of sled with its content, and flushes the copy. Skips anything but files and folders: sled creates
/// nothing else.
pub(crate) fn copy_folder(from: &Path, to: &Path, mode: CopyMode) -> Result<(), StorageError> {
    Folders::create(to)?;
    for name in names(from)? {
        let (from, to) = (from.join(&name), to.join(&name));
        match stat_path(&from).context("stat", &from)? {
            Some((FileKind::Folder, _)) => copy_folder(&from, &to, mode)?,
            Some((FileKind::File, _)) => copy_file(&from, &to, mode)?,
            Some((FileKind::Other, _)) | None => {}
        }
    }
    sync_folder(to)
}

/// Bytes per write when a file is rewritten.
const REWRITE: usize = 256 * 1024;

/// Writes the bytes of all files of a folder again in their place, and flushes them: what could be read is then certainly
/// on the disk. Needs no room, and an interruption changes nothing.
pub(crate) fn rewrite_folder(folder: &Path) -> Result<(), StorageError> {
    for name in names(folder)? {
        let path = folder.join(&name);
        match stat_path(&path).context("stat", &path)? {
            Some((FileKind::Folder, _)) => rewrite_folder(&path)?,
            Some((FileKind::File, _)) => rewrite_file(&path).context("rewrite", &path)?,
            Some((FileKind::Other, _)) | None => {}
        }
    }
    sync_folder(folder)
}

fn rewrite_file(path: &Path) -> io::Result<()> {
    let file = open(path, OpenMode::Create)?;
    let mut buffer = vec![0; REWRITE];
    let mut at = 0;
    // Only where there are blocks: filling the holes would need room.
    while let Some((start, end)) = next_data(&file, at)? {
        at = start;
        while at < end {
            let most = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
            let read = file.read_at(buffer.get_mut(..most).unwrap_or_default(), at)?;
            if read == 0 {
                return file.sync_all();
            }
            file.write_all_at(buffer.get(..read).unwrap_or_default(), at)?;
            at += read as u64;
        }
    }
    file.sync_all()
}

/// Returns the next range of a file that has blocks.
#[cfg(target_os = "linux")]
fn next_data(file: &File, from: u64) -> io::Result<Option<(u64, u64)>> {
    use rustix::fs::{SeekFrom, seek};
    use rustix::io::Errno;

    match seek(file, SeekFrom::Data(from)) {
        Ok(start) => Ok(Some((start, seek(file, SeekFrom::Hole(start))?))),
        Err(Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn next_data(file: &File, from: u64) -> io::Result<Option<(u64, u64)>> {
    let length = file.metadata()?.len();
    Ok((from < length).then_some((from, length)))
}

/// Shares the blocks of a file with a new one; `false` if the file system or the system does not support that.
#[cfg(target_os = "linux")]
fn reflink(source: &File, copy: &File) -> bool {
    rustix::fs::ioctl_ficlone(copy, source).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn reflink(_: &File, _: &File) -> bool {
    false
}

fn copy_file(from: &Path, to: &Path, mode: CopyMode) -> Result<(), StorageError> {
    let mut source = open(from, OpenMode::Read).context("open", from)?;
    let mut copy = open(to, OpenMode::CreateNew).context("create", to)?;
    if mode != CopyMode::Reflink || !reflink(&source, &copy) {
        io::copy(&mut source, &mut copy).context("write", to)?;
    }
    copy.set_permissions(Permissions::from_mode(0o600)).context("set the mode of", to)?;
    copy.sync_all().context("flush", to)
}

/// Reads a file to its end, so that an error of the disk is met here, and what is read after this comes from memory.
pub(crate) fn read_through(path: &Path) -> Result<(), StorageError> {
    let file = open(path, OpenMode::Read).context("open", path)?;
    let mut buffer = vec![0; 1024 * 1024];
    let mut at = 0;
    loop {
        match file.read_at(&mut buffer, at) {
            Ok(0) => return Ok(()),
            Ok(read) => at += read as u64,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context("read", path),
        }
    }
}
