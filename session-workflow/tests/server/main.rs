//! The owner's side of the step protocol: items, questions and sleeps of clients, over a connection in memory.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "in a test, a missing value is a failure")]

mod client;
mod each;
#[path = "../support/shared_memory.rs"]
mod shared_memory;
mod waits;

use session_core::{
    Evidence, Head, ManagerOptions, Session, SessionConfig, SessionEvent, SessionId, SessionManager as _,
    SessionManagerExt as _,
};

use self::shared_memory::SharedManager;

async fn manager() -> SharedManager {
    shared_memory::open(ManagerOptions::new()).await
}

async fn session(manager: &SharedManager) -> Session {
    let id = manager.create_session(SessionConfig::new("test")).await.unwrap();
    manager.start_session(id).await.unwrap()
}

/// Begins the next attempt, as after a death of the owner.
async fn next_attempt(manager: &SharedManager, session: Session) -> Session {
    let id = session.id();
    session.interrupt(Evidence::LockReleased).await.unwrap();
    drop(session);
    manager.resume_session(id).await.unwrap()
}

/// Returns the events of a kind in the log of a session.
async fn events(manager: &SharedManager, id: SessionId, kind: &str) -> Vec<SessionEvent> {
    let records = manager.read_records(id, 0, 100_000).await.unwrap();
    records.into_iter().map(|record| record.event).filter(|event| event.kind().name() == kind).collect()
}

/// Waits until the head of a session is as expected.
async fn until(session: &Session, is_so: impl Fn(&Head) -> bool) {
    let mut view = session.watch();
    while !is_so(&view.borrow_and_update()) {
        view.changed().await.unwrap();
    }
}
