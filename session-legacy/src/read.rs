//! Reads an older store from its folder or file.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use session_core::{ErrorCode, SessionId};
use session_worktree::Git;

use crate::folder::Folder;
use crate::formats::{container, msw, prodigy};
use crate::store::{LegacyEntry, LegacyStore};
use crate::{Format, origin};

/// Maximum bytes of one session's file.
const ENTRY_BYTES: u64 = 8 * 1024 * 1024;
/// Maximum bytes of a file that holds all sessions.
const STORE_BYTES: u64 = 64 * 1024 * 1024;
/// The file of the format `container`.
const SESSIONS_FILE: &str = ".claude-container-sessions.json";
const WORKTREES_FOLDER: &str = ".worktrees";
/// Maximum names in a warning.
const SHOWN_NAMES: usize = 3;

/// The reason why an older store cannot be read at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LegacyError {
    /// It cannot be opened or listed.
    #[error("cannot read {path} as a store of {format}: {error}")]
    Unopenable {
        /// Its expected path.
        path: PathBuf,
        /// The tool.
        format: Format,
        /// The error of the system.
        error: io::Error,
    },
}

impl LegacyError {
    /// Returns the stable error code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        let Self::Unopenable { error, .. } = self;
        if matches!(
            error.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied | io::ErrorKind::NotADirectory
        ) {
            ErrorCode::InvalidArgument
        } else {
            ErrorCode::StorageIo
        }
    }
}

/// Reads an older store: its own folder or file, or the folder in which the tool kept it (`.msw`, `.prodigy`, or the
/// one above). Nothing in it is changed, and no symbolic link in it is followed. Blocks on the disk, and on git for
/// worktrees.
///
/// # Errors
/// [`LegacyError`] if there is nothing to read. An error in a single entry is returned in place of that entry.
pub fn read(format: Format, path: &Path) -> Result<LegacyStore, LegacyError> {
    let failed = |error| LegacyError::Unopenable { path: path.to_owned(), format, error };
    let mut store = LegacyStore { format, entries: Vec::new(), warnings: Vec::new() };
    match format {
        Format::Msw => entries(&mut store, path, ".msw", msw::entry),
        Format::Prodigy => entries(&mut store, path, ".prodigy", prodigy::entry),
        Format::Container => one_file(&mut store, path),
    }
    .map_err(failed)?;
    refuse_duplicate_ids(&mut store.entries);
    Ok(store)
}

/// Reads a folder with one file for each session.
fn entries(
    store: &mut LegacyStore,
    path: &Path,
    home: &str,
    entry: fn(&str, &str) -> LegacyEntry,
) -> io::Result<()> {
    let (folder, names) = if path.metadata()?.is_file() {
        let (folder, name) = parent_and_name(path)?;
        (folder, vec![name])
    } else {
        let folder = sessions_folder(Folder::open(path)?, home)?;
        let names = folder.names()?;
        (folder, names)
    };
    let mut others = Vec::new();
    for name in names {
        let shown = name.to_string_lossy();
        if Path::new(&name).extension() != Some(OsStr::new("json")) {
            others.push(shown.into_owned());
            continue;
        }
        store.entries.push(match folder.read(&name, ENTRY_BYTES) {
            Ok(Some(text)) => entry(&shown, &text),
            Ok(None) => LegacyEntry::unreadable(shown, "was removed while it was read"),
            Err(reason) => LegacyEntry::unreadable(shown, reason),
        });
    }
    store.warnings.extend(ignored_names(&others));
    Ok(())
}

/// Returns the folder itself, or the folder of sessions in it.
fn sessions_folder(folder: Folder, home: &str) -> io::Result<Folder> {
    // If it exists but cannot be opened, for example a symbolic link, no other folder is read instead.
    let inner = match folder.folder(home)? {
        Some(inner) => inner.folder("sessions")?,
        None if folder.path().file_name() == Some(OsStr::new(home)) => folder.folder("sessions")?,
        None => None,
    };
    Ok(inner.unwrap_or(folder))
}

