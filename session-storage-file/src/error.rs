//! Translation of system errors into storage errors, by what the caller does next.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;
use session_core::backend::DecodeError;
use session_core::{SessionId, StorageError, TransitionError};

/// Adds context to a failed call: the operation and its path.
pub(crate) trait IoContext<T> {
    /// Adds the operation and the path. `operation` completes "cannot …": "open", "flush", "list".
    fn context(self, operation: &str, path: &Path) -> Result<T, StorageError>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn context(self, operation: &str, path: &Path) -> Result<T, StorageError> {
        self.map_err(|error| storage_error(operation, path, error))
    }
}

/// Classifies an error by what the caller does next: make room, check the store, check the disk.
pub(crate) fn storage_error(operation: &str, path: &Path, error: io::Error) -> StorageError {
    let what = format!("cannot {operation} {}", path.display());
    let raw = error.raw_os_error().map(Errno::from_raw_os_error);
    let kind = error.kind();
    let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
    let advice = if kind == io::ErrorKind::FileTooLarge {
        let what = format!("{}, beyond the limit of file sizes (`ulimit -f`)", path.display());
        return StorageError::Full { what, source: Arc::new(error) };
    } else if full.contains(&kind) {
        return StorageError::Full { what: path.display().to_string(), source: Arc::new(error) };
    } else if kind == io::ErrorKind::PermissionDenied {
        "check that this user may read and write the store, or choose another one"
    } else if kind == io::ErrorKind::ReadOnlyFilesystem {
        "the file system is read-only: mount it for writing, or choose another store"
    } else if matches!(raw, Some(Errno::MFILE | Errno::NFILE)) {
        "too many files are open: close some or raise the limit (`ulimit -n`), then try again"
    } else {
        return StorageError::Io { what, source: Arc::new(error) };
    };
    StorageError::Unavailable { what: format!("{what}: {advice}"), source: Some(Arc::new(error)) }
}

/// The reason why a record with a valid sum cannot be folded into the head before it.
#[derive(Debug, Clone)]
pub(crate) enum FoldError {
    /// It breaks a rule of the state machine.
    Illegal(TransitionError),
    /// It has a kind or format of a newer version.
    Newer(Arc<DecodeError>),
    /// It is not a record.
    Malformed,
}

impl From<TransitionError> for FoldError {
    fn from(error: TransitionError) -> Self {
        Self::Illegal(error)
    }
}

impl From<DecodeError> for FoldError {
    fn from(error: DecodeError) -> Self {
        if matches!(error, DecodeError::Malformed(_)) {
            Self::Malformed
        } else {
            Self::Newer(Arc::new(error))
        }
    }
}

impl FoldError {
    /// Returns the error for reads and writes beyond what can be decoded.
    pub(crate) fn to_storage_error(&self, id: SessionId, revision: u64) -> StorageError {
        match self {
            Self::Illegal(error) => StorageError::Invalid { id, revision, source: error.clone() },
            Self::Newer(error) => StorageError::UnsupportedFormat {
                what: format!("session {id} from revision {revision} on"),
                source: Some(Arc::<DecodeError>::clone(error)),
            },
            Self::Malformed => StorageError::Corrupt {
                id,
                readable: revision.saturating_sub(1),
                what: format!("revision {revision}: checksum is valid but the line is not a record"),
            },
        }
    }
}
