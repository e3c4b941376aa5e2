//! What can go wrong with a storage, sorted by what the caller does next.

use std::error::Error;
use std::sync::Arc;

use crate::code::ErrorCode;
use crate::id::SessionId;
use crate::limits::LimitError;
use crate::machine::TransitionError;
use crate::record::{DecodeError, Tip};

/// A cause that more than one error can share.
pub(crate) type Source = Arc<dyn Error + Send + Sync>;

/// What went wrong with a storage. [`code`](Self::code) says what to do next.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// There is no such session.
    #[error("no session {id}")]
    NotFound {
        /// The session.
        id: SessionId,
    },
    /// The log does not end where the caller thought. Nothing changed: read what came in, decide again.
    #[error("the log of session {id} ends at {}, not at {}", display_tip(*actual), display_tip(*expected))]
    Conflict {
        /// The session.
        id: SessionId,
        /// Where the caller thought; `None` is no log.
        expected: Option<Tip>,
        /// Where it does; `None` is no log.
        actual: Option<Tip>,
    },
    /// There are as many unended sessions as are allowed.
    #[error("Maximum {limit} sessions supported. Destroy a session to create a new one.")]
    MaxSessions {
        /// What is allowed.
        limit: usize,
    },
    /// No room. Nothing was added; what was there is safe.
    #[error("no space left for {what}")]
    Full {
        /// What was being written.
        what: String,
        /// What the system said.
        #[source]
        source: Source,
    },
    /// The storage cannot be used now, or not by this process.
    #[error("{what}")]
    Unavailable {
        /// What is the matter, and with what.
        what: String,
        /// What the system said.
        #[source]
        source: Option<Source>,
    },
    /// The system failed. Nothing was acknowledged.
    #[error("{what}")]
    Io {
        /// What was being done, and to what.
        what: String,
        /// What the system said.
        #[source]
        source: Source,
    },
    /// It is not known whether the append took place: read the log before deciding anew.
    #[error("it is not known whether the last change of session {id} was stored")]
    OutcomeUnknown {
        /// The session.
        id: SessionId,
        /// Why it is not known.
        #[source]
        source: Source,
    },
    /// The storage, or this session of it, was closed after a failure.
    #[error("{what} is closed")]
    Closed {
        /// What is closed.
        what: String,
        /// The failure.
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
        /// What is wrong.
        what: String,
    },
    /// All sums hold, and yet the log breaks a rule of the machine.
    #[error("the log of session {id} breaks a rule at revision {revision}")]
    Invalid {
        /// The session.
        id: SessionId,
        /// The revision that breaks the rule.
        revision: u64,
        /// The rule.
        #[source]
        source: TransitionError,
    },
    /// Written by a newer version. It can be read, not written.
    #[error("{what} was written by a newer version")]
    UnsupportedFormat {
        /// What was.
        what: String,
        /// What is new about it.
        #[source]
        source: Option<Source>,
    },
    /// An argument that makes no sense to this storage.
    #[error("{what}")]
    InvalidArgument {
        /// What is wrong with it.
        what: String,
    },
    /// More than the format has room for.
    #[error(transparent)]
    Limit(#[from] LimitError),
}

fn display_tip(tip: Option<Tip>) -> String {
    tip.map_or_else(|| "nothing".to_owned(), |tip| format!("revision {} ({})", tip.revision, tip.sum))
}

impl StorageError {
    /// The stable code.
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

    /// A record whose sum is right and that cannot be understood.
    pub(crate) fn undecodable(id: SessionId, revision: u64, error: DecodeError) -> Self {
        match error {
            DecodeError::UnknownKind { .. } | DecodeError::NewerFormat { .. } => Self::UnsupportedFormat {
                what: format!("session {id}, from revision {revision} on,"),
                source: Some(Arc::new(error)),
            },
            DecodeError::Malformed(_) => Self::Corrupt {
                id,
                readable: revision.saturating_sub(1),
                what: format!("revision {revision} has a right sum and is no record"),
            },
        }
    }
}
