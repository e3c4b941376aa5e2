//! What a developer mostly writes: one call around the work.

use serde::Serialize;

use super::SessionManager;
use super::report::SessionReport;
use super::run::{WorkError, run_work};
use super::session::Session;
use crate::config::SessionConfig;
use crate::error::{Result, SessionError};
use crate::head::Head;
use crate::id::SessionId;
use crate::machine::SessionState;
use crate::presence::Liveness;
use crate::reason::PauseReason;
use crate::storage::StorageError;

/// What can be made of a manager's methods. Nobody implements it by hand.
pub trait SessionManagerExt: SessionManager {
    /// Makes a session, runs the work under it, and maps every ending of the work onto the session: `Ok` completes
    /// it, `Err` fails it (or cancels it, if that was asked for), a panic or a spent deadline fails it, and if this
    /// future is dropped the session is interrupted, for somebody to resume.
    ///
    /// Does not return before the ending survives power loss.
    ///
    /// # Errors
    /// What the manager and the storage suffer, and `FENCED`. A work that fails is a report, not an error.
    fn run<F, Fut, T>(
        &self,
        config: SessionConfig,
        work: F,
    ) -> impl Future<Output = Result<SessionReport>> + Send
    where
        F: FnOnce(Session) -> Fut + Send,
        Fut: Future<Output = Result<T, WorkError>> + Send,
        T: Serialize + Send,
    {
        async move {
            let id = self.create_session(config).await?;
            run_work(self.start_session(id).await?, work).await
        }
    }

    /// As [`run`](Self::run), once for each key, whatever happens to the processes that try.
    ///
    /// What it finds decides: nothing is created and run. A crashed or interrupted session is taken over: the work is
    /// called again and finds its last checkpoint. A session that waits for input without an answer is returned as it
    /// is, and so is a completed one, without calling the work. A failed or cancelled one is tried again as a new session.
    ///
    /// # Errors
    /// `CONFLICT` if an owner lives, or may; else as [`run`](Self::run).
    fn run_or_resume<F, Fut, T>(
        &self,
        key: &str,
        config: SessionConfig,
        work: F,
    ) -> impl Future<Output = Result<SessionReport>> + Send
    where
        F: FnOnce(Session) -> Fut + Send,
        Fut: Future<Output = Result<T, WorkError>> + Send,
        T: Serialize + Send,
    {
        async move {
            match find_or_acquire(self, key, config.idempotency_key(key)).await? {
                KeyedSession::Acquired(session) => run_work(session, work).await,
                KeyedSession::Existing(id) => Ok(self.restore_session(id).await?.into()),
            }
        }
    }
}

impl<M: SessionManager + ?Sized> SessionManagerExt for M {}

enum KeyedSession {
    Acquired(Session),
    Existing(SessionId),
}

async fn find_or_acquire<M: SessionManager + ?Sized>(
    manager: &M,
    key: &str,
    config: SessionConfig,
) -> Result<KeyedSession> {
    let mut config = config;
    loop {
        let id = SessionId::from_key_try(key, config.retries + 1);
        let head = match manager.get_head(id).await {
            Ok(head) => head,
            Err(SessionError::Storage(StorageError::NotFound { .. })) => {
                manager.create_session(config.clone()).await?;
                match manager.start_session(id).await {
                    Ok(session) => return Ok(KeyedSession::Acquired(session)),
                    // Somebody with the same key was here at the same time: look at what he made of it.
                    Err(error) if lost_race(&error) => continue,
                    Err(error) => return Err(error),
                }
            }
            Err(error) => return Err(error),
        };
        let acquired = match head.state() {
            SessionState::Completed { .. } => return Ok(KeyedSession::Existing(id)),
            SessionState::Failed { .. } | SessionState::Cancelled { .. } => {
                config = SessionConfig { retries: config.retries + 1, retry_of: Some(id), ..config };
                continue;
            }
            SessionState::Paused { reason: PauseReason::AwaitingInput(_) }
                if head.lifecycle.requests.answer.is_none()
                    && manager.liveness(id).await? != Some(Liveness::Alive) =>
            {
                return Ok(KeyedSession::Existing(id));
            }
            // Nobody owns it yet: of two that start it, the log lets one.
            SessionState::Created => manager.start_session(id).await,
            SessionState::Running { .. } | SessionState::Paused { .. }
                if is_running(manager, &head).await? =>
            {
                return Err(super::ownership::owned_error(&head, true));
            }
            SessionState::Running { .. } | SessionState::Paused { .. } => manager.resume_session(id).await,
        };
        match acquired {
            Ok(session) => return Ok(KeyedSession::Acquired(session)),
            Err(SessionError::Cancelled { .. }) => {}
            Err(error) if lost_race(&error) => {}
            Err(error) => return Err(error),
        }
    }
}

/// An owner that lives, another one or this very manager: the work runs already.
async fn is_running<M: SessionManager + ?Sized>(manager: &M, head: &Head) -> Result<bool> {
    Ok(head.lifecycle.owner.is_some() && manager.liveness(head.id).await? == Some(Liveness::Alive))
}

const fn lost_race(error: &SessionError) -> bool {
    matches!(
        error,
        SessionError::Transition { .. } | SessionError::Fenced { .. } | SessionError::Contended { .. }
    )
}
