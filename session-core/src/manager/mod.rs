//! The manager port: all operations on sessions. The implementation is in `persistent`, convenience methods that
//! take closures are in `ext`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

pub use self::dispatch::{Dispatcher, ObserverHealth};
pub use self::ending::Ending;
pub use self::events::Events;
pub use self::ext::SessionManagerExt;
pub use self::names::NameCounter;
pub use self::observable::ObservableSessionManager;
pub use self::options::ManagerOptions;
pub use self::persistent::{InMemorySessionManager, PersistentSessionManager};
pub use self::recovery::{RecoveryOptions, WorkHandler};
pub use self::report::SessionReport;
pub use self::request_handling::RequestHandling;
pub use self::run::WorkError;
pub use self::session::Session;
pub use self::sinks::EventSink;
pub use self::trackers::ProgressWatch;

use crate::config::SessionConfig;
use crate::error::Result;
use crate::event::{Answer, Origin, SessionEvent};
use crate::head::{Head, PersistedSession};
use crate::id::SessionId;
use crate::machine::{CancelRequest, SessionState, StateName};
use crate::presence::Liveness;
use crate::progress::{ProgressTracker, SessionProgress};
use crate::reason::{Failure, SessionSummary};
use crate::record::{StoredRecord, Tip};
use crate::recovery_report::{CrashedSessions, RecoveryReport};
use crate::storage::{SessionFilter, StorageError};
use crate::time::Timestamp;

mod acquire;
mod clock_jumps;
mod dispatch;
mod ending;
mod engine;
mod events;
mod ext;
mod extensions;
mod finish;
mod follow;
mod identity;
mod leftovers;
mod locked_session;
mod names;
mod observable;
mod options;
mod owned_session;
mod ownership;
mod persistent;
mod recovery;
mod registry;
mod report;
mod request_handling;
mod requests;
mod run;
mod session;
mod sinks;
mod sync_loop;
mod trackers;
mod wakers;
mod work_events;

/// The sessions that match a filter.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct SessionList {
    /// The heads, in the order that the filter names: by creation, the newest last, unless it says otherwise.
    pub heads: Vec<Head>,
    /// Sessions that exist but cannot be read, each with the reason.
    pub unreadable: Vec<(SessionId, StorageError)>,
}

