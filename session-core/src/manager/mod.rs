//! The manager port: all operations on sessions. The implementation is in `persistent`, convenience methods that
//! take closures are in `ext`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

pub use self::dispatch::{Dispatcher, ObserverHealth};
pub use self::ext::SessionManagerExt;
pub use self::names::NameCounter;
pub use self::observable::ObservableSessionManager;
pub use self::options::ManagerOptions;
pub use self::persistent::{InMemorySessionManager, PersistentSessionManager};
pub use self::recovery::{RecoveryOptions, WorkHandler};
pub use self::report::SessionReport;
pub use self::request_handling::RequestHandling;
pub use self::run::WorkError;
pub use self::session::{Ending, Session};
pub use self::sinks::EventSink;

use crate::config::SessionConfig;
use crate::error::Result;
use crate::event::{Origin, SessionEvent};
use crate::head::{Head, PersistedSession};
use crate::id::SessionId;
use crate::machine::{CancelRequest, SessionState, StateName};
use crate::presence::Liveness;
use crate::progress::SessionProgress;
use crate::reason::{Failure, SessionSummary};
use crate::record::{StoredRecord, Tip};
use crate::recovery_report::{CrashedSession, RecoveryReport};
use crate::storage::{SessionFilter, StorageError};

mod acquire;
mod dispatch;
mod engine;
mod ext;
mod identity;
mod locked_session;
mod log_tail;
mod log_writer;
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

/// The sessions that match a filter.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct SessionList {
    /// The heads, ascending by id.
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
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait SessionManager: Send + Sync {
    /// Creates a session without starting it. Returns the existing one if the idempotency key is known.
    async fn create_session(&self, config: SessionConfig) -> Result<SessionId>;

    /// Creates a session like [`create_session`](Self::create_session), and records the program that it runs.
    async fn create_session_from(&self, config: SessionConfig, origin: Option<Origin>) -> Result<SessionId>;

    /// Takes ownership of a session in state `Created`, and starts its first attempt.
    async fn start_session(&self, id: SessionId) -> Result<Session>;

    /// Appends an event of the work: iteration, command, analysis, checkpoint, progress or note. Needs
    /// ownership, except
    /// for a note in an unowned session. Events that change the state have their own methods, and are
    /// rejected here with
    /// `INVALID_ARGUMENT`.
    async fn record_event(&self, id: SessionId, event: SessionEvent) -> Result<Tip>;

    /// Requests a pause, and returns the state. The session is paused on return if this manager owns it and handles
    /// requests immediately (see [`RequestHandling`]); otherwise it is paused once its owner has handled the request.
    async fn pause_session(&self, id: SessionId, reason: String) -> Result<SessionState>;

    /// Resumes a session in this process. The current owner just continues; any other manager takes ownership if the
    /// owner is dead, and starts the next attempt. Fails with `CONFLICT` if another owner is alive, or may be.
    async fn resume_session(&self, id: SessionId) -> Result<Session>;

    /// Requests the current owner to resume the session, and returns the state.
    async fn request_resume(&self, id: SessionId) -> Result<SessionState>;

    /// Requests a cancellation, and returns the state. The session is cancelled on return if it is unowned or its owner
    /// is dead, or if this manager owns it and handles requests immediately; otherwise it is cancelled once its owner
    /// has handled the request.
    async fn cancel_session(&self, id: SessionId, request: CancelRequest) -> Result<SessionState>;

    /// Ends the session as failed. Needs ownership, unless the session is unowned or its owner is dead.
    async fn fail_session(&self, id: SessionId, error: Failure) -> Result<()>;

    /// Ends the session as completed. Needs ownership. The counters of the summary are filled in from the log.
    async fn complete_session(&self, id: SessionId, summary: SessionSummary) -> Result<()>;

    /// Answers the question that a session waits for.
    async fn provide_input(&self, id: SessionId, value: Value) -> Result<Tip>;

    /// Returns the state, with its texts cut; [`restore_session`](Self::restore_session) returns the full texts.
    async fn get_state(&self, id: SessionId) -> Result<SessionState>;

    /// Returns the progress.
    async fn get_progress(&self, id: SessionId) -> Result<SessionProgress>;

    /// Returns the current head.
    async fn get_head(&self, id: SessionId) -> Result<Head>;

    /// Returns all active sessions: those that have not ended.
    async fn list_active_sessions(&self) -> Result<SessionList>;

    /// Returns all sessions that match the filter.
    async fn list_sessions(&self, filter: SessionFilter) -> Result<SessionList>;

    /// Waits until the session has ended or is in one of these states, and returns its head once that survives power
    /// loss. Keeps waiting after the owner died, because the session may be resumed.
    async fn wait_for(&self, id: SessionId, states: &[StateName]) -> Result<Head>;

    /// Returns up to `limit` records after revision `after`, as stored; fewer only at the end of the log.
    async fn read_log(&self, id: SessionId, after: u64, limit: usize) -> Result<Vec<StoredRecord>>;

    /// Deletes a session with its log. Fails with `CONFLICT` if it has an owner that is alive, or may be.
    async fn delete_session(&self, id: SessionId) -> Result<()>;

    /// Deletes all sessions that ended more than `max_age` ago (7 days if `None`), and returns their ids.
    async fn cleanup(&self, max_age: Option<Duration>) -> Result<Vec<SessionId>>;

    /// Saves data from which the work can continue after a crash. Needs ownership.
    async fn save_checkpoint(&self, id: SessionId, state: Value) -> Result<Tip>;

    /// Loads the full session. Read-only.
    async fn restore_session(&self, id: SessionId) -> Result<PersistedSession>;

    /// Returns the liveness of the process responsible for the session: its owner, or its creator before the first
    /// start. `None` if no process is.
    async fn liveness(&self, id: SessionId) -> Result<Option<Liveness>>;

    /// Returns all orphaned sessions, with the evidence. Read-only.
    async fn find_crashed_sessions(&self) -> Result<Vec<CrashedSession>>;

    /// Ends, pauses or resumes orphaned sessions. A session that cannot be recovered does not block the others.
    async fn recover(&self, options: RecoveryOptions) -> Result<RecoveryReport>;

    /// Flushes and releases every session that this manager owns. Later calls that change a session fail with `CLOSED`.
    async fn shutdown(&self) -> Result<()>;

    /// Registers a sink for all events that this manager appends from now on, or reads from the logs of sessions that
    /// it owns. If the manager recovered sessions when it was opened, the sink first receives that report.
    fn add_sink(&self, sink: Arc<dyn EventSink>);

    /// Returns an owned handle to this manager.
    fn to_shared(&self) -> Arc<dyn SessionManager>;
}
