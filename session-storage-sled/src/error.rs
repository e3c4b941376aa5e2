//! What sled says, told as what the caller of a storage does next.

use std::any::Any;
use std::sync::Arc;

use session_core::{SessionId, StorageError};

/// Why sled did not do what it was asked for.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Fault {
    /// It said so.
    #[error("sled failed")]
    Sled(#[source] sled::Error),
    /// A flush failed. It is never tried again: what was to be written counts as written, and may not be.
    #[error("a flush failed")]
    Flush(#[source] Arc<std::io::Error>),
    /// It panicked.
    #[error("sled panicked: {0}")]
    Panic(String),
    /// It did not come to an end in time, and may never do.
    #[error("sled did not answer within {0} seconds")]
    Hang(u64),
}

impl From<sled::Error> for Fault {
    fn from(error: sled::Error) -> Self {
        Self::Sled(error)
    }
}

impl Fault {
    /// What a caught panic said.
    pub(crate) fn panic(panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        let text = text.unwrap_or("without a text").chars().take(300).collect::<String>();
        Self::Panic(session_core::text::visible(&text).to_string())
    }

    /// Whether the bytes are wrong, as far as one can tell: another look at them would come to the same.
    pub(crate) const fn is_damage(&self) -> bool {
        matches!(
            self,
            Self::Sled(sled::Error::Corruption { .. } | sled::Error::ReportableBug(_)) | Self::Panic(_)
        )
    }

    /// Whether another handle has the database, of this process at that, since ours is the only process.
    pub(crate) fn is_locked(&self) -> bool {
        matches!(self, Self::Sled(sled::Error::Io(error)) if error.to_string().contains("could not acquire lock"))
    }

    /// The error for whoever wanted something of a session.
    pub(crate) fn for_session(self, id: SessionId) -> StorageError {
        match self {
            Self::Sled(sled::Error::Io(error)) => {
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

    /// On one line, with the cause.
    pub(crate) fn summary(&self) -> String {
        match self {
            Self::Sled(error) => format!("{self}: {error}"),
            Self::Flush(error) => format!("{self}: {error}"),
            Self::Panic(_) | Self::Hang(_) => self.to_string(),
        }
    }
}

/// An error without a cause that says what to do.
pub(crate) fn unavailable(what: impl Into<String>) -> StorageError {
    StorageError::Unavailable { what: what.into(), source: None }
}
