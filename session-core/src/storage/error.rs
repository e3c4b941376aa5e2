//! Errors of a storage, one variant for each reaction of the caller.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

use rustix::io::Errno;

use crate::code::ErrorCode;
use crate::id::SessionId;
use crate::limits::LimitError;
use crate::machine::TransitionError;
use crate::record::{DecodeError, Tip};

/// A cause that several errors can share.
pub(crate) type Source = Arc<dyn Error + Send + Sync>;

/// An error of a storage. Its [`code`](Self::code) has advice on what to do next.
///
/// `Display` is complete: it includes the cause. [`source`](Error::source) therefore returns only what lies behind that
/// cause; the cause itself, with its type, is the field `source`.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum StorageError {
    /// The session does not exist.
    NotFound {
        /// The session.
        id: SessionId,
    },
    /// The log does not end where the caller expected. Nothing changed: read the new records, then decide again.
    Conflict {
        /// The session.
        id: SessionId,
        /// The tip that the caller expected; `None` means no log.
        expected: Option<Tip>,
        /// The tip that is stored; `None` means no log.
        actual: Option<Tip>,
    },
    /// The limit of sessions with an owner or a start to come is reached.
    MaxSessions {
        /// The limit.
        limit: usize,
    },
    /// No space left. Nothing was appended; existing records are safe.
    Full {
        /// The data that was being written.
        what: String,
        /// The error of the operating system or database.
        source: Source,
    },
    /// The storage cannot be used now, or not by this process.
    Unavailable {
        /// The problem and the object that has it.
        what: String,
        /// The error of the operating system or database, if there is one.
        source: Option<Source>,
    },
    /// Input or output failed. Nothing was acknowledged.
    Io {
        /// The operation and its object.
        what: String,
        /// The error of the operating system or database.
        source: Source,
    },
    /// It is unknown whether the append took place: read the log before deciding again.
    OutcomeUnknown {
        /// The session.
        id: SessionId,
        /// The cause of the uncertainty.
        source: Source,
    },
    /// The storage, or this session of it, was closed after a failure.
    Closed {
        /// The object that is closed.
        what: String,
        /// The failure, if one is known.
        source: Option<Source>,
    },
    /// Acknowledged records are gone.
    Corrupt {
        /// The session.
        id: SessionId,
        /// The last revision that can be read.
        readable: u64,
        /// The damage.
        what: String,
    },
    /// The store itself is damaged, apart from its sessions. Nothing is lost; a repair of the store is needed first.
    StoreDamaged {
        /// The damaged object, the damage, and the repair.
        what: String,
    },
    /// All sums are valid, but the log violates a rule of the state machine.
    Invalid {
        /// The session.
        id: SessionId,
        /// The revision that violates the rule.
        revision: u64,
        /// The rule.
        source: TransitionError,
    },
    /// Written by a newer version: readable at most, never writable by this one.
    UnsupportedFormat {
        /// The object that was.
        what: String,
        /// The part that this version does not know, if that is known.
        source: Option<Source>,
    },
    /// An argument is invalid for this storage.
    InvalidArgument {
        /// The argument and the problem.
        what: String,
    },
    /// An argument exceeds a limit of the format.
    Limit(LimitError),
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound { id } => write!(f, "no session {id}"),
            Self::Conflict { id, expected, actual } => write!(
                f,
                "the log of session {id} ends at {}, not at {}",
                display_tip(*actual),
                display_tip(*expected)
            ),
            Self::MaxSessions { limit } => {
                write!(f, "Maximum {limit} sessions supported. Destroy a session to create a new one.")
            }
            Self::Full { what, source } => write!(f, "no space left for {what}: {source}"),
            Self::Unavailable { what, source: None }
            | Self::StoreDamaged { what }
            | Self::InvalidArgument { what } => f.write_str(what),
            Self::Unavailable { what, source: Some(source) } | Self::Io { what, source } => {
                write!(f, "{what}: {source}")
            }
            Self::OutcomeUnknown { id, source } => {
                write!(f, "session {id}: unknown whether the last change was stored: {source}")
            }
            Self::Closed { what, source: None } => write!(f, "{what} is closed"),
            Self::Closed { what, source: Some(source) } => write!(f, "{what} is closed: {source}"),
            Self::Corrupt { id, readable, what } => {
                write!(f, "session {id} is damaged: readable up to revision {readable}, {what}")
            }
            Self::Invalid { id, revision, source } => {
                write!(f, "session {id}: revision {revision} violates a rule of the state machine: {source}")
            }
            Self::UnsupportedFormat { what, source: None } => {
                write!(f, "{what} was written by a newer version")
            }
            Self::UnsupportedFormat { what, source: Some(source) } => {
                write!(f, "{what} was written by a newer version: {source}")
            }
            Self::Limit(error) => fmt::Display::fmt(error, f),
        }
    }
}

