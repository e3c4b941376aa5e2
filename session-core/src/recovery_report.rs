//! Results of recovery: orphans with the evidence of their owner's death, and the outcome for each session.

use crate::error::SessionError;
use crate::head::Head;
use crate::id::SessionId;
use crate::owner::Evidence;

/// An orphaned session.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CrashedSession {
    /// The current view.
    pub head: Head,
    /// The evidence that the owner, or the creator, is dead.
    pub evidence: Evidence,
}

/// The outcome of the recovery of one session.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecoveryOutcome {
    /// Cancelled, because a cancellation had been requested.
    Cancelled,
    /// Failed, by policy or because its owners had died too often.
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
