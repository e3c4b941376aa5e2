//! Convenience methods of a manager: one call around the work.

use serde::Serialize;

use super::SessionManager;
use super::events::Events;
use super::report::SessionReport;
use super::run::{WorkError, run_work};
use super::session::Session;
use crate::config::SessionConfig;
use crate::error::{Result, SessionError};
use crate::head::Head;
use crate::id::SessionId;
use crate::log_writer::decode;
use crate::machine::SessionState;
use crate::presence::Liveness;
use crate::record::Record;
use crate::storage::StorageError;

/// Convenience methods for every [`SessionManager`]. Implemented for all of them; do not implement it yourself.
pub trait SessionManagerExt: SessionManager {
    /// Creates a session, runs the closure as its work, and maps every outcome to an event: `Ok` completes the session,
    /// `Err` fails it (or cancels it, if a cancellation was requested), a panic or an expired deadline fails it, and if
    /// this future is dropped, the session is interrupted and can be resumed.
    ///
    /// Returns once the end of the session survives power loss.
    ///
    /// # Errors
    /// Failures of the manager and the storage, and `FENCED`. Work that fails is a report, not an error.
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

    /// Follows the events of a session after revision `after` (0 for all) until it ends: the stream ends after the final
    /// record.
    ///
    /// ```
    /// # use session_core::{InMemorySessionManager, SessionConfig, SessionManager as _, SessionManagerExt as _};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), session_core::SessionError> {
    /// # let manager = InMemorySessionManager::new();
    /// # let report = manager.run(SessionConfig::new("import"), async |_| Ok(())).await?;
    /// let mut events = manager.events(report.id, 0);
    /// while let Some(record) = events.next().await? {
    ///     println!("{} {}", record.envelope.at, record.event.kind());
    /// }
    /// # Ok(()) }
    /// ```
    fn events(&self, id: SessionId, after: u64) -> Events<'_, Self> {
        Events::new(self, id, after)
    }

    /// Reads the records of a log after revision `after`, at most `limit`; none at its end. Does not wait for more.
    ///
    /// # Errors
    /// `NOT_FOUND`, `UNSUPPORTED_FORMAT` if a newer version wrote a record, failures of the storage.
    fn read_records(
        &self,
        id: SessionId,
        after: u64,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Record>>> + Send {
        async move {
            let records = self.read_log(id, after, limit).await?;
            records.iter().map(|stored| decode(id, stored)).collect()
        }
    }

    /// Does the same as [`run`](Self::run), but completes at most once for each key, even if processes crash.
    ///
    /// The session with this key decides:
    /// - None exists: a session is created and run.
    /// - Crashed or interrupted: it is taken over, and the work is called again and finds its last checkpoint.
    /// - Waiting for input without an answer, or completed: it is returned without calling the work.
    /// - Failed or cancelled: the work is retried in a new session.
    ///
    /// A second call with the same key fails while the first one runs, in the same process too, and leaves the first one
    /// alone; use [`events`](Self::events) or [`wait_for`](SessionManager::wait_for) to wait for its end.
    ///
    /// # Errors
    /// `CONFLICT` if the session's owner is alive, or may be; else those of [`run`](Self::run).
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
                    // Another process with the same key was faster: read the session that it created.
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
            // It lacks steps that it takes over, so that no start can succeed until it has them.
            SessionState::Created if head.lifecycle.to_inherit > 0 => {
                return manager.start_session(id).await.map(KeyedSession::Acquired);
            }
            // No owner yet. If two processes start it, one append succeeds.
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

/// Returns `true` if the session has an owner that is alive, be it another one or this manager.
async fn is_running<M: SessionManager + ?Sized>(manager: &M, head: &Head) -> Result<bool> {
    Ok(head.lifecycle.owner.is_some() && manager.liveness(head.id).await? == Some(Liveness::Alive))
}

const fn lost_race(error: &SessionError) -> bool {
    error.is_outcome()
        || matches!(
            error,
            SessionError::Transition { .. } | SessionError::Fenced { .. } | SessionError::Contended { .. }
        )
}
