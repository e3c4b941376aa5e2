//! Observers that send notices to tokio channels: every one to a `broadcast`, the latest to a `watch`.

use std::num::NonZeroUsize;
use std::sync::Arc;

use session_core::{EventContext, RecoveryReport, SessionEvent, SessionId, SessionObserver};
use tokio::sync::{broadcast, watch};

/// A notification that an observer received.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Notice {
    /// A session event.
    Event {
        /// Its session, revision and time.
        context: EventContext,
        /// The event.
        event: Arc<SessionEvent>,
    },
    /// Events of one session did not reach the observer, whose queue was full. They are in the session's log.
    Lagged {
        /// Session and revision of the last of them.
        context: EventContext,
        /// The number of missed events.
        missed: u64,
    },
    /// A recovery was run.
    Recovered(Arc<RecoveryReport>),
}

impl Notice {
    fn event(context: &EventContext, event: &SessionEvent) -> Self {
        Self::Event { context: *context, event: Arc::new(event.clone()) }
    }

    fn lagged(context: &EventContext, missed: u64) -> Self {
        Self::Lagged { context: *context, missed }
    }
}

/// An observer that sends every notice to all subscribers.
///
/// Sending never waits. A slow program can lose notices in two places, and both report it:
/// - A receiver that is more than the channel's capacity behind gets `RecvError::Lagged(n)` and continues with the
///   oldest notice that is still kept: `n` notices, of any sessions, are lost to this receiver only.
/// - If the observer's own queue, before the channel, was full, every receiver gets [`Notice::Lagged`]. Sending is
///   fast, so this happens only on a heavily loaded machine.
///
/// A receiver that must not miss any event remembers the last revision of each session and reads the log from there.
/// The channel closes when the observer is dropped: after the shutdown of its manager, unless the program holds another
/// reference to it.
#[derive(Debug)]
pub struct BroadcastObserver {
    sender: broadcast::Sender<Notice>,
}

impl BroadcastObserver {
    /// Creates an observer that keeps at least this many notices for the slowest receiver (tokio rounds up to a power
    /// of two and allocates the whole buffer immediately).
    #[must_use]
    pub fn new(capacity: NonZeroUsize) -> Self {
        Self { sender: broadcast::Sender::new(capacity.get()) }
    }

    /// Returns a receiver of every notice from now on.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Notice> {
        self.sender.subscribe()
    }

    fn send(&self, notice: impl FnOnce() -> Notice) {
        // An event may take a MiB, so it is not copied without a receiver. If the last receiver is dropped meanwhile,
        // the error is harmless.
        if self.sender.receiver_count() > 0 {
            let _ = self.sender.send(notice());
        }
    }
}

impl SessionObserver for BroadcastObserver {
    fn on_event(&self, context: &EventContext, event: &SessionEvent) {
        self.send(|| Notice::event(context, event));
    }

    fn on_lagged(&self, context: &EventContext, missed: u64) {
        self.send(|| Notice::lagged(context, missed));
    }

    fn on_recovery(&self, report: &RecoveryReport) {
        self.send(|| Notice::Recovered(Arc::new(report.clone())));
    }
}

/// An observer that keeps the latest notice for all receivers; `None` before the first.
///
/// A receiver never lags: it reads the latest notice and skips the ones in between. If that is a [`Notice::Lagged`],
/// the latest event of the session is in its log only: ask the manager. Recoveries are not sent, because each of their
/// changes is an event, too.
#[derive(Debug, Default)]
pub struct WatchObserver {
    session: Option<SessionId>,
    sender: watch::Sender<Option<Notice>>,
}

impl WatchObserver {
    /// Creates an observer of all sessions.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates an observer of one session.
    #[must_use]
    pub fn of(session: SessionId) -> Self {
        Self { session: Some(session), ..Self::default() }
    }

    /// Returns a receiver of the latest notice. The current notice is treated as seen.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Option<Notice>> {
        self.sender.subscribe()
    }

    fn send(&self, context: &EventContext, notice: impl FnOnce() -> Notice) {
        if self.session.is_none_or(|session| session == context.session) {
            self.sender.send_replace(Some(notice()));
        }
    }
}

