//! What `SQLite` says, told as what the caller of a storage does next.

use std::path::Path;
use std::sync::Arc;

use rusqlite::ErrorCode;
use session_core::{SessionId, StorageError};

/// Gives a failed call of `SQLite` the words that a caller needs: what was being done, and to what.
pub(crate) trait DbContext<T> {
    /// `doing` completes "cannot …", as in "read", "write".
    fn context(self, doing: &str, path: &Path) -> Result<T, StorageError>;
}

impl<T> DbContext<T> for rusqlite::Result<T> {
    fn context(self, doing: &str, path: &Path) -> Result<T, StorageError> {
        self.map_err(|error| storage_error(doing, path, error))
    }
}

/// Sorts an error by what the caller does next: wait, make room, look at the store, look at the disk.
pub(crate) fn storage_error(doing: &str, path: &Path, error: rusqlite::Error) -> StorageError {
    let what = format!("cannot {doing} {}", path.display());
    let code = error.sqlite_error_code();
    let advice = match code {
        Some(ErrorCode::DiskFull) => {
            return StorageError::Full { what: path.display().to_string(), source: Arc::new(error) };
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "another process is writing: let it finish, or stop it if it hangs, then try again"
        }
        Some(ErrorCode::NotADatabase) => {
            "it is no SQLite database, or its beginning is damaged: restore it, or choose another store"
        }
        Some(ErrorCode::DatabaseCorrupt) => {
            "the database is damaged: run `sessionctl verify` to see what is left of it, and restore it if you can"
        }
        Some(
            ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::AuthorizationForStatementDenied,
        ) => {
            "see that this user may read and write the store and the folder that it is in, or choose another one"
        }
        Some(ErrorCode::CannotOpen) => {
            "see that the folder is there and that this user may read and write the store"
        }
        _ => return StorageError::Io { what, source: Arc::new(error) },
    };
    StorageError::Unavailable { what: format!("{what}: {advice}"), source: Some(Arc::new(error)) }
}

/// Whether the database itself is damaged, not what it holds.
pub(crate) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt))
}

/// A session that cannot be read because the database is damaged where it is.
pub(crate) fn unreadable(id: SessionId, error: &rusqlite::Error) -> StorageError {
    let what = format!("the database is damaged where it is ({error}); see `verify {id}`");
    StorageError::Corrupt { id, readable: 0, what }
}

/// Somebody else opened the store and it needs something that this version does not know.
pub(crate) fn newer(path: &Path, version: i64) -> StorageError {
    StorageError::UnsupportedFormat { what: format!("{} (schema {version})", path.display()), source: None }
}
