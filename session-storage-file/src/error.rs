//! What the system says, told as what the caller of a storage does next.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;
use session_core::{DecodeError, SessionId, StorageError, TransitionError};

/// Gives a failed call the words that a caller needs: what was being done, and to what.
pub(crate) trait IoContext<T> {
    /// `doing` completes "cannot …", as in "open", "flush", "list".
    fn context(self, doing: &str, path: &Path) -> Result<T, StorageError>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn context(self, doing: &str, path: &Path) -> Result<T, StorageError> {
        self.map_err(|error| storage_error(doing, path, error))
    }
}

/// Sorts an error by what the caller does next: make room, look at the store, look at the disk.
pub(crate) fn storage_error(doing: &str, path: &Path, error: io::Error) -> StorageError {
    let what = format!("cannot {doing} {}", path.display());
    let raw = error.raw_os_error().map(Errno::from_raw_os_error);
    let kind = error.kind();
    let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded, io::ErrorKind::FileTooLarge];
    let advice = if full.contains(&kind) {
        return StorageError::Full { what: path.display().to_string(), source: Arc::new(error) };
    } else if kind == io::ErrorKind::PermissionDenied {
        "see that this user may read and write the store, or choose another one"
    } else if kind == io::ErrorKind::ReadOnlyFilesystem {
        "the file system is read-only: mount it for writing, or choose another store"
    } else if matches!(raw, Some(Errno::MFILE | Errno::NFILE)) {
        "too many files are open: close some or raise the limit (`ulimit -n`), then try again"
    } else {
        return StorageError::Io { what, source: Arc::new(error) };
    };
    StorageError::Unavailable { what: format!("{what}: {advice}"), source: Some(Arc::new(error)) }
}

/// Why a record with a right sum cannot be folded into the head before it.
#[derive(Debug, Clone)]
pub(crate) enum FoldError {
    /// It breaks a rule of the machine.
    Illegal(TransitionError),
    /// It is of a kind or format of a newer version.
    Newer(Arc<DecodeError>),
    /// It is no record.
    Malformed,
}

impl From<TransitionError> for FoldError {
    fn from(rejected: TransitionError) -> Self {
        Self::Illegal(rejected)
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
    /// The error for whoever wants more of the log than can be understood.
    pub(crate) fn to_storage_error(&self, id: SessionId, revision: u64) -> StorageError {
        match self {
            Self::Illegal(rejected) => StorageError::Invalid { id, revision, source: rejected.clone() },
            Self::Newer(error) => StorageError::UnsupportedFormat {
                what: format!("session {id}, from revision {revision} on,"),
                source: Some(Arc::<DecodeError>::clone(error)),
            },
            Self::Malformed => StorageError::Corrupt {
                id,
                readable: revision.saturating_sub(1),
                what: format!("revision {revision} has a right sum and is no record"),
            },
        }
    }
}
