//! Tests with mocks: no store, and errors that no store has on demand.

use std::sync::Arc;

use sessionkit::mockall::Sequence;
use sessionkit::backend::{MockSessionStorage, SessionStorage};
use sessionkit::manager::{ObservableSessionManager, StorageError};
use sessionkit::{ErrorCode, MockSessionManager, MockSessionObserver, SessionConfig, SessionError, SessionManager as _, SessionManagerExt as _};

#[tokio::test]
async fn a_failing_manager_is_reported_to_the_caller() {
    let mut manager = MockSessionManager::new();
    manager.expect_list_active_sessions().once().returning(|| Err(SessionError::ShutDown));
    let error = user::cancel_all(&manager, "enough").await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Closed);
}

#[tokio::test]
async fn nothing_is_cancelled_where_nothing_is_active() {
    let mut manager = MockSessionManager::new();
    manager.expect_list_active_sessions().once().returning(|| Ok(sessionkit::manager::SessionList::default()));
    manager.expect_cancel_session().never();
    assert_eq!(user::cancel_all(&manager, "enough").await.unwrap(), []);
}

#[tokio::test]
async fn an_observer_receives_each_event_of_a_session() {
    let mut observer = MockSessionObserver::new();
    let mut events = Sequence::new();
    for kind in ["created", "started", "completed"] {
        observer
            .expect_on_event()
            .withf(move |_, event| event.kind().name() == kind)
            .once()
            .in_sequence(&mut events)
            .return_const(());
    }
    let manager = sessionkit::open("memory:").await.unwrap();
    let manager = ObservableSessionManager::new(manager).observe("mock", Arc::new(observer));
    let report = manager.run(SessionConfig::new("work"), async |_| Ok(())).await.unwrap();
    assert!(report.is_completed());
    manager.shutdown().await.unwrap();
    // An event that is not expected panics in the thread of the observer, which is counted.
    let health = manager.health();
    assert_eq!((health[0].delivered, health[0].panics), (3, 0), "{health:?}");
}

#[tokio::test]
async fn a_full_disk_is_an_error_with_its_code() {
    let mut storage = MockSessionStorage::new();
    storage.expect_head().returning(|_| {
        let source = Arc::new(std::io::Error::from(std::io::ErrorKind::StorageFull));
        Err(StorageError::Full { what: "the store".to_owned(), source })
    });
    let storage: Arc<dyn SessionStorage> = Arc::new(storage);
    let error = storage.head(sessionkit::SessionId::random()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StorageFull);
}
