//! Results of recovery: orphans with the evidence of their owner's death, and the outcome for each session.

use crate::error::SessionError;
use crate::head::Head;
use crate::id::SessionId;
use crate::owner::Evidence;

/// An orphan.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CrashedSession {
    /// Its current view.
    pub head: Head,
    /// How it is known that its owner, or its creator, is dead.
    pub evidence: Evidence,
}

/// What became of one session.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecoveryOutcome {
    /// It was cancelled: somebody had asked for that before.
    Cancelled,
    /// It failed, by the policy or because it had died too often.
    Failed,
    /// It waits for somebody to resume it.
    Paused,
    /// Its work goes on here.
    Resumed,
}

/// What a recovery did.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// What became of each session, or would have.
    pub recovered: Vec<(SessionId, RecoveryOutcome)>,
    /// Sessions of which nothing became, each with the reason.
    pub failed: Vec<(SessionId, SessionError)>,
}
