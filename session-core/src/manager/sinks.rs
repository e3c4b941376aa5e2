//! The receivers of a manager's events.

use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use crate::event::SessionEvent;
use crate::id::SessionId;
use crate::log_writer::LogTail;
use crate::observer::EventContext;
use crate::recovery_report::{RecoveryOutcome, RecoveryReport};

/// Receives each event of a manager once it is flushed, in order for each session. The session waits for the call, so
/// it must not block. Use [`ObservableSessionManager`](crate::ObservableSessionManager) for observers that may.
pub trait EventSink: Send + Sync + std::fmt::Debug {
    /// Receives one event.
    fn event(&self, context: &EventContext, event: &Arc<SessionEvent>);

    /// Receives the report of a recovery. The report of the recovery at opening is received on registration.
    fn recovered(&self, report: &RecoveryReport);

    /// Receives the deletion of a session. It has no event: its log is gone.
    fn deleted(&self, id: SessionId);
}

/// The sinks of a manager.
#[derive(Debug, Default)]
pub(crate) struct Sinks {
    all: RwLock<Vec<Arc<dyn EventSink>>>,
    /// The report of the recovery at opening, before any sink was registered.
    opening: OnceLock<RecoveryReport>,
}

impl Sinks {
    /// Registers a sink, and delivers the report of the recovery at opening to it.
    pub(crate) fn add(&self, sink: Arc<dyn EventSink>) {
        if let Some(report) = self.opening.get() {
            sink.recovered(report);
        }
        self.all.write().unwrap_or_else(PoisonError::into_inner).push(sink);
    }

    pub(crate) fn deleted(&self, id: SessionId) {
        self.each(|sink| sink.deleted(id));
    }

    /// Returns the outcome of the recovery at opening for a session.
    pub(crate) fn outcome_at_opening(&self, id: SessionId) -> Option<RecoveryOutcome> {
        let recovered = &self.opening.get()?.recovered;
        recovered.iter().find(|(session, _)| *session == id).map(|(_, outcome)| outcome.clone())
    }

    pub(crate) fn opening(&self) -> Option<&RecoveryReport> {
        self.opening.get()
    }

    pub(crate) fn opened_with(&self, report: RecoveryReport) {
        // A manager is opened once.
        let _ = self.opening.set(report);
    }

    pub(crate) fn recovered(&self, report: &RecoveryReport) {
        self.each(|sink| sink.recovered(report));
    }

    /// Delivers the events of a log that are flushed by now.
    pub(crate) fn deliver(&self, tail: &mut LogTail) {
        while let Some((context, event)) = tail.next_flushed() {
            self.each(|sink| sink.event(&context, &event));
        }
    }

    fn each(&self, call: impl Fn(&dyn EventSink)) {
        for sink in &*self.all.read().unwrap_or_else(PoisonError::into_inner) {
            call(&**sink);
        }
    }
}
