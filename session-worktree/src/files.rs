//! Files that survive power loss, and the identity of directories.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{OFlags, RenameFlags};
use serde::Serialize;

use crate::error::{IoContext as _, Result};

/// The trash next to worktrees on another file system than their repository.
const OTHER_TRASH: &str = ".session-trash";
/// Bytes that are read of a file of this crate or of git's administration.
pub(crate) const SMALL: u64 = 1024 * 1024;

/// Writes a file in one step: after a crash it has its old content, or the new one.
pub(crate) fn write(path: &Path, content: &[u8]) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default())
        .open(&new)
        .context("create", &new)?;
    file.write_all(content).and_then(|()| file.sync_all()).context("write", &new)?;
    fs::rename(&new, path).context("write", path)?;
    flush_parent(path)
}

/// Writes a value as JSON, in one step.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let json = serde_json::to_vec_pretty(value).context("write", path)?;
    write(path, &json)
}

/// Reads a small regular file; `None` if there is none. Follows no link.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or_default())
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(None),
        Err(error) => return Err(error).context("open", path),
    };
    if !file.metadata().context("read", path)?.is_file() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput)).context("read", path);
    }
    let mut content = Vec::new();
    file.take(SMALL + 1).read_to_end(&mut content).context("read", path)?;
    if content.len() as u64 > SMALL {
        return Err(io::Error::from(io::ErrorKind::FileTooLarge)).context("read", path);
    }
    Ok(Some(content))
}

/// Reads a file, whatever its size; `None` if there is none.
pub(crate) fn read_whole(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context("read", path),
    }
}

/// Flushes the directory of a file, so that its name survives power loss.
pub(crate) fn flush_parent(path: &Path) -> Result<()> {
    flush_dir(path.parent().unwrap_or_else(|| Path::new("/")))
}

pub(crate) fn flush_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|dir| dir.sync_all()).context("flush", dir)
}

/// Creates a directory with all above it, so that it survives power loss.
pub(crate) fn create_dir(dir: &Path) -> Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    if let Some(parent) = dir.parent() {
        create_dir(parent)?;
    }
    match fs::create_dir(dir) {
        // Another process was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        Err(error) => Err(error).context("create", dir),
        Ok(()) => flush_parent(dir),
    }
}

/// Renames a directory to a name that is free, so that both names survive power loss.
pub(crate) fn move_dir(from: &Path, to: &Path) -> Result<()> {
    rustix::fs::renameat_with(rustix::fs::CWD, from, rustix::fs::CWD, to, RenameFlags::NOREPLACE)
        .context("move", from)?;
    flush_parent(to)?;
    flush_parent(from)
}

/// Returns `true` if something has this name, a dangling link included.
pub(crate) fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// Returns `true` if a directory can be renamed from one parent to the other.
pub(crate) fn on_one_device(one: &Path, other: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).ok().map(|metadata| metadata.dev());
    device(one).is_some_and(|one| Some(one) == device(other))
}

/// Returns a free place for a directory on its own file system: in the entry, or next to the worktrees.
pub(crate) fn trash_place(entry: &Path, path: &Path) -> Result<PathBuf> {
    if on_one_device(entry, path) {
        return Ok(entry.join("tree"));
    }
    let parent = path.parent().unwrap_or(path);
    let trash = parent.join(OTHER_TRASH);
    create_dir(&trash)?;
    Ok(trash.join(entry.file_name().unwrap_or_default()))
}

/// Returns the bytes that all files below a directory take on the disk, each counted once.
pub(crate) fn disk_bytes(dir: &Path) -> u64 {
    fn add(dir: &Path, seen: &mut HashSet<(u64, u64)>) -> u64 {
        let Ok(entries) = fs::read_dir(dir) else { return 0 };
        let mut bytes = 0;
        for entry in entries.flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                bytes += add(&entry.path(), seen);
            }
            if metadata.nlink() == 1 || metadata.is_dir() || seen.insert((metadata.dev(), metadata.ino())) {
                bytes += metadata.blocks() * 512;
            }
        }
        bytes
    }
    add(dir, &mut HashSet::new())
}

/// Returns the path, with a number if it is taken.
pub(crate) fn free(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default();
    let numbered = |number: u32| {
        let mut name = name.to_owned();
        if number > 1 {
            name.push(format!("-{number}"));
        }
        path.with_file_name(name)
    };
    (1..=u32::MAX).map(numbered).find(|path| !exists(path)).unwrap_or_else(|| path.to_owned())
}

/// Returns the nearest directory above a path that exists.
pub(crate) fn existing_parent(path: &Path) -> &Path {
    path.ancestors().skip(1).find(|parent| parent.is_dir()).unwrap_or_else(|| Path::new("/"))
}
