//! What can go wrong with captured output.

use std::io;
use std::path::PathBuf;

use session_core::{ErrorCode, SessionId};

/// Why output could not be stored or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutputError {
    /// Somebody else appends to it.
    #[error("the output of session {id} is being written by another process")]
    Busy {
        /// The session.
        id: SessionId,
    },
    /// What is there is not what was stored.
    #[error("the output of session {id} is damaged at byte {offset}")]
    Damaged {
        /// The session.
        id: SessionId,
        /// Where the damage begins.
        offset: u64,
    },
    /// The system failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl OutputError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Busy { .. } => ErrorCode::Conflict,
            Self::Damaged { .. } => ErrorCode::Corrupt,
            Self::Io { source, .. } => {
                let full =
                    [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded].contains(&source.kind());
                if full { ErrorCode::StorageFull } else { ErrorCode::StorageIo }
            }
        }
    }

    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}