impl SessionObserver for WatchObserver {
    fn on_event(&self, context: &EventContext, event: &SessionEvent) {
        self.send(context, || Notice::event(context, event));
    }

    fn on_lagged(&self, context: &EventContext, missed: u64) {
        self.send(context, || Notice::lagged(context, missed));
    }
}

#[cfg(test)]
mod tests {
    use session_core::Timestamp;
    use tokio::sync::broadcast::error::{RecvError, TryRecvError};

    use super::*;

    fn context(session: u8, revision: u64) -> EventContext {
        let session = SessionId::from_bytes([session; 16]);
        EventContext::new(session, revision, Timestamp::from_millis(0).unwrap(), 1)
    }

    fn notify(observer: &dyn SessionObserver, session: u8, revision: u64) {
        let event = SessionEvent::IterationStarted { number: revision };
        observer.on_event(&context(session, revision), &event);
    }

    fn capacity(notices: usize) -> NonZeroUsize {
        NonZeroUsize::new(notices).unwrap()
    }

    fn revision(notice: &Notice) -> u64 {
        let Notice::Event { context, event } = notice else { panic!("no event: {notice:?}") };
        assert_eq!(**event, SessionEvent::IterationStarted { number: context.revision });
        context.revision
    }

    #[tokio::test]
    async fn every_receiver_gets_every_notice_in_order() {
        let observer = BroadcastObserver::new(capacity(8));
        notify(&observer, 1, 1);
        let mut receivers = [observer.subscribe(), observer.subscribe()];
        notify(&observer, 1, 2);
        notify(&observer, 2, 1);
        observer.on_lagged(&context(1, 9), 7);
        observer.on_recovery(&RecoveryReport::default());
        drop(observer);
        for receiver in &mut receivers {
            assert_eq!(revision(&receiver.recv().await.unwrap()), 2);
            assert_eq!(revision(&receiver.recv().await.unwrap()), 1);
            let lagged = receiver.recv().await.unwrap();
            assert!(matches!(lagged, Notice::Lagged { context, missed: 7 } if context.revision == 9));
            assert!(matches!(receiver.recv().await.unwrap(), Notice::Recovered(_)));
            assert_eq!(receiver.recv().await.unwrap_err(), RecvError::Closed);
        }
    }

    #[test]
    fn a_slow_receiver_continues_with_the_oldest_kept_notice() {
        let observer = BroadcastObserver::new(capacity(4));
        let mut slow = observer.subscribe();
        (1..=10).for_each(|revision| notify(&observer, 1, revision));
        assert_eq!(slow.try_recv().unwrap_err(), TryRecvError::Lagged(6));
        let rest: Vec<_> =
            std::iter::from_fn(|| slow.try_recv().ok()).map(|notice| revision(&notice)).collect();
        assert_eq!(rest, [7, 8, 9, 10]);
    }

    #[tokio::test]
    async fn a_watcher_sees_only_the_latest_notice() {
        let (all, one) = (WatchObserver::new(), WatchObserver::of(context(1, 0).session));
        let (mut of_all, mut of_one) = (all.subscribe(), one.subscribe());
        assert!(of_all.borrow().is_none());
        for observer in [&all, &one] {
            notify(observer, 1, 1);
            notify(observer, 1, 2);
            notify(observer, 2, 5);
        }
        of_all.changed().await.unwrap();
        assert_eq!(of_all.borrow_and_update().as_ref().map(revision), Some(5));
        of_one.changed().await.unwrap();
        assert_eq!(of_one.borrow_and_update().as_ref().map(revision), Some(2));

        notify(&one, 1, 3);
        assert!(of_one.has_changed().unwrap(), "each later notice is announced, too");
        assert_eq!(of_one.borrow_and_update().as_ref().map(revision), Some(3));

        one.on_lagged(&context(2, 8), 3);
        assert!(!of_one.has_changed().unwrap());
        one.on_lagged(&context(1, 8), 3);
        let latest = of_one.borrow_and_update().clone();
        assert!(matches!(latest, Some(Notice::Lagged { context, missed: 3 }) if context.revision == 8));
    }
}
