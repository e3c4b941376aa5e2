//! Protection against a binary without `supervise_main` starting itself over and over.

use session_core::{ErrorCode, InMemorySessionManager, SessionConfig, SessionFilter, SessionManager as _};
use session_runner::{Command, RunError, Runner};

/// Regression: a program started itself as the supervisor, its `main` ignored the verb and ran the program again, which
/// started itself as the supervisor, and so on.
#[tokio::test]
async fn a_binary_that_cannot_supervise_creates_no_session() {
    // Not in the main thread, so not at the beginning of `main`: without effect.
    std::thread::spawn(session_runner::supervise_main).join().unwrap();
    let manager = InMemorySessionManager::new();
    let error =
        Runner::new(&manager).spawn(SessionConfig::new("run"), Command::new("true")).await.unwrap_err();
    assert!(matches!(error, RunError::Launch { session: None, .. }), "{error:?}");
    assert_eq!((error.code(), error.exit_code()), (ErrorCode::SpawnFailed, 125));
    let text = error.to_string();
    for call in ["`#[sessionkit::main]`", "`sessionkit::runner::supervise_main()`", "`#[sessionkit::test]`"] {
        assert!(text.contains(call), "{text}");
    }
    assert_eq!(manager.list_sessions(SessionFilter::all()).await.unwrap().heads.len(), 0);
}