/// Creates, runs, controls and inspects sessions.
///
/// A manager is a cheap handle; clones share all state. A session is owned by at most one manager, in one process, at a
/// time. Methods that need ownership say so; all others work from any process that shares the storage.
///
/// A method that changes a session appends to its log, and returns once the change survives power loss (as far as the
/// storage's profile promises). If another process appends concurrently, the method reads the new records and decides
/// again; it fails with `ILLEGAL_TRANSITION` or `FENCED` only if the new state does not allow the change. A dropped
/// future leaves the change either in the log or not.
///
/// # Which call
///
/// | the program | calls |
/// |---|---|
/// | is one closure | [`run`](SessionManagerExt::run); [`run_or_resume`](SessionManagerExt::run_or_resume) with a key |
/// | has tasks of its own that hold a [`Session`] | [`start_session`](Self::start_session), then the methods of [`Session`] |
/// | knows only the id, in the process that owns the session | the methods here: they do the same as those of [`Session`], with the same waits and errors |
/// | is another process | [`pause_session`](Self::pause_session), [`request_resume`](Self::request_resume), [`cancel_session`](Self::cancel_session), [`append_answer`](Self::append_answer): requests that the owner handles |
/// | continues after a crash | [`find_crashed_sessions`](Self::find_crashed_sessions), [`resume_session`](Self::resume_session) |
///
/// | to | by id | by handle | while the session is paused |
/// |---|---|---|---|
/// | record an event | [`record_event`](Self::record_event) | [`Session::record`] | waits until it is resumed |
/// | save a checkpoint | [`save_checkpoint`](Self::save_checkpoint) | [`Session::checkpoint`] | waits until it is resumed |
/// | complete | [`complete_session`](Self::complete_session) | [`Session::complete`] | resumes it first |
/// | fail | [`fail_session`](Self::fail_session) | [`Session::fail`] | ends it |
/// | cancel | [`cancel_session`](Self::cancel_session) | [`Session::cancel`] | ends it |
///
/// An end by id reaches the work of this process immediately: its token is cancelled, its callbacks are called, and
/// [`Session::fenced`] returns.
///
/// # Errors
/// Every method can fail with the errors of the storage: `STORAGE_UNAVAILABLE`, `STORAGE_FULL`, `STORAGE_IO`, `CORRUPT`, `INVALID_LOG`
/// and `UNSUPPORTED_FORMAT`. Methods that take an id fail with `NOT_FOUND` if no such session exists, and methods that
/// change a session with `CLOSED` after a shutdown, and with `CONFLICT` if other processes keep changing it for longer
/// than the conflict timeout. Further errors are listed with each method.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait SessionManager: Send + Sync {
    /// Creates a session without starting it. Returns the existing one if the idempotency key is known.
    ///
    /// # Errors
    /// `LIMIT_EXCEEDED` or `INVALID_ARGUMENT` if the configuration violates a limit, `MAX_SESSIONS` if there are too
    /// many sessions with an owner or a start to come.
    async fn create_session(&self, config: SessionConfig) -> Result<SessionId> {
        self.create_session_from(config, None).await
    }

    /// Creates a session like [`create_session`](Self::create_session), and records the program that it runs.
    ///
    /// # Errors
    /// Those of [`create_session`](Self::create_session).
    async fn create_session_from(&self, config: SessionConfig, origin: Option<Origin>) -> Result<SessionId> {
        self.create_session_inheriting(config, origin, 0).await
    }

    /// Creates a session like [`create_session_from`](Self::create_session_from) that cannot start before
    /// [`inherit_steps`](Self::inherit_steps) has appended this number of records.
    ///
    /// # Errors
    /// Those of [`create_session`](Self::create_session).
    async fn create_session_inheriting(
        &self,
        config: SessionConfig,
        origin: Option<Origin>,
        records: u64,
    ) -> Result<SessionId>;

    /// Appends steps that a session takes over from the one that it retries, each followed by the parts of its value. The parts
    /// name the revision of their step: `after` is the end of the log that they were made for. Returns the new end.
    ///
    /// # Errors
    /// `CONFLICT` if another process has appended since `after`.
    /// `ILLEGAL_TRANSITION` if the session has started, or has all records that it was created for.
    async fn inherit_steps(&self, id: SessionId, after: Tip, events: Vec<SessionEvent>) -> Result<Tip>;

    /// Takes ownership of a session in state `Created`, and starts its first attempt.
    ///
    /// The returned handle is for the work: keep it until the end. A session whose last handle is dropped is
    /// interrupted. Pauses take effect when the work makes its next session call; see [`RequestHandling`] for work that
    /// never makes one. Its deadline is enforced.
    ///
    /// ```
    /// # use session_core::{CancelRequest, InMemorySessionManager, SessionConfig, SessionManager as _};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), session_core::SessionError> {
    /// # let manager = InMemorySessionManager::new();
    /// let id = manager.create_session(SessionConfig::new("import")).await?;
    /// let session = manager.start_session(id).await?;
    /// let work = tokio::spawn(async move {
    ///     let _printed = session.cancellation().on_cancelled(|reason| println!("stopping: {reason}"));
    ///     session.cancellation().cancelled().await // or the work, in a `select!`
    /// });
    /// // From anywhere in the program:
    /// manager.cancel_session(id, CancelRequest::new("enough", "ui")).await?;
    /// assert_eq!(work.await.unwrap(), "enough");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `ILLEGAL_TRANSITION` if the session was already started or has ended, `CONFLICT` if another process owns it,
    /// `CANCELLED` if a cancellation was requested before.
    async fn start_session(&self, id: SessionId) -> Result<Session>;

    /// Appends an event of the work: iteration, command, analysis, checkpoint, progress or note. Needs ownership, except
    /// for a note in an unowned session. Does the same as [`Session::record`]: waits while the session is paused, and
    /// answers a pause request. Events that change the state have their own methods.
    ///
    /// ```
    /// # use session_core::{InMemorySessionManager, SessionConfig, SessionEvent, SessionManager as _};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), session_core::SessionError> {
    /// # let manager = InMemorySessionManager::new();
    /// # let id = manager.create_session(SessionConfig::new("import")).await?;
    /// # let _session = manager.start_session(id).await?;
    /// manager.record_event(id, SessionEvent::IterationStarted { number: 1 }).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for an event that changes the state, `FENCED` without ownership, `ILLEGAL_TRANSITION` for an
    /// iteration out of order, `LIMIT_EXCEEDED` for an iteration beyond the maximum or data that is too large; what
    /// ended the session, as for [`Session`].
    async fn record_event(&self, id: SessionId, event: SessionEvent) -> Result<Tip>;

    /// Requests a pause, and returns the state. The session is paused once its work has stopped, which is in its next
    /// session call, or immediately with [`RequestHandling::Immediate`]; until then the request is pending and the state
    /// is `Running`.
    ///
    /// # Errors
    /// `ILLEGAL_TRANSITION` if the session is not running.
    async fn pause_session(&self, id: SessionId, reason: String) -> Result<SessionState>;

    /// Resumes a session in this process. The current owner just continues; any other manager takes ownership if the
    /// owner is dead, and starts the next attempt.
    ///
    /// ```
    /// # use session_core::{InMemorySessionManager, SessionConfig, SessionManager as _};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), session_core::SessionError> {
    /// # let manager = InMemorySessionManager::new();
    /// # let id = manager.create_session(SessionConfig::new("import")).await?;
    /// # let session = manager.start_session(id).await?;
    /// # session.checkpoint(&3).await?;
    /// # session.interrupt(session_core::Evidence::Shutdown).await?;
    /// let session = manager.resume_session(id).await?;
    /// let done: Option<usize> = session.last_checkpoint()?;
    /// assert_eq!((session.attempt(), done), (2, Some(3)));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `CONFLICT` if another owner is alive, or may be; `ILLEGAL_TRANSITION` if the session runs, was never started or
    /// has ended; `CANCELLED` if a cancellation was requested, which this call then carries out; `MAX_SESSIONS` if the
    /// session has no owner and there is no place for it.
    async fn resume_session(&self, id: SessionId) -> Result<Session>;

    /// Requests the current owner to resume the session, and returns the state.
    ///
    /// # Errors
    /// `ILLEGAL_TRANSITION` if the session is not paused.
    async fn request_resume(&self, id: SessionId) -> Result<SessionState>;

    /// Requests a cancellation, and returns the state. The session is cancelled on return if it is unowned or its owner
    /// is dead, and if this manager owns it; only work that was started by [`run`](SessionManagerExt::run) or that
    /// handles cancellations itself (see [`RequestHandling`]) ends its session when it has stopped. Otherwise the session
    /// is cancelled once its owner has read the request. The work's token is cancelled in every case.
    ///
    /// # Errors
    /// `ILLEGAL_TRANSITION` if the session has ended.
    async fn cancel_session(&self, id: SessionId, request: CancelRequest) -> Result<SessionState>;

    /// Cancels a session that has lost its owner and got no event since `before`, and returns its state; `None` if it is
    /// not such a session, and then nothing changes. A session that is paused on request, for an answer or at a limit has
    /// not lost its owner, and neither has one whose owner may be alive. One that never started is lost with its
    /// creator.
    ///
    /// # Errors
    /// Failures of the storage; `CONFLICT` if the session keeps changing.
    async fn cancel_lost_session(
        &self,
        id: SessionId,
        before: Timestamp,
        request: CancelRequest,
    ) -> Result<Option<SessionState>>;

    /// Ends the session as failed. Needs ownership, unless the session is unowned or its owner is dead. Its work, in this
    /// process, is notified by its token.
    ///
    /// # Errors
    /// `CONFLICT` if another owner is alive, or may be; `ILLEGAL_TRANSITION` if the session has ended.
    async fn fail_session(&self, id: SessionId, error: Failure) -> Result<()>;

    /// Ends the session as completed. Needs ownership. The counters of the summary are filled in from the log. Does the
    /// same as [`Session::complete`]: a paused session is resumed first. Its work is notified by its token.
    ///
    /// # Errors
    /// `FENCED` without ownership, `ILLEGAL_TRANSITION` if the session was never started or has ended.
    async fn complete_session(&self, id: SessionId, summary: SessionSummary) -> Result<()>;

    /// Appends an answer to a question of a session, which may be asked later. Only for callers that have read the log up to
    /// its last question or answer, at the revision `known` ([`WaitTotals::changed`](crate::WaitTotals::changed)): the
    /// first answer holds, so the caller has to know that there is none. `session_workflow::answer` reads the log and decides.
    ///
    /// # Errors
    /// `CONFLICT` if there are later questions or answers; `ILLEGAL_TRANSITION` if the session has ended.
    async fn append_answer(&self, id: SessionId, known: u64, answer: Answer) -> Result<Tip>;

    /// Returns the state, with its texts cut; [`restore_session`](Self::restore_session) returns the full texts.
    ///
    /// # Errors
    /// Those of all methods.
    async fn get_state(&self, id: SessionId) -> Result<SessionState> {
        Ok(self.get_head(id).await?.lifecycle.state)
    }

    /// Returns the progress: as reported so far if this manager owns the session, else as of the last record in its log.
    ///
    /// # Errors
    /// Those of all methods.
    async fn get_progress(&self, id: SessionId) -> Result<SessionProgress>;

    /// Returns the progress tracker of a session that this manager owns; `None` for all others.
    ///
    /// ```
    /// # use session_core::{InMemorySessionManager, SessionConfig, SessionManager as _};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), session_core::SessionError> {
    /// # let manager = InMemorySessionManager::new();
    /// # let id = manager.create_session(SessionConfig::new("import")).await?;
    /// # let _session = manager.start_session(id).await?;
    /// if let Some(progress) = manager.progress(id) {
    ///     progress.on_change(|progress| println!("{:?} %", progress.percent)).forget();
    /// }
    /// # Ok(()) }
    /// ```
    fn progress(&self, id: SessionId) -> Option<ProgressTracker>;

    /// Watches the progress of all sessions that this manager owns, now and later, as it is reported.
    ///
    /// ```
    /// # use session_core::{InMemorySessionManager, SessionConfig, SessionManager as _};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), session_core::SessionError> {
    /// # let manager = InMemorySessionManager::new();
    /// # let id = manager.create_session(SessionConfig::new("import")).await?;
    /// # let session = manager.start_session(id).await?;
    /// # session.complete(session_core::SessionSummary::new()).await?;
    /// # manager.shutdown().await?;
    /// let mut changes = manager.watch_progress();
    /// while let Some((id, progress)) = changes.next().await {
    ///     println!("{id}: {:?} %", progress.percent);
    /// }
    /// # Ok(()) }
    /// ```
    fn watch_progress(&self) -> ProgressWatch;

    /// Returns the current head.
    ///
    /// # Errors
    /// Those of all methods.
    async fn get_head(&self, id: SessionId) -> Result<Head>;

    /// Returns all active sessions: those that have not ended.
    ///
    /// # Errors
    /// Failures of the storage as a whole. Sessions that cannot be read are in the result.
    async fn list_active_sessions(&self) -> Result<SessionList> {
        self.list_sessions(SessionFilter::active()).await
    }

    /// Returns all sessions that match the filter.
    ///
    /// # Errors
    /// Those of [`list_active_sessions`](Self::list_active_sessions).
    async fn list_sessions(&self, filter: SessionFilter) -> Result<SessionList>;

    /// Waits until the session has ended or is in one of these states, and returns its head once that survives power
    /// loss. Keeps waiting after the owner died, because the session may be resumed.
    ///
    /// # Errors
    /// `NOT_FOUND`, also if the session is deleted meanwhile.
    async fn wait_for(&self, id: SessionId, states: &[StateName]) -> Result<Head>;

    /// Returns up to `limit` records after revision `after`, as stored: at least one, unless that is the end of the log.
    /// Fewer than `limit` are no end: records are returned up to about 1 MiB at a time.
    ///
    /// # Errors
    /// Those of all methods.
    async fn read_log(&self, id: SessionId, after: u64, limit: usize) -> Result<Vec<StoredRecord>>;

    /// Waits for records after revision `after`, and returns some of them, at least one; none once the session has ended
    /// and has no more. [`events`](SessionManagerExt::events) returns them one by one.
    ///
    /// # Errors
    /// `CONFLICT` if the log has fewer than `after` records.
    async fn next_records(&self, id: SessionId, after: u64) -> Result<Vec<StoredRecord>>;

    /// Deletes a session with its log. Observers are notified.
    ///
    /// # Errors
    /// `CONFLICT` if it has an owner that is alive, or may be.
    async fn delete_session(&self, id: SessionId) -> Result<()>;

    /// Deletes all sessions that ended more than `max_age` ago (7 days if `None`), and returns their ids.
    ///
    /// ```
    /// # use session_core::{InMemorySessionManager, SessionManager as _};
    /// # use std::time::Duration;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), session_core::SessionError> {
    /// # let manager = InMemorySessionManager::new();
    /// let month = Duration::from_secs(30 * 24 * 60 * 60);
    /// let deleted = manager.cleanup(Some(month)).await?;
    /// # assert!(deleted.is_empty());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of [`delete_session`](Self::delete_session); sessions deleted before stay deleted.
    async fn cleanup(&self, max_age: Option<Duration>) -> Result<Vec<SessionId>>;

    /// Saves data from which the work can continue after a crash. Needs ownership. Does the same as
    /// [`Session::checkpoint`].
    ///
    /// ```
    /// # use session_core::{InMemorySessionManager, SessionConfig, SessionManager as _};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), session_core::SessionError> {
    /// # let manager = InMemorySessionManager::new();
    /// # let id = manager.create_session(SessionConfig::new("import")).await?;
    /// # let session = manager.start_session(id).await?;
    /// manager.save_checkpoint(id, 3.into()).await?;
    /// assert_eq!(session.last_checkpoint()?, Some(3));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of [`record_event`](Self::record_event).
    async fn save_checkpoint(&self, id: SessionId, state: Value) -> Result<Tip> {
        self.record_event(id, SessionEvent::CheckpointSaved { state, resumable: true }).await
    }

    /// Loads the full session. Read-only.
    ///
    /// # Errors
    /// Those of all methods.
    async fn restore_session(&self, id: SessionId) -> Result<PersistedSession>;

    /// Returns the liveness of the process responsible for the session: its owner, or its creator before the first
    /// start. `None` if no process is.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE` if the liveness cannot be tested.
    async fn liveness(&self, id: SessionId) -> Result<Option<Liveness>>;

    /// Returns all sessions that lost their owner and were not resumed since, with the evidence and with what the
    /// recovery at opening did. Sessions that were paused on request are not among them. Read-only.
    ///
    /// ```
    /// # use session_core::{InMemorySessionManager, SessionManager as _};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), session_core::SessionError> {
    /// # let manager = InMemorySessionManager::new();
    /// for crashed in manager.find_crashed_sessions().await?.sessions {
    ///     println!("{} ({}): {}", crashed.head.id, crashed.head.name, crashed.evidence);
    ///     let session = manager.resume_session(crashed.head.id).await?;
    ///     println!("continues from {:?}", session.last_checkpoint::<usize>()?);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Failures of the storage as a whole, and `STORAGE_UNAVAILABLE` if a liveness cannot be tested. Sessions that cannot
    /// be read are in the result.
    async fn find_crashed_sessions(&self) -> Result<CrashedSessions>;

    /// Ends, pauses or resumes orphaned sessions. A session that cannot be recovered does not block the others.
    ///
    /// # Errors
    /// Those of [`find_crashed_sessions`](Self::find_crashed_sessions).
    async fn recover(&self, options: RecoveryOptions) -> Result<RecoveryReport>;

    /// Returns the report of the recovery when this manager was opened; `None` if it was opened without one.
    fn opening_recovery(&self) -> Option<RecoveryReport>;

    /// Flushes and releases every session that this manager owns. Their work gets `CLOSED` from its next call, as do
    /// later calls that change a session.
    ///
    /// # Errors
    /// Failures to release a session; all others are released.
    async fn shutdown(&self) -> Result<()>;

    /// Registers a sink for all events that this manager appends from now on, or reads from the logs of sessions that
    /// it owns. If the manager recovered sessions when it was opened, the sink first receives that report.
    fn add_sink(&self, sink: Arc<dyn EventSink>);

    /// Returns an owned handle to this manager.
    fn to_shared(&self) -> Arc<dyn SessionManager>;
}
