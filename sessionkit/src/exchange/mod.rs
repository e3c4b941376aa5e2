//! Sessions as one stream of lines, to take them elsewhere: `docs/export.md` is its page. Nothing here reads or writes
//! files: pieces come out of [`Export`], and lines go into [`ImportCheck`] and [`Import`].

mod export;
mod import;
mod migrate;
mod parse;
mod restore;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use session_core::{ErrorCode, SessionError, SessionId, StorageError, Timestamp};
use session_runner::OutputError;

pub use self::export::{Export, Output};
pub use self::import::{Import, ImportCheck, ImportPlan, ImportReport};
pub use self::migrate::{Migration, MoveOutcome, Moved};

/// The format of the stream; that of each log stands in its first record.
pub const EXPORT_FORMAT: u32 = 1;

/// A line of the stream that is no stored record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Line {
    /// The first line.
    Export { format: u32 },
    /// A session begins; the lines of its log follow, as they are stored.
    Session { id: SessionId },
    /// Some of what its program printed.
    Output {
        offset: u64,
        stream: StreamName,
        attempt: u32,
        at: Timestamp,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        after_gap: bool,
        base64: String,
    },
    /// Its output was cut here, because there was too much of it.
    OutputCut { attempt: u32, at: Timestamp },
    /// It ends. The sum is that of all its lines, their line ends included, from `session` up to here.
    End { id: SessionId, records: u64, sum: String },
    /// The last line. The sum is that of everything before it.
    ExportEnd { sessions: u64, sum: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StreamName {
    Stdout,
    Stderr,
}

/// Why sessions could not be exported or imported.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ExchangeError {
    /// The stream is not what an export wrote.
    #[error("line {line} of the export is damaged: {what}")]
    Damaged {
        /// Counted from 1.
        line: u64,
        /// What is wrong with it.
        what: String,
    },
    /// A newer version wrote the stream, or a log in it.
    #[error("line {line} of the export is of a newer format: {what}")]
    Newer {
        /// Counted from 1.
        line: u64,
        /// What is newer.
        what: String,
    },
    /// A session is there already, and its log is another one.
    #[error("session {id} is there already, and its log is another one")]
    Exists {
        /// The session.
        id: SessionId,
    },
    /// The store.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// What keeps the output.
    #[error(transparent)]
    Output(#[from] std::sync::Arc<OutputError>),
}

impl ExchangeError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Damaged { .. } => ErrorCode::Corrupt,
            Self::Newer { .. } => ErrorCode::UnsupportedFormat,
            Self::Exists { .. } => ErrorCode::Conflict,
            Self::Session(error) => error.code(),
            Self::Output(error) => error.code(),
        }
    }
}

impl From<StorageError> for ExchangeError {
    fn from(error: StorageError) -> Self {
        Self::Session(error.into())
    }
}

impl From<OutputError> for ExchangeError {
    fn from(error: OutputError) -> Self {
        Self::Output(std::sync::Arc::new(error))
    }
}

/// Runs what waits for a disk on a thread of its own.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
