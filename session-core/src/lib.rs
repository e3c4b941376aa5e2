//! Durable sessions for long-running work: the core, independent of disks, databases and child processes.
//!
//! Programs that run for minutes to days must be visible, stoppable, crash-proof and resumable. Here, **a session is an
//! append-only log of events, and everything else is derived from it**: state, progress, summaries and lists are folds
//! of the log. The only way to change a session is an append that names the end of the log that it expects. A process
//! that was slower gets a conflict, reads the new records, and decides again. The log is also the only fence: if two
//! processes take over a crashed session, one append succeeds, and the former owner can never write again.
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
//! - Data: a [`SessionEvent`] is sealed into a record by a [`Chain`](backend::Chain), and folded into a [`Head`] under the
//!   rules of [`Lifecycle`](backend::Lifecycle).
//! - Ports, in [`backend`]: [`SessionStorage`](backend::SessionStorage) stores logs, [`Presence`](backend::Presence)
//!   detects which owners are alive; [`SessionObserver`] receives events.
//!   [`MemoryStorage`](backend::MemoryStorage), [`LocalPresence`](backend::LocalPresence) and
//!   [`ProcessPresence`](backend::ProcessPresence) are in this crate; storage in files and databases is in crates of its
//!   own. [`maintenance`] checks and repairs what is stored.
//! - Operations: [`SessionManager`] and, for running closures, [`SessionManagerExt`]. The work receives a [`Session`]
//!   with its [`ProgressTracker`] and [`CancellationToken`].
//! - Errors: [`SessionError`] and [`StorageError`], each with an [`ErrorCode`] that has an exit code and advice.
//!
//! Crates that are part of the API are re-exported: [`async_trait`], [`chrono`], [`serde_json`], [`tokio`].
//!
//! # Mocks
//! With the feature `mock`, each port has a mock of [mockall](https://docs.rs/mockall), for tests of code that calls it:
//! `MockSessionManager`, `MockSessionObserver`, and in [`backend`] `MockSessionStorage` and `MockPresence`. The feature is outside semver.
//!
//! ```
//! # #[cfg(feature = "mock")] mod example {
//! use session_core::{MockSessionManager, SessionConfig, SessionId, SessionManager};
//!
//! /// The code to be tested.
//! async fn import(manager: &dyn SessionManager) -> session_core::Result<SessionId> {
//!     manager.create_session(SessionConfig::new("import").label("team", "data")).await
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] pub async fn main() {
//! let mut manager = MockSessionManager::new();
//! let id = SessionId::random();
//! manager.expect_create_session().once().withf(|config| config.labels["team"] == "data").returning(move |_| Ok(id));
//! assert_eq!(import(&manager).await.unwrap(), id);
//! # }
//! # }
//! # #[cfg(feature = "mock")] example::main();
//! ```

// Shows the features that an item needs in the documentation on docs.rs.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod blocking;
mod callback;
mod cancellation;
mod code;
mod config;
mod error;
mod event;
mod head;
mod history;
mod id;
mod leftovers;
pub mod limits;
mod log_writer;
mod machine;
mod manager;
mod observer;
pub mod os_text;
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
pub use config::{ExecutionMode, RecoveryPolicy, SessionConfig, SessionOptions, WorktreeConfig};
pub use error::{FailureError, Result, SessionError};
pub use event::{
    Answer, ChangeKind, Changes, Commit, EventKind, FileChange, Hook, InheritedItem, InheritedStep, Input,
    InputFile, ItemFailure, ItemIdentity, ItemMoves, ItemStart, Origin, ProgressReport, Question,
    SessionEvent, SessionWorktree, StepEnd, StepFailure, StepIdentity, StepOccurrence, StepOutcome,
    StepReason, Terminal, WorktreePlan,
};
pub use head::{
    Head, ItemTotals, OpenQuestion, PersistedSession, StepTotals, Totals, WaitTotals, WorktreePlace,
};
pub use history::{ExecutedCommand, WorkHistory};
pub use id::{InstanceId, InvalidId, LockFolderId, SessionId};
pub use machine::{
    CancelRequest, PauseRequest, ProgramEnd, Requests, SessionState, StateName, StopRequest, TransitionError,
};
pub use manager::{
    Ending, Events, InMemorySessionManager, ManagerOptions, ObservableSessionManager, ObserverHealth,
    PersistentSessionManager, ProgressWatch, RecoveryOptions, RequestHandling, Session, SessionList,
    SessionManager, SessionManagerExt, SessionReport, WorkError, WorkHandler,
};
pub use observer::{EventContext, SessionObserver};
pub use owner::{Evidence, Owner, OwnerLoss, Stop, StopSource};
pub use presence::Liveness;
pub use progress::{ProgressTracker, SessionProgress, format_progress, format_sessions};
pub use reason::{Failure, FailureCause, Interruption, PauseReason, SessionSummary};
pub use record::{Record, StoredRecord};
pub use recovery_report::{CrashedSession, CrashedSessions, RecoveryOutcome, RecoveryReport};
pub use storage::{Durability, ListOrder, SessionFilter, StorageError};
pub use time::{Clock, InvalidTimestamp, SystemClock, Timestamp};

#[cfg(feature = "mock")]
pub use {manager::MockSessionManager, observer::MockSessionObserver};

/// The ports and parts for those who write a backend, or put a manager together: storage and presence, records and their
/// seals, the state machine.
pub mod backend {
    pub use crate::blocking::blocking;
    pub use crate::config::check_name;
    pub use crate::event::{FORMAT, Role};
    pub use crate::leftovers::Leftovers;
    pub use crate::log_writer::{CheckedLog, Imported};
    pub use crate::machine::{Lifecycle, Rule, rule};
    pub use crate::manager::{Dispatcher, EventSink, NameCounter};
    pub use crate::presence::{
        FileSystem, HeldSessionLock, LocalPresence, Presence, PresenceGuard, ProcessPresence, SessionLock,
        file_system, this_process,
    };
    pub use crate::record::{
        Chain, ChainError, CheckedLine, DecodeError, Envelope, Sum, Tip, UnsealedRecord, follows,
    };
    pub use crate::storage::{
        Batch, BatchRecords, ChangeFeed, Expected, HeadPage, Heads, LogPages, MemoryStorage, PAGE_BYTES,
        PageRoom, RecordPage, SessionStorage, SessionStorageExt, Sharing, StorageProfile, Watch,
    };
    #[cfg(feature = "mock")]
    pub use crate::{presence::MockPresence, storage::MockSessionStorage};
}

/// Checks and repairs of what is stored, and their reports.
pub mod maintenance {
    pub use crate::log_writer::record_loss;
    pub use crate::storage::{
        AcceptedLoss, Condition, Loss, ReconcileReport, RepairReport, SessionHealth, StorageMaintenance,
        StoreHealth,
    };
}

// Part of the API: re-exported, so that users get the version that this crate was built with.
#[cfg(feature = "mock")]
pub use mockall;
pub use {async_trait, chrono, serde_json, tokio};
