//! Questions, sleeps and items of Rust code, over attempts, processes and retries.

#![expect(clippy::unwrap_used, reason = "in a test, a missing value is a failure")]

mod dropped;
mod items;
mod questions;
#[path = "../support/shared_memory.rs"]
mod shared_memory;
mod sleeps;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use session_core::{
    Clock, Evidence, InMemorySessionManager, ManagerOptions, Session, SessionConfig, SessionEvent, SessionId,
    SessionManager as _, SessionManagerExt as _, Timestamp,
};
use session_workflow::Inheritance;
use session_workflow::TakeOver;

/// A clock that is set by the test.
#[derive(Debug)]
struct TestClock(AtomicI64);

impl TestClock {
    fn new() -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(1_800_000_000_000)))
    }

    fn add(&self, duration: Duration) {
        self.0.fetch_add(i64::try_from(duration.as_millis()).unwrap(), Ordering::SeqCst);
    }

    fn set_back(&self, duration: Duration) {
        self.0.fetch_sub(i64::try_from(duration.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst)).unwrap()
    }
}

fn manager_with(clock: &Arc<TestClock>) -> InMemorySessionManager {
    let clock: Arc<dyn Clock> = Arc::<TestClock>::clone(clock);
    InMemorySessionManager::with_options(ManagerOptions::new().clock(clock))
}

async fn session(manager: &InMemorySessionManager) -> Session {
    let id = manager.create_session(SessionConfig::new("test")).await.unwrap();
    manager.start_session(id).await.unwrap()
}

/// Begins the next attempt, as after a death of the owner or as after a shutdown.
async fn next_attempt(manager: &InMemorySessionManager, session: Session, evidence: Evidence) -> Session {
    let id = session.id();
    session.interrupt(evidence).await.unwrap();
    drop(session);
    manager.resume_session(id).await.unwrap()
}

/// Fails the session, and starts a retry that takes over what it can.
async fn retry(manager: &InMemorySessionManager, session: Session) -> Session {
    let id = session.id();
    session.fail(session_core::Failure::new(session_core::FailureCause::Work, "no network")).await.unwrap();
    drop(session);
    let inheritance = Inheritance::of(manager, id, &TakeOver::All).await.unwrap();
    let config = inheritance.config(SessionConfig::new("test").retry_of(id));
    let next = manager.create_session_inheriting(config, None, inheritance.records()).await.unwrap();
    inheritance.append(manager, next).await.unwrap();
    manager.start_session(next).await.unwrap()
}

/// Returns the events of a kind in the log of a session.
async fn events(manager: &InMemorySessionManager, id: SessionId, kind: &str) -> Vec<SessionEvent> {
    let records = manager.read_records(id, 0, 100_000).await.unwrap();
    records.into_iter().map(|record| record.event).filter(|event| event.kind().name() == kind).collect()
}

/// Waits until the head of a session is as expected.
async fn until(session: &Session, is_so: impl Fn(&session_core::Head) -> bool) {
    let mut view = session.watch();
    while !is_so(&view.borrow_and_update()) {
        view.changed().await.unwrap();
    }
}
