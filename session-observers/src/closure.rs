//! An observer that is a closure.

use std::fmt;

use session_core::{EventContext, RecoveryReport, SessionEvent, SessionObserver};

type Lagged = Box<dyn Fn(&EventContext, u64) + Send + Sync>;
type Recovery = Box<dyn Fn(&RecoveryReport) + Send + Sync>;

/// An observer that calls a closure for every event, and optional closures for missed events and recoveries.
pub struct ClosureObserver<F> {
    event: F,
    lagged: Option<Lagged>,
    recovery: Option<Recovery>,
}

impl<F: Fn(&EventContext, &SessionEvent) + Send + Sync> ClosureObserver<F> {
    /// Creates an observer that calls this closure for every event. It runs on a thread of its own, so it may block or
    /// panic.
    #[must_use]
    pub fn new(event: F) -> Self {
        Self { event, lagged: None, recovery: None }
    }

    /// Sets the closure to call for missed events: see [`SessionObserver::on_lagged`].
    #[must_use]
    pub fn lagged(mut self, lagged: impl Fn(&EventContext, u64) + Send + Sync + 'static) -> Self {
        self.lagged = Some(Box::new(lagged));
        self
    }

    /// Sets the closure to call after a recovery.
    #[must_use]
    pub fn recovery(mut self, recovery: impl Fn(&RecoveryReport) + Send + Sync + 'static) -> Self {
        self.recovery = Some(Box::new(recovery));
        self
    }
}

impl<F: Fn(&EventContext, &SessionEvent) + Send + Sync> SessionObserver for ClosureObserver<F> {
    fn on_event(&self, context: &EventContext, event: &SessionEvent) {
        (self.event)(context, event);
    }

    fn on_lagged(&self, context: &EventContext, missed: u64) {
        if let Some(lagged) = &self.lagged {
            lagged(context, missed);
        }
    }

    fn on_recovery(&self, report: &RecoveryReport) {
        if let Some(recovery) = &self.recovery {
            recovery(report);
        }
    }
}

impl<F> fmt::Debug for ClosureObserver<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClosureObserver").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use session_core::{SessionId, Timestamp};

    use super::*;

    #[test]
    fn each_closure_is_called_for_its_own_kind() {
        let called = Arc::new(Mutex::new(Vec::new()));
        let note = |what: &'static str| {
            let called = Arc::clone(&called);
            move |number: u64| called.lock().unwrap().push((what, number))
        };
        let (event, lagged, recovery) = (note("event"), note("lagged"), note("recovery"));
        let observer = ClosureObserver::new(move |context, _| event(context.revision))
            .lagged(move |context, missed| lagged(context.revision * 100 + missed))
            .recovery(move |_| recovery(0));
        let context = EventContext::new(SessionId::random(), 7, Timestamp::from_millis(0).unwrap(), 1);
        observer.on_event(&context, &SessionEvent::IterationStarted { number: 1 });
        observer.on_lagged(&context, 3);
        observer.on_recovery(&RecoveryReport::default());
        assert_eq!(*called.lock().unwrap(), [("event", 7), ("lagged", 703), ("recovery", 0)]);
    }
}
