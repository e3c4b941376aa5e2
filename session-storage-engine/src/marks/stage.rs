//! Puts a file of marks at its place as a whole: written and flushed under a name of its own, then renamed.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use session_core::StorageError;

use super::line::{LINE, Line, StoreId};
use crate::error::IoContext as _;
use crate::folders::{Folders, open, rename_new, sync_dir};

/// Puts a new file with these lines at the path, in the place of what is there: whoever calls this holds that alone.
pub(super) fn replace(path: &Path, store: StoreId, lines: &[u8]) -> Result<(), StorageError> {
    let (new, _held) = stage(path, store, lines)?;
    std::fs::rename(&new, path).context("rename", &new)?;
    let folder = folder(path);
    sync_dir(folder).context("flush", folder)?;
    if let Err(error) = sweep(path) {
        tracing::debug!(path = %path.display(), %error, "what somebody left unfinished stays for now");
    }
    Ok(())
}

/// Puts a new file with these lines at the path, if nothing is there.
pub(super) fn create(path: &Path, store: StoreId, lines: &[u8]) -> Result<(), StorageError> {
    Folders::make(folder(path))?;
    let (new, _held) = stage(path, store, lines)?;
    match rename_new(&new, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            std::fs::remove_file(&new).context("remove", &new)
        }
        result => result.context("rename", &new),
    }
}

/// Writes a file that is to be renamed. It is locked until then: one that is not was left by somebody who died.
fn stage(path: &Path, store: StoreId, lines: &[u8]) -> Result<(PathBuf, File), StorageError> {
    // Its own name for each: two processes may be at it.
    let mut new = OsString::from(path);
    new.push(format!("{STAGED}{}", StoreId::random()));
    let new = PathBuf::from(new);
    let mut bytes = Vec::with_capacity(lines.len() + LINE);
    Line::Store(store).write(&mut bytes);
    bytes.extend_from_slice(lines);
    let write = || -> io::Result<File> {
        let mut file = open(&new, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)?;
        // Whoever sweeps may be faster; then there is nothing to be renamed, and that is told.
        file.lock_shared()?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        Ok(file)
    };
    let held = write().context("write", &new).inspect_err(|_| drop(std::fs::remove_file(&new)))?;
    Ok((new, held))
}

/// What the name of a staged file has behind that of the file whose place it takes.
const STAGED: &str = ".new-";

/// Removes what others staged and did not live to rename.
fn sweep(path: &Path) -> io::Result<()> {
    let Some(name) = path.file_name() else { return Ok(()) };
    let mut staged = name.to_owned();
    staged.push(STAGED);
    for entry in std::fs::read_dir(folder(path))? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(staged.as_encoded_bytes())
            && open(&entry.path(), OFlags::RDONLY).is_ok_and(|file| file.try_lock().is_ok())
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
    fn what_the_dead_left_is_swept_and_what_the_living_stage_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (path, store) = (folder.path().join("marks"), StoreId::random());
        create(&path, store, b"").unwrap();
        let (dead, _) = stage(&path, store, b"").unwrap();
        let (living, held) = stage(&path, store, b"").unwrap();
        let other = folder.path().join("marks-new-mine");
        std::fs::write(&other, "precious").unwrap();
        replace(&path, store, b"anew\n").unwrap();
        assert!(!dead.exists() && living.exists() && other.exists());
        assert!(std::fs::read(&path).unwrap().ends_with(b"anew\n"));
        drop(held);
        replace(&path, store, b"").unwrap();
        assert!(!living.exists() && other.exists());
    }
}
