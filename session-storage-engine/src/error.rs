//! I/O errors of the files next to a database, mapped to storage errors that say what to do next.

use std::error::Error;
use std::io;
use std::path::Path;
use std::sync::Arc;

use session_core::StorageError;

/// Adds to a failed call what was being done, and to which path.
pub trait IoContext<T> {
    /// Converts an error to a storage error. `doing` completes "cannot …", as in "open", "flush", "list".
    ///
    /// # Errors
    /// The failure, classified by [`storage_error`].
    fn context(self, doing: &str, path: &Path) -> Result<T, StorageError>;
}

impl<T, E: Into<io::Error>> IoContext<T> for Result<T, E> {
    fn context(self, doing: &str, path: &Path) -> Result<T, StorageError> {
        self.map_err(|error| storage_error(doing, path, error.into()))
    }
}

/// Classifies an error by what the caller does next: make room, check the store, or check the disk.
#[must_use]
pub fn storage_error(doing: &str, path: &Path, error: io::Error) -> StorageError {
    let kind = error.kind();
    let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded, io::ErrorKind::FileTooLarge];
    let advice = if full.contains(&kind) {
        return StorageError::Full { what: path.display().to_string(), source: Arc::new(error) };
    } else if kind == io::ErrorKind::PermissionDenied {
        "check that this user may read and write the store, or choose another one"
    } else if kind == io::ErrorKind::ReadOnlyFilesystem {
        "its file system is read-only: mount it for writing, or choose another store"
    } else {
        let what = format!("cannot {doing} {}", path.display());
        return StorageError::Io { what, source: Arc::new(error) };
    };
    let source: Arc<dyn Error + Send + Sync> = Arc::new(error);
    StorageError::Unavailable {
        what: format!("cannot {doing} {}: {advice}", path.display()),
        source: Some(source),
    }
}
