//! Errors of captured output.

use std::io;
use std::path::PathBuf;

use session_core::{ErrorCode, SessionId};

/// The reason why output could not be stored or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutputError {
    /// Another writer has it open.
    #[error("the output of session {id} is being written by another process")]
    Busy {
        /// The session.
        id: SessionId,
    },
    /// The stored output is damaged.
    #[error("the output of session {id} is damaged at byte {offset}")]
    Damaged {
        /// The session.
        id: SessionId,
        /// The offset at which the damage begins.
        offset: u64,
    },
    /// A system call failed.
    #[error("cannot {action} {}: {error}", path.display())]
    Io {
        /// The action.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The error of the system.
        error: io::Error,
    },
}

impl OutputError {
    /// Returns the stable error code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Busy { .. } => ErrorCode::Conflict,
            Self::Damaged { .. } => ErrorCode::Corrupt,
            Self::Io { error, .. } => {
                let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded].contains(&error.kind());
                if full { ErrorCode::StorageFull } else { ErrorCode::StorageIo }
            }
        }
    }

    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |error| Self::Io { action, path, error }
    }
}