impl Error for StorageError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Full { source, .. }
            | Self::Io { source, .. }
            | Self::OutcomeUnknown { source, .. }
            | Self::Unavailable { source: Some(source), .. }
            | Self::Closed { source: Some(source), .. }
            | Self::UnsupportedFormat { source: Some(source), .. } => source.source(),
            Self::Invalid { source, .. } => source.source(),
            Self::NotFound { .. }
            | Self::Conflict { .. }
            | Self::MaxSessions { .. }
            | Self::Unavailable { source: None, .. }
            | Self::Closed { source: None, .. }
            | Self::Corrupt { .. }
            | Self::StoreDamaged { .. }
            | Self::UnsupportedFormat { source: None, .. }
            | Self::InvalidArgument { .. }
            | Self::Limit(_) => None,
        }
    }
}

impl From<LimitError> for StorageError {
    fn from(error: LimitError) -> Self {
        Self::Limit(error)
    }
}

/// Returns `true` for an error of a limit: no thread can be started (EAGAIN), or no file opened.
fn is_system_limit(source: &(dyn Error + Send + Sync + 'static)) -> bool {
    let errno = source.downcast_ref::<io::Error>().and_then(Errno::from_io_error);
    matches!(errno, Some(Errno::AGAIN | Errno::MFILE | Errno::NFILE))
}

fn display_tip(tip: Option<Tip>) -> String {
    tip.map_or_else(|| "nothing".to_owned(), |tip| format!("revision {} ({})", tip.revision, tip.sum))
}

impl StorageError {
    /// Returns the stable code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Unavailable { source: Some(source), .. } | Self::Io { source, .. }
                if is_system_limit(&**source) =>
            {
                ErrorCode::SystemLimit
            }
            Self::NotFound { .. } => ErrorCode::NotFound,
            Self::Conflict { .. } => ErrorCode::Conflict,
            Self::MaxSessions { .. } => ErrorCode::MaxSessions,
            Self::Full { .. } => ErrorCode::StorageFull,
            Self::Unavailable { .. } => ErrorCode::StorageUnavailable,
            Self::Io { .. } => ErrorCode::StorageIo,
            Self::OutcomeUnknown { .. } => ErrorCode::OutcomeUnknown,
            Self::Closed { .. } => ErrorCode::Closed,
            Self::Corrupt { .. } | Self::StoreDamaged { .. } => ErrorCode::Corrupt,
            Self::Invalid { .. } => ErrorCode::InvalidLog,
            Self::UnsupportedFormat { .. } => ErrorCode::UnsupportedFormat,
            Self::InvalidArgument { .. } | Self::Limit(LimitError::Invalid { .. }) => {
                ErrorCode::InvalidArgument
            }
            Self::Limit(LimitError::Exceeded { .. }) => ErrorCode::LimitExceeded,
        }
    }

    /// Classifies a record whose checksum is valid but whose line cannot be decoded.
    pub(crate) fn undecodable(id: SessionId, revision: u64, error: DecodeError) -> Self {
        match error {
            DecodeError::UnknownKind { .. } | DecodeError::NewerFormat { .. } => Self::UnsupportedFormat {
                what: format!("session {id} from revision {revision} on"),
                source: Some(Arc::new(error)),
            },
            DecodeError::Malformed(_) => Self::Corrupt {
                id,
                readable: revision.saturating_sub(1),
                what: format!("revision {revision}: checksum is valid but the line is not a record"),
            },
        }
    }
}
