//! The observer port: hears facts after these are durable. It cannot veto, delay or crash anything. How facts get to
//! observers is in `manager::observable`.

#![cfg_attr(
    feature = "mock",
    expect(clippy::struct_field_names, reason = "the mock's fields are named after the port's methods")
)]

use crate::event::SessionEvent;
use crate::id::SessionId;
use crate::recovery_report::RecoveryReport;
use crate::time::Timestamp;

/// Where an event stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct EventContext {
    /// The session.
    pub session: SessionId,
    /// The event's place in the session's log.
    pub revision: u64,
    /// When it was sealed.
    pub at: Timestamp,
    /// The attempt that it belongs to.
    pub attempt: u32,
}

impl EventContext {
    /// The place of a record.
    #[must_use]
    pub const fn new(session: SessionId, revision: u64, at: Timestamp, attempt: u32) -> Self {
        Self { session, revision, at, attempt }
    }
}

/// Somebody who wants to hear of facts.
///
/// An observer hears of all events of the sessions that its manager owns, and of what the manager appends to others,
/// after they are flushed, in order for each session. It has a bounded queue and a thread of its own: it may block,
/// panic or never return, and harms only itself. Whoever must not miss anything reads the log: from the last revision
/// that it heard of up to the one that [`on_lagged`](Self::on_lagged) names.
#[cfg_attr(feature = "mock", mockall::automock)]
pub trait SessionObserver: Send + Sync {
    /// A fact.
    fn on_event(&self, context: &EventContext, event: &SessionEvent);

    /// The queue was full, and `missed` events of one session were not delivered, the last of them the one at
    /// `context`.
    fn on_lagged(&self, context: &EventContext, missed: u64) {
        let _ = (context, missed);
    }

    /// A recovery was made.
    fn on_recovery(&self, report: &RecoveryReport) {
        let _ = report;
    }
}
