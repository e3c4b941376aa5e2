//! Atomic creation and replacement of a marks file: written and flushed under a temporary name, then renamed.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use session_core::StorageError;

use super::line::{LINE, Line, StoreId};
use crate::error::IoContext as _;
use crate::folders::{Folders, open_file, rename_noreplace, sync_dir};

/// Replaces the file at the path by a new one with these lines. The caller must hold the exclusive lock on the old
/// file.
pub(super) fn replace(path: &Path, store: StoreId, lines: &[u8]) -> Result<(), StorageError> {
    let (new, _locked) = stage(path, store, lines)?;
    std::fs::rename(&new, path).context("rename", &new)?;
    let folder = folder(path);
    sync_dir(folder).context("flush", folder)?;
    if let Err(error) = sweep(path) {
        tracing::debug!(path = %path.display(), %error, "could not remove leftover temporary marks files");
    }
    Ok(())
}

/// Creates a file with these lines at the path, unless one exists.
pub(super) fn create(path: &Path, store: StoreId, lines: &[u8]) -> Result<(), StorageError> {
    Folders::create(folder(path))?;
    let (new, _locked) = stage(path, store, lines)?;
    match rename_noreplace(&new, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            std::fs::remove_file(&new).context("remove", &new)
        }
        result => result.context("rename", &new),
    }
}

/// Gives the file at the path a second name in the quarantine folder next to it, and returns that.
pub(super) fn quarantine(path: &Path) -> Result<PathBuf, StorageError> {
    let quarantine = Folders::new(folder(path)).quarantine();
    Folders::create(&quarantine)?;
    let kept = quarantine.join(format!("marks.{}", StoreId::random()));
    std::fs::hard_link(path, &kept).context("link", path)?;
    sync_dir(&quarantine).context("flush", &quarantine)?;
    Ok(kept)
}

/// Writes a temporary file, locked until it is renamed: one without a lock was left by a process that died.
fn stage(path: &Path, store: StoreId, lines: &[u8]) -> Result<(PathBuf, File), StorageError> {
    // A unique name: two processes may do this concurrently.
    let mut new = OsString::from(path);
    new.push(format!("{STAGED}{}", StoreId::random()));
    let new = PathBuf::from(new);
    let mut bytes = Vec::with_capacity(lines.len() + LINE);
    Line::Store(store).encode(&mut bytes);
    bytes.extend_from_slice(lines);
    let write = || -> io::Result<File> {
        let mut file = open_file(&new, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)?;
        // A sweep may remove the file before it is locked; then the rename fails and is reported.
        file.lock_shared()?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        Ok(file)
    };
    let locked = write().context("write", &new).inspect_err(|_| drop(std::fs::remove_file(&new)))?;
    Ok((new, locked))
}

/// The suffix of a temporary file's name, before its unique part.
const STAGED: &str = ".new-";

/// Removes temporary files of processes that died before the rename.
fn sweep(path: &Path) -> io::Result<()> {
    let Some(name) = path.file_name() else { return Ok(()) };
    let mut staged = name.to_owned();
    staged.push(STAGED);
    for entry in std::fs::read_dir(folder(path))? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(staged.as_encoded_bytes())
            && open_file(&entry.path(), OFlags::RDONLY).is_ok_and(|file| file.try_lock().is_ok())
        {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unlocked_temporary_files_are_swept_and_locked_ones_stay() {
        let folder = tempfile::tempdir().unwrap();
        let (path, store) = (folder.path().join("marks"), StoreId::random());
        create(&path, store, b"").unwrap();
        let (abandoned, _) = stage(&path, store, b"").unwrap();
        let (in_use, locked) = stage(&path, store, b"").unwrap();
        let other = folder.path().join("marks-new-mine");
        std::fs::write(&other, "precious").unwrap();
        replace(&path, store, b"new lines\n").unwrap();
        assert!(!abandoned.exists() && in_use.exists() && other.exists());
        assert!(std::fs::read(&path).unwrap().ends_with(b"new lines\n"));
        drop(locked);
        replace(&path, store, b"").unwrap();
        assert!(!in_use.exists() && other.exists());
    }
}