/// Splits a file's path into the opened folder and the file's name.
fn parent_and_name(path: &Path) -> io::Result<(Folder, OsString)> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    Ok((Folder::open(folder.unwrap_or(Path::new(".")))?, name))
}

/// Reads one file with all sessions. If that is unusable, reads the git worktrees next to it.
fn one_file(store: &mut LegacyStore, path: &Path) -> io::Result<()> {
    let (folder, name) = if path.is_dir() {
        (Folder::open(path)?, OsString::from(SESSIONS_FILE))
    } else {
        parent_and_name(path)?
    };
    let shown = name.to_string_lossy().into_owned();
    let reason = match folder.read(&name, STORE_BYTES) {
        Ok(Some(text)) => match container::sessions(&text, &mut store.warnings) {
            Ok(entries) => {
                store.entries = entries;
                return Ok(());
            }
            Err(reason) => reason,
        },
        Ok(None) => "does not exist".to_owned(),
        Err(reason) => reason,
    };
    store.warnings.push(format!("{shown} {reason}: reading the git worktrees instead"));
    worktrees(store, &folder)
}

fn worktrees(store: &mut LegacyStore, folder: &Folder) -> io::Result<()> {
    let worktrees = match folder.folder(WORKTREES_FOLDER) {
        Ok(Some(worktrees)) => worktrees,
        Ok(None) => {
            store.warnings.push(format!("there is no folder {WORKTREES_FOLDER} either"));
            return Ok(());
        }
        Err(error) => {
            store.warnings.push(format!("{WORKTREES_FOLDER} is not a readable folder: {error}"));
            return Ok(());
        }
    };
    let (git, mut others) = (Git::default(), Vec::new());
    for name in worktrees.names()? {
        let shown = name.to_string_lossy().into_owned();
        match worktrees.folder(&name) {
            Ok(Some(worktree)) if origin::is_uuid(&shown) && worktree.holds(".git") => {
                let entry = container::from_worktree(&git, &shown, worktree.path());
                store.entries.push(entry.unwrap_or_else(|reason| {
                    LegacyEntry::unreadable(format!("{WORKTREES_FOLDER}/{shown}"), reason)
                }));
            }
            Ok(_) | Err(_) => others.push(shown),
        }
    }
    store.warnings.extend(ignored_names(&others));
    Ok(())
}

/// Returns one warning about all ignored names.
fn ignored_names(names: &[String]) -> Option<String> {
    let shown: Vec<&str> = names.iter().take(SHOWN_NAMES).map(String::as_str).collect();
    let more = if names.len() > SHOWN_NAMES { ", …" } else { "" };
    (!names.is_empty()).then(|| format!("not sessions, ignored: {}{more}", shown.join(", ")))
}

/// Refuses every entry with an id that an earlier entry has: two logs cannot have one id.
fn refuse_duplicate_ids(entries: &mut [LegacyEntry]) {
    let mut seen: HashMap<SessionId, String> = HashMap::new();
    for entry in entries {
        let LegacyEntry::Session(session) = entry else { continue };
        match seen.get(&session.id()) {
            Some(first) => {
                let reason = format!("has the same id as {first}, which is used");
                *entry = LegacyEntry::unreadable(session.source.clone(), reason);
            }
            None => {
                seen.insert(session.id(), session.source.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn an_unreadable_store_is_described_completely() {
        let path = Path::new("/nonexistent/store");
        for format in [Format::Msw, Format::Container, Format::Prodigy] {
            let error = read(format, path).expect_err("there is no store");
            let text = error.to_string();
            for part in ["/nonexistent/store", format.name(), "No such file or directory"] {
                assert!(text.contains(part), "`{text}` lacks `{part}`");
            }
            assert!(error.source().is_none(), "{error:?}");
        }
    }
}
