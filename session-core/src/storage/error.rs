//! Errors of a storage, one variant for each reaction of the caller.

use std::error::Error;
use std::sync::Arc;

use crate::code::ErrorCode;
use crate::id::SessionId;
use crate::limits::LimitError;
use crate::machine::TransitionError;
use crate::record::{DecodeError, Tip};

/// A cause that several errors can share.
pub(crate) type Source = Arc<dyn Error + Send + Sync>;

/// An error of a storage. Its [`code`](Self::code) has advice on what to do next.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The session does not exist.
    #[error("no session {id}")]
    NotFound {
        /// The session.
        id: SessionId,
    },
    /// The log does not end where the caller expected. Nothing changed: read the new records, then decide again.
    #[error("the log of session {id} ends at {}, not at {}", display_tip(*actual), display_tip(*expected))]
    Conflict {
        /// The session.
        id: SessionId,
        /// The tip that the caller expected; `None` means no log.
        expected: Option<Tip>,
        /// The tip that is stored; `None` means no log.
        actual: Option<Tip>,
    },
    /// The limit of active sessions is reached.
    #[error("Maximum {limit} sessions supported. Destroy a session to create a new one.")]
    MaxSessions {
        /// The limit.
        limit: usize,
    },
    /// No space left. Nothing was appended; existing records are safe.
    #[error("no space left for {what}")]
    Full {
        /// The data that was being written.
        what: String,
        /// The error of the operating system or database.
        #[source]
        source: Source,
    },
    /// The storage cannot be used now, or not by this process.
    #[error("{what}")]
    Unavailable {
        /// The problem and the object that has it.
        what: String,
        /// The error of the operating system or database, if there is one.
        #[source]
        source: Option<Source>,
    },
    /// Input or output failed. Nothing was acknowledged.
    #[error("{what}")]
    Io {
        /// The operation and its object.
        what: String,
        /// The error of the operating system or database.
        #[source]
        source: Source,
    },
    /// It is unknown whether the append took place: read the log before deciding again.
    #[error("session {id}: unknown whether the last change was stored")]
    OutcomeUnknown {
        /// The session.
        id: SessionId,
        /// The cause of the uncertainty.
        #[source]
        source: Source,
    },
    /// The storage, or this session of it, was closed after a failure.
    #[error("{what} is closed")]
    Closed {
        /// The object that is closed.
        what: String,
        /// The failure, if one is known.
        #[source]
        source: Option<Source>,
    },
    /// Acknowledged records are gone.
    #[error("session {id} is damaged: readable up to revision {readable}, {what}")]
    Corrupt {
        /// The session.
        id: SessionId,
        /// The last revision that can be read.
        readable: u64,
        /// The damage.
        what: String,
    },
    /// All sums are valid, but the log violates a rule of the state machine.
    #[error("session {id}: revision {revision} violates a rule of the state machine")]
    Invalid {
        /// The session.
        id: SessionId,
        /// The revision that violates the rule.
        revision: u64,
        /// The rule.
        #[source]
        source: TransitionError,
    },
    /// Written by a newer version: readable at most, never writable by this one.
    #[error("{what} was written by a newer version")]
    UnsupportedFormat {
        /// The object that was.
        what: String,
        /// The part that this version does not know, if that is known.
        #[source]
        source: Option<Source>,
    },
    /// An argument is invalid for this storage.
    #[error("{what}")]
    InvalidArgument {
        /// The argument and the problem.
        what: String,
    },
    /// An argument exceeds a limit of the format.
    #[error(transparent)]
    Limit(#[from] LimitError),
}

fn display_tip(tip: Option<Tip>) -> String {
    tip.map_or_else(|| "nothing".to_owned(), |tip| format!("revision {} ({})", tip.revision, tip.sum))
}

impl StorageError {
    /// Returns the stable code.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::NotFound { .. } => ErrorCode::NotFound,
            Self::Conflict { .. } => ErrorCode::Conflict,
            Self::MaxSessions { .. } => ErrorCode::MaxSessions,
            Self::Full { .. } => ErrorCode::StorageFull,
            Self::Unavailable { .. } => ErrorCode::StorageUnavailable,
            Self::Io { .. } => ErrorCode::StorageIo,
            Self::OutcomeUnknown { .. } => ErrorCode::OutcomeUnknown,
            Self::Closed { .. } => ErrorCode::Closed,
            Self::Corrupt { .. } => ErrorCode::Corrupt,
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
