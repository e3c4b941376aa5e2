//! What keeps a binary that forgot about the supervisor from starting itself over and over.

use session_core::{ErrorCode, InMemorySessionManager, SessionConfig, SessionFilter, SessionManager as _};
use session_runner::{Command, RunError, Runner};

/// The story: a program starts itself as the supervisor, its `main` does not know what that is, and starts the program
/// that starts itself as the supervisor…
#[tokio::test]
async fn a_binary_that_cannot_supervise_creates_no_session() {
    let manager = InMemorySessionManager::new();
    let error =
        Runner::new(&manager).spawn(SessionConfig::new("run"), Command::new("true")).await.unwrap_err();
    assert!(matches!(error, RunError::Launch { session: None, .. }), "{error:?}");
    assert_eq!((error.code(), error.exit_code()), (ErrorCode::SpawnFailed, 125));
    assert_eq!(manager.list_sessions(SessionFilter::all()).await.unwrap().heads.len(), 0);
}
