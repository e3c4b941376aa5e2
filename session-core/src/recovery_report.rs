//! Results of recovery: orphans with the evidence of their owner's death, and the outcome for each session.

use crate::error::SessionError;
use crate::head::Head;
use crate::id::SessionId;
use crate::owner::Evidence;
use crate::storage::StorageError;

/// A session that lost its owner and was not resumed since: its owner, or its creator, is dead, released it, or dropped
/// its work.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CrashedSession {
    /// The current view.
    pub head: Head,
    /// The evidence that the owner, or the creator, no longer has the session.
    pub evidence: Evidence,
    /// The outcome of the recovery at the opening of this manager; `None` if it left the session alone.
    pub outcome: Option<RecoveryOutcome>,
}

impl CrashedSession {
    /// Returns `true` if no recovery has recorded the loss yet: the log still names the dead process.
    #[must_use]
    pub const fn is_orphaned(&self) -> bool {
        self.head.responsible_process().is_some()
    }
}

/// The sessions that lost their owners.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct CrashedSessions {
    /// The sessions, by the time of their creation.
    pub sessions: Vec<CrashedSession>,
    /// Sessions that exist but cannot be read, each with the reason.
    pub unreadable: Vec<(SessionId, StorageError)>,
}

/// The outcome of the recovery of one session.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecoveryOutcome {
    /// Cancelled, because a cancellation had been requested.
    Cancelled,
    /// Completed, because its program had ended with exit code 0.
    Completed,
    /// Failed: its program had, or by policy, or because its owners had died too often.
    Failed,
    /// Paused, to be resumed later.
    Paused,
    /// Resumed: its work continues in this process.
    Resumed,
}

/// The result of a recovery.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// The recovered sessions with their outcome; for a dry run, the outcome that they would have.
    pub recovered: Vec<(SessionId, RecoveryOutcome)>,
    /// Sessions that could not be recovered, each with the reason.
    pub failed: Vec<(SessionId, SessionError)>,
}
