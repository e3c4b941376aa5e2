//! The manager port: everything that a program does with sessions. The engine behind it is in `engine`, the
//! conveniences that take closures are in `ext`.

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
pub use self::run::WorkError;
pub use self::session::{Ending, RequestHandling, Session};

use crate::config::SessionConfig;
use crate::error::Result;
use crate::event::{Origin, SessionEvent};
use crate::head::{Head, PersistedSession};
use crate::id::SessionId;
use crate::machine::{CancelRequest, SessionState, StateName};
use crate::observer::EventContext;
use crate::presence::Liveness;
use crate::progress::SessionProgress;
use crate::reason::{Failure, SessionSummary};
use crate::record::{StoredRecord, Tip};
use crate::recovery_report::{CrashedSession, RecoveryReport};
use crate::storage::{SessionFilter, StorageError};

mod dispatch;
mod engine;
mod ext;
mod names;
mod observable;
mod options;
mod owned_session;
mod ownership;
mod persistent;
mod recovery;
mod report;
mod requests;
mod run;
mod session;
mod session_entry;

/// The sessions that a filter let through.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct SessionList {
    /// Their heads, ascending by id.
    pub heads: Vec<Head>,
    /// Sessions that are there and cannot be read, each with the reason.
    pub unreadable: Vec<(SessionId, StorageError)>,
}

/// Hears of each event of a manager once it is flushed, in order for each session. It is called while the session
/// waits: it must not block. [`ObservableSessionManager`](crate::ObservableSessionManager) is one.
pub trait EventSink: Send + Sync + std::fmt::Debug {
    /// A fact.
    fn event(&self, context: &EventContext, event: &Arc<SessionEvent>);

    /// A recovery was made.
    fn recovered(&self, report: &RecoveryReport);
}

/// Everything that a program does with sessions.
///
/// A manager is a cheap handle: clones share everything. A method that changes a session appends to its log and
/// returns when the change survives power loss (as far as the storage's profile goes). Where another process changed
/// the session in between, it reads that first and decides again; it fails with `ILLEGAL_TRANSITION` or `FENCED` only
/// if the machine leaves it no other way.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait SessionManager: Send + Sync {
    /// Makes a session that nobody runs yet. With an idempotency key that is known already, returns that session.
    async fn create_session(&self, config: SessionConfig) -> Result<SessionId>;

    /// As [`create_session`](Self::create_session), for a session around a program.
    async fn create_session_from(&self, config: SessionConfig, origin: Option<Origin>) -> Result<SessionId>;

    /// Takes ownership of a session in `Created` and starts its first attempt.
    async fn start_session(&self, id: SessionId) -> Result<Session>;

    /// Appends an event of the work: iterations, commands, analyses, checkpoints, progress, notes. What changes the
    /// state has methods of its own, and is refused here with `INVALID_ARGUMENT`.
    async fn record_event(&self, id: SessionId, event: SessionEvent) -> Result<Tip>;

    /// Asks for a pause. If this manager owns the session and no closure or program runs under it, the session is
    /// paused on return; else when its owner has answered. Returns the state.
    async fn pause_session(&self, id: SessionId, reason: String) -> Result<SessionState>;

    /// Makes a paused session go on here: the owner continues; anybody else takes ownership, if the owner is dead, and
    /// begins the next attempt. `CONFLICT` if another owner lives, or may.
    async fn resume_session(&self, id: SessionId) -> Result<Session>;

    /// Asks the owner, whoever it is, to go on.
    async fn request_resume(&self, id: SessionId) -> Result<SessionState>;

    /// Asks for the end. If nobody owns the session, or this manager does and nothing runs under it, it is cancelled
    /// on return; else when its owner has answered. Returns the state.
    async fn cancel_session(&self, id: SessionId, request: CancelRequest) -> Result<SessionState>;

    /// Ends the session as failed: by its owner, or by anybody where it is unowned.
    async fn fail_session(&self, id: SessionId, error: Failure) -> Result<()>;

    /// Ends the session as completed. The numbers of the summary are filled in from the log.
    async fn complete_session(&self, id: SessionId, summary: SessionSummary) -> Result<()>;

    /// Answers the question that a session waits on.
    async fn provide_input(&self, id: SessionId, value: Value) -> Result<Tip>;

    /// The state. Its texts are cut; [`restore_session`](Self::restore_session) has them whole.
    async fn get_state(&self, id: SessionId) -> Result<SessionState>;

    /// How far the session is.
    async fn get_progress(&self, id: SessionId) -> Result<SessionProgress>;

    /// The current view.
    async fn get_head(&self, id: SessionId) -> Result<Head>;

    /// All sessions that have not ended.
    async fn list_active_sessions(&self) -> Result<SessionList>;

    /// All sessions that the filter lets through.
    async fn list_sessions(&self, filter: SessionFilter) -> Result<SessionList>;

    /// Waits until the session has ended, or is in one of these states before that. What is returned survives power
    /// loss, so whoever is told of it is told of nothing that could be taken back. A session whose owner died is waited
    /// for as well: somebody may resume it.
    async fn wait_for(&self, id: SessionId, states: &[StateName]) -> Result<Head>;

    /// At most `limit` records after revision `after`, as they are stored; fewer only at the end of the log.
    async fn read_log(&self, id: SessionId, after: u64, limit: usize) -> Result<Vec<StoredRecord>>;

    /// Removes a session that has ended, or that nobody owns, with its log.
    async fn delete_session(&self, id: SessionId) -> Result<()>;

    /// Removes all sessions that ended longer than `max_age` ago (7 days if `None`). Returns which.
    async fn cleanup(&self, max_age: Option<Duration>) -> Result<Vec<SessionId>>;

    /// Keeps the work's own data, to go on from after a crash.
    async fn save_checkpoint(&self, id: SessionId, state: Value) -> Result<Tip>;

    /// Loads a session whole. Changes nothing.
    async fn restore_session(&self, id: SessionId) -> Result<PersistedSession>;

    /// Whether whoever keeps the session, its owner or the creator of one not started, lives; `None` where nobody does.
    async fn liveness(&self, id: SessionId) -> Result<Option<Liveness>>;

    /// All orphans, with the evidence. Changes nothing.
    async fn find_crashed_sessions(&self) -> Result<Vec<CrashedSession>>;

    /// Ends, pauses or resumes orphans, each by itself: one bad session never stops the recovery of the others.
    async fn recover(&self, options: RecoveryOptions) -> Result<RecoveryReport>;

    /// Flushes, lets go of every session that this manager owns, and takes no more calls that change anything.
    async fn shutdown(&self) -> Result<()>;

    /// Sends every event that this manager appends from now on, or reads in the logs of sessions that it owns, to a sink;
    /// first the report of the recovery that opening it made, if it made one.
    fn add_sink(&self, sink: Arc<dyn EventSink>);

    /// This manager, to keep.
    fn to_shared(&self) -> Arc<dyn SessionManager>;
}
