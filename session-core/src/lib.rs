//! Durable sessions for long-running work: the part that knows nothing of disks, databases or processes.
//!
//! Programs that run for minutes to days must be visible, stoppable, crash-proof and resumable. Here, **a session is an
//! append-only log of events, and everything else is derived from it**: state, progress, summaries and lists are folds
//! of the log. One primitive changes anything, an append that names the end of the log that it expects; whoever was
//! slower gets a conflict, reads what came in, and decides again. The log is also the only fence: of two processes that
//! take over a crashed session, one wins, and its former owner can never write again.
//!
//! ```
//! use session_core::{InMemorySessionManager, SessionConfig, SessionManagerExt as _};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), session_core::SessionError> {
//! let manager = InMemorySessionManager::new();
//! let report = manager
//!     .run_or_resume("import-2026-11-21", SessionConfig::new("import"), async |session| {
//!         let done: usize = session.last_checkpoint()?.unwrap_or(0); // from the attempt that crashed
//!         let rows = ["a", "b", "c"];
//!         session.progress().start(rows.len());
//!         for (index, row) in rows.iter().enumerate().skip(done) {
//!             session.cancellation().check()?;
//!             session.progress().complete_step(*row);
//!             session.checkpoint(&(index + 1)).await?;
//!         }
//!         Ok(rows.len())
//!     })
//!     .await?;
//! assert_eq!(report.result::<usize>()?, 3);
//! # Ok(()) }
//! ```
//!
//! # Map
//! - What is written: [`SessionEvent`], sealed into records by [`Chain`], folded by [`Head`] under the rules of
//!   [`Lifecycle`].
//! - Ports: [`SessionStorage`] keeps logs, [`Presence`] knows who is alive, [`SessionObserver`] hears facts.
//!   [`MemoryStorage`], [`LocalPresence`] and [`ProcessPresence`] are here; files and databases are crates of their own.
//! - What is called: [`SessionManager`] and, around a closure, [`SessionManagerExt`]; the work holds a [`Session`], with
//!   its [`ProgressTracker`] and [`CancellationToken`].
//! - What goes wrong: [`SessionError`] and [`StorageError`], each with an [`ErrorCode`] that says what to do next.
//!
//! Crates that are visible in the API are re-exported: [`async_trait`], [`chrono`], [`serde_json`], [`tokio`].

// The features that an item needs, where the documentation is built for docs.rs; nothing elsewhere.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod callback;
mod cancellation;
mod code;
mod config;
mod error;
mod event;
mod head;
mod id;
pub mod limits;
mod machine;
mod manager;
mod observer;
mod owner;
mod presence;
mod progress;
mod reason;
mod record;
mod recovery_report;
mod storage;
pub mod text;
mod time;

pub use callback::CallbackGuard;
pub use cancellation::{CancellationSource, CancellationToken, CancelledError};
pub use code::ErrorCode;
pub use config::{ExecutionMode, RecoveryPolicy, SessionConfig, SessionOptions, check_name};
pub use error::{FailureError, Result, SessionError};
pub use event::{Changes, EventKind, FORMAT, Origin, ProgressReport, Role, SessionEvent};
pub use head::{Head, PersistedSession, Totals};
pub use id::{InstanceId, InvalidId, SessionId};
pub use machine::{
    CancelRequest, Lifecycle, PauseRequest, Requests, Rule, SessionState, StateName, TransitionError, rule,
};
pub use manager::{
    Dispatcher, Ending, EventSink, InMemorySessionManager, ManagerOptions, NameCounter,
    ObservableSessionManager, ObserverHealth, PersistentSessionManager, RecoveryOptions, RequestHandling,
    Session, SessionList, SessionManager, SessionManagerExt, SessionReport, WorkError, WorkHandler,
};
pub use observer::{EventContext, SessionObserver};
pub use owner::{Evidence, Owner};
pub use presence::{
    FileSystem, HeldSessionLock, Liveness, LocalPresence, Presence, PresenceGuard, ProcessPresence,
    SessionLock, file_system, this_process,
};
pub use progress::{ProgressTracker, SessionProgress, format_progress};
pub use reason::{Failure, FailureCause, PauseReason, SessionSummary};
pub use record::{
    Chain, ChainError, CheckedLine, DecodeError, Envelope, Record, StoredRecord, Sum, Tip, UnsealedRecord,
    follows,
};
pub use recovery_report::{CrashedSession, RecoveryOutcome, RecoveryReport};
pub use storage::{
    AcceptedLoss, Batch, ChangeFeed, Condition, Durability, Expected, HeadPage, Heads, Imported, Loss,
    MemoryStorage, ReconcileReport, RecordPage, RepairReport, SessionFilter, SessionHealth, SessionStorage,
    SessionStorageExt, Sharing, StorageError, StorageMaintenance, StorageProfile, StoreHealth, Watch,
};
pub use time::{Clock, InvalidTimestamp, SystemClock, Timestamp};

// Visible in the API, so that users need not find out which version it was built with.
pub use {async_trait, chrono, serde_json, tokio};
