//! Export, import and migration of sessions. An export is a stream of lines, described in `docs/export.md`. Nothing
//! here reads or writes files: [`Export`] yields pieces of the stream, and [`ImportCheck`] and [`Import`] take its
//! lines.

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
pub use self::migrate::{MigratedSession, Migration, MigrationOutcome};

/// The version of the stream's format. The version of each log's format is in its first record.
pub const EXPORT_FORMAT: u32 = 1;

/// A line of the stream other than a stored record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Line {
    /// The first line.
    Export { format: u32 },
    /// The start of a session. The lines of its log follow, as they are stored.
    Session { id: SessionId },
    /// A piece of its program's output.
    Output {
        offset: u64,
        stream: StreamName,
        /// The offset in its stream, if output of it before that is not kept.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stream_offset: Option<u64>,
        attempt: u32,
        at: Timestamp,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        after_gap: bool,
        base64: String,
    },
    /// The place where an older version truncated its output, because it exceeded the limit.
    OutputCut { attempt: u32, at: Timestamp },
    /// The end of the session. The checksum covers all its lines with their line feeds, from `session` up to here.
    End { id: SessionId, records: u64, sum: String },
    /// The last line. The checksum covers everything before it.
    ExportEnd { sessions: u64, sum: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StreamName {
    Stdout,
    Stderr,
    Tty,
}

/// A failed export, import or migration of a session.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ExchangeError {
    /// The stream differs from what an export writes.
    #[error("line {line} of the export is damaged: {what}")]
    Damaged {
        /// The line number, from 1.
        line: u64,
        /// The damage.
        what: String,
    },
    /// The stream, or a log in it, was written by a newer version.
    #[error("line {line} of the export is of a newer format: {what}")]
    Newer {
        /// The line number, from 1.
        line: u64,
        /// The part that is newer.
        what: String,
    },
    /// The session already exists with a different log.
    #[error("session {id} already exists with a different log")]
    Exists {
        /// The session.
        id: SessionId,
    },
    /// An error of the store.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// An error of the output storage.
    #[error(transparent)]
    Output(#[from] std::sync::Arc<OutputError>),
}

impl ExchangeError {
    /// Returns the stable code.
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
