//! Errors of `SQLite`, mapped to storage errors that say what to do next.

use std::path::Path;
use std::sync::Arc;

use rusqlite::ErrorCode;
use rusqlite::ffi::SQLITE_IOERR_SHMSIZE;
use session_core::{SessionId, StorageError};

/// Adds to a failed `SQLite` call what was being done, and to which path.
pub(crate) trait DbContext<T> {
    /// Converts an error to a storage error. `doing` completes "cannot …", as in "read", "write".
    fn context(self, doing: &str, path: &Path) -> Result<T, StorageError>;
}

impl<T> DbContext<T> for rusqlite::Result<T> {
    fn context(self, doing: &str, path: &Path) -> Result<T, StorageError> {
        self.map_err(|error| storage_error(doing, path, error))
    }
}

/// Classifies an error by what the caller does next: wait, make room, check the store, or check the disk.
pub(crate) fn storage_error(doing: &str, path: &Path, error: rusqlite::Error) -> StorageError {
    let what = format!("cannot {doing} {}", path.display());
    let code = error.sqlite_error_code();
    // Files in shared memory are extended with their own error.
    let is_full = error.sqlite_error().is_some_and(|error| error.extended_code == SQLITE_IOERR_SHMSIZE);
    let advice = match code {
        _ if is_full => {
            return StorageError::Full { what: path.display().to_string(), source: Arc::new(error) };
        }
        Some(ErrorCode::DiskFull) => {
            return StorageError::Full { what: path.display().to_string(), source: Arc::new(error) };
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "another process is writing: let it finish, or stop it if it hangs, then try again"
        }
        Some(ErrorCode::OperationInterrupted) => {
            "it did not end in time: check that no other program changes the database, then try again, or allow more time"
        }
        Some(ErrorCode::NotADatabase) => {
            "it is not an SQLite database, or its header is damaged: restore it, or choose another store"
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::TooBig) => {
            "the database is damaged: run `sessionctl verify` to see what is left, and restore the database if possible"
        }
        Some(
            ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::AuthorizationForStatementDenied,
        ) => "check that this user may read and write the store and its folder, or choose another one",
        Some(ErrorCode::CannotOpen) => {
            "check that the folder exists and that this user may read and write the store"
        }
        _ => return StorageError::Io { what, source: Arc::new(error) },
    };
    StorageError::Unavailable { what: format!("{what}: {advice}"), source: Some(Arc::new(error)) }
}

/// Returns `true` if the database file itself is damaged, or has a value that is longer than any of ours.
pub(crate) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::TooBig))
}

/// Returns `true` if the schema does not fit the statement, or the statement was interrupted: another program may have
/// changed the schema, which is checked again when the database is opened again.
pub(crate) fn is_unexpected(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::Unknown | ErrorCode::SchemaChanged | ErrorCode::OperationInterrupted)
    )
}

/// Creates the error of a session that lies in a damaged part of the database.
pub(crate) fn unreadable(id: SessionId, error: &rusqlite::Error) -> StorageError {
    let what = format!("its part of the database is damaged ({error}); see `verify {id}`");
    StorageError::Corrupt { id, readable: 0, what }
}

/// Creates the error of a store whose schema this version does not support.
pub(crate) fn newer(path: &Path, version: i64) -> StorageError {
    StorageError::UnsupportedFormat { what: format!("{} (schema {version})", path.display()), source: None }
}
