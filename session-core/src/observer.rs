//! The observer port: receives events after they are durable. An observer cannot veto, delay or crash anything.
//! Delivery is in `manager::dispatch`.

#![cfg_attr(
    feature = "mock",
    expect(clippy::struct_field_names, reason = "the mock's fields are named after the port's methods")
)]

use crate::event::SessionEvent;
use crate::id::SessionId;
use crate::recovery_report::RecoveryReport;
use crate::time::Timestamp;

/// The position of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct EventContext {
    /// The session.
    pub session: SessionId,
    /// The event's revision in the session's log.
    pub revision: u64,
    /// The time of sealing.
    pub at: Timestamp,
    /// The attempt that the event belongs to.
    pub attempt: u32,
}

impl EventContext {
    /// Creates the position of a record.
    #[must_use]
    pub const fn new(session: SessionId, revision: u64, at: Timestamp, attempt: u32) -> Self {
        Self { session, revision, at, attempt }
    }
}

/// Receives events after they are durable.
///
/// An observer receives all events of the sessions that its manager owns, and those that the manager appends to other
/// sessions, after they are flushed, in order for each session. It has a bounded queue and a thread of its own, so it
/// may block, panic or never return without affecting anything else. An observer that must not miss an event reads the
/// log from the last revision that it received up to the one that [`on_lagged`](Self::on_lagged) reports.
#[cfg_attr(feature = "mock", mockall::automock)]
pub trait SessionObserver: Send + Sync {
    /// Receives one event.
    fn on_event(&self, context: &EventContext, event: &SessionEvent);

    /// Reports that the queue was full and `missed` events of one session were not delivered, the last of them the one
    /// at `context`.
    fn on_lagged(&self, context: &EventContext, missed: u64) {
        let _ = (context, missed);
    }

    /// Receives the deletion of a session by this manager. It has no event: its log is gone.
    fn on_deleted(&self, id: SessionId) {
        let _ = id;
    }

    /// Receives the report of a recovery. An observer that is added after the manager was opened first receives the
    /// report of the recovery at opening, if that found anything.
    fn on_recovery(&self, report: &RecoveryReport) {
        let _ = report;
    }
}
