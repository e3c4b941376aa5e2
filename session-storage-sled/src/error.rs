//! Failures of sled, mapped to storage errors that say what to do next.

use std::any::Any;
use std::sync::Arc;

use session_core::{SessionId, StorageError};

/// A failure of sled.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Fault {
    /// sled returned an error.
    #[error("sled failed: {0}")]
    Sled(sled::Error),
    /// A flush failed. It is never retried: the system may treat the data as written although it is not.
    #[error("a flush failed: {0}")]
    Flush(Arc<std::io::Error>),
    /// sled panicked.
    #[error("sled panicked: {0}")]
    Panic(String),
    /// sled did not finish in time, and may never do so.
    #[error("sled did not respond within {0} seconds")]
    Hang(u64),
}

impl From<sled::Error> for Fault {
    fn from(error: sled::Error) -> Self {
        Self::Sled(error)
    }
}

impl Fault {
    /// Creates a fault from a caught panic, with its message.
    pub(crate) fn panic(panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        let text = text.unwrap_or("no message").chars().take(300).collect::<String>();
        Self::Panic(session_core::text::visible(&text).to_string())
    }

    /// Returns `true` if the stored bytes seem to be damaged, so that reading them again would fail too.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            // The file ends too early.
            Self::Sled(sled::Error::Io(error)) => error.kind() == std::io::ErrorKind::UnexpectedEof,
            Self::Sled(sled::Error::Corruption { .. } | sled::Error::ReportableBug(_)) | Self::Panic(_) => {
                true
            }
            Self::Sled(_) | Self::Flush(_) | Self::Hang(_) => false,
        }
    }

    /// Returns `true` if another handle has the database open; it is one of this process, which holds the store's lock.
    pub(crate) fn is_locked(&self) -> bool {
        matches!(self, Self::Sled(sled::Error::Io(error)) if error.to_string().contains("could not acquire lock"))
    }

    /// Converts to the error of a request for one session.
    pub(crate) fn for_session(self, id: SessionId) -> StorageError {
        match self {
            Self::Sled(sled::Error::Io(error)) if error.kind() != std::io::ErrorKind::UnexpectedEof => {
                StorageError::Io { what: format!("cannot read session {id}"), source: Arc::new(error) }
            }
            Self::Flush(error) => {
                StorageError::Io { what: format!("cannot read session {id}"), source: error }
            }
            fault @ (Self::Sled(_) | Self::Panic(_) | Self::Hang(_)) => StorageError::Corrupt {
                id,
                readable: 0,
                what: format!(
                    "its part of the database cannot be read ({}); see `verify {id}`",
                    fault.summary()
                ),
            },
        }
    }

    /// Returns one line with the cause.
    pub(crate) fn summary(&self) -> String {
        self.to_string()
    }
}

/// Creates an `Unavailable` error without a cause.
pub(crate) fn unavailable(what: impl Into<String>) -> StorageError {
    StorageError::Unavailable { what: what.into(), source: None }
}
