//! Durable sessions for long-running work: see what is running and how far it is, stop it, survive a crash, resume
//! where it stopped, and prove afterwards what happened.
//!
//! A session is an append-only log of events; everything else is derived from it. This crate is the front door to
//! [`session_core`] and the crates around it; its features choose where logs are kept.
//!
//! # Typical use
//!
//! One call around the work. It records every outcome of the work in the session, including a panic, a cancellation, a
//! deadline and a dropped future. After a crash the same call resumes from the last checkpoint.
//!
//! ```
//! # #[cfg(feature = "file")] mod example {
//! # use sessionkit::{SessionConfig, SessionManagerExt as _};
//! # #[derive(serde::Serialize, serde::Deserialize, Clone, Copy)]
//! # struct Cursor(usize);
//! # struct Row(usize);
//! # impl Row {
//! #     fn cursor(&self) -> Cursor { Cursor(self.0) }
//! #     fn name(&self) -> String { format!("row {}", self.0) }
//! # }
//! # async fn import(_: &Row) -> std::io::Result<()> { Ok(()) }
//! # #[tokio::main(flavor = "current_thread")]
//! # pub async fn main() -> sessionkit::Result<()> {
//! # let folder = tempfile::tempdir().unwrap();
//! # let url = format!("file:{}", folder.path().join(".sessions").display());
//! # let (url, date, rows) = (url.as_str(), "2026-11-21", (0..3).map(Row).collect::<Vec<_>>());
//! let manager = sessionkit::open(url).await?;                         // "file:.sessions"
//! let report = manager.run_or_resume(&format!("import-{date}"), SessionConfig::new("import"), async |session| {
//!     let done: Option<Cursor> = session.last_checkpoint()?;          // from the attempt that crashed
//!     session.progress().start(rows.len());
//!     for row in rows.iter().skip(done.map_or(0, |Cursor(row)| row + 1)) {
//!         session.cancellation().check()?;                            // or .cancelled().await in a select!
//!         import(row).await?;
//!         session.progress().complete_step(row.name());
//!         session.checkpoint(&row.cursor()).await?;
//!     }
//!     Ok(())
//! }).await?;
//! # assert!(report.is_completed());
//! # assert_eq!(manager.get_progress(report.id).await?.percent, Some(100.0));
//! # Ok(())
//! # }
//! # }
//! # #[cfg(feature = "file")] example::main().unwrap();
//! ```
//!
//! # Map
//!
//! | to | use |
//! |---|---|
//! | open a store | [`open`], [`open_store`], [`builder`], [`StoreUrl`]; [`global`] for the whole process |
//! | open stores of another backend | [`register`], [`Backend`](backend::Backend) |
//! | run work | [`SessionManagerExt::run`], [`SessionManagerExt::run_or_resume`], [`Session`] |
//! | run a program | `#[sessionkit::main]`, [`Store::runner`](Store), `runner` (feature `runner`) |
//! | follow the output of all programs | [`Store::outputs`](Store) (feature `runner`) |
//! | inspect sessions | [`SessionManager::list_sessions`], [`SessionManager::get_progress`], [`SessionManager::read_log`] |
//! | cancel, pause, answer | [`SessionManager::cancel_session`], [`SessionManager::pause_session`], [`SessionManager::append_answer`] |
//! | recover from crashes | [`SessionManager::find_crashed_sessions`], [`SessionManager::recover`] |
//! | receive events | [`SessionObserver`], [`ObservableSessionManager`](manager::ObservableSessionManager), `observers` (features `observer-…`) |
//! | move sessions to another store | [`Store::export`](Store), [`Store::import`](Store), [`Store::migrate`](Store) (feature `runner`) |
//! | import from an older tool | `legacy` (feature `legacy`) |
//! | check and repair what is stored | [`Builder::open_store`], [`Store::maintenance`], [`Store::repair`] |
//!
//! On this page is what most programs name. The rest is in modules: [`manager`] has the options of managers, and what their
//! methods take and return; [`log`] the parts of events; [`storage`] checks, repairs, exports and the backends;
//! [`backend`] the ports, for backends of your own.
//!
//! # Features
//!
//! - `file` (default): stores in a folder, with a readable log for each session.
//! - `sled`, `sqlite`: stores in a database.
//! - `runner` (default): child processes as sessions. Linux; on other systems it adds nothing.
//! - `observer-tracing`, `observer-channel`, `observer-closure`, `observer-progress`: ready-made observers.
//! - `legacy`: import from the stores of older tools.
//! - `full`: all of these.
//! - `mock`: mocks of the ports, for tests: `MockSessionManager`, `MockSessionObserver`; in [`backend`]
//!   `MockSessionStorage` and `MockPresence`.

// On docs.rs, shows the feature that an item needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod backend;
#[cfg(all(feature = "runner", target_os = "linux"))]
mod exchange;
mod global;
mod open;
#[cfg(all(feature = "runner", target_os = "linux"))]
mod outputs;
#[cfg(all(feature = "runner", target_os = "linux"))]
mod programs;
mod registry;
mod repair;
#[cfg(all(feature = "runner", target_os = "linux"))]
mod runtime;
mod schemes;
#[cfg(all(feature = "runner", target_os = "linux"))]
mod step_connections;
mod store;
mod url;
#[cfg(all(feature = "runner", target_os = "linux"))]
pub mod worktree;

pub use session_core::{
    CancelRequest, CancellationToken, ErrorCode, EventContext, Failure, Head, ManagerOptions, PauseRequest,
    ProgressTracker, RecoveryPolicy, Result, Session, SessionConfig, SessionError, SessionEvent,
    SessionFilter, SessionId, SessionManager, SessionManagerExt, SessionObserver, SessionProgress,
    SessionReport, SessionState, SessionSummary, StateName, WorkError, format_progress, format_sessions,
};
#[cfg(feature = "mock")]
pub use session_core::{MockSessionManager, MockSessionObserver, mockall};
pub use session_core::{async_trait, chrono, limits, serde_json, text, tokio};

pub use self::global::{GlobalIsSet, global, set_global};
pub use self::open::{Builder, builder, open, open_store};
pub use self::registry::register;
pub use self::store::Store;
pub use self::url::StoreUrl;

/// Managers: their options, and what their methods take and return.
pub mod manager {
    pub use session_core::{
        CallbackGuard, CancellationSource, CancelledError, Clock, CrashedSession, CrashedSessions,
        Durability, Ending, Events, InMemorySessionManager, ListOrder, Liveness, ObservableSessionManager,
        ObserverHealth, PersistentSessionManager, ProgressWatch, RecoveryOptions, RecoveryOutcome,
        RecoveryReport, RequestHandling, SessionList, SessionOptions, StorageError, SystemClock, WorkHandler,
    };
}

/// The parts of a log, and what is derived from them.
pub mod log {
    pub use session_core::{
        Answer, ChangeKind, Changes, Commit, EventKind, Evidence, ExecutedCommand, ExecutionMode,
        FailureCause, FailureError, FileChange, Hook, InheritedItem, InheritedStep, Input, InputFile,
        InstanceId, Interruption, InvalidId, InvalidTimestamp, ItemFailure, ItemIdentity, ItemMoves,
        ItemStart, ItemTotals, LockFolderId, OpenQuestion, Origin, Owner, OwnerLoss, PauseReason,
        PersistedSession, ProgressReport, Question, Record, Requests, SessionWorktree, StepEnd, StepFailure,
        StepIdentity, StepOccurrence, StepOutcome, StepReason, StepTotals, Stop, StopSource, StoredRecord,
        Timestamp, Totals, TransitionError, WaitTotals, WorkHistory, WorktreeConfig, WorktreePlace,
        WorktreePlan,
    };
}

/// Stores: checks and repairs, the output of programs, and moves to another store.
pub mod storage {
    pub use session_core::maintenance::*;

    #[cfg(all(feature = "runner", target_os = "linux"))]
    pub use crate::exchange::{
        EXPORT_FORMAT, ExchangeError, Export, Import, ImportCheck, ImportPlan, ImportReport, MigratedSession,
        Migration, MigrationOutcome, Output,
    };
    #[cfg(all(feature = "runner", target_os = "linux"))]
    pub use crate::outputs::{OutputEvent, Outputs, OutputsError};
    pub use crate::repair::LossPolicy;

    #[cfg(feature = "file")]
    pub use session_storage_file as file;
    #[cfg(feature = "sled")]
    pub use session_storage_sled as sled;
    #[cfg(feature = "sqlite")]
    pub use session_storage_sqlite as sqlite;
}

/// Durable steps: parts of a session's work that run once, and never again in a later attempt.
pub use session_workflow as workflow;
pub use session_workflow::SessionSteps;

#[cfg(feature = "legacy")]
pub use session_legacy as legacy;
#[cfg(any(
    feature = "observer-tracing",
    feature = "observer-channel",
    feature = "observer-closure",
    feature = "observer-progress"
))]
pub use session_observers as observers;
#[cfg(all(feature = "runner", target_os = "linux"))]
pub use session_runner as runner;

/// Runs an `async fn main` on a Tokio runtime, like `#[tokio::main]`, in a program that runs other programs as sessions.
///
/// Such a program is started a second time for each of them, as its supervisor. The attribute recognises that before
/// anything else happens (see [`runner::supervise_main`]). The runtime has a pool of threads, unless
/// `flavor = "current_thread"` is given. An `fn main` that is not `async` gets no runtime.
///
/// ```no_run
/// use sessionkit::{SessionConfig, runner::Command};
///
/// #[sessionkit::main]
/// async fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let store = sessionkit::open_store("file:.sessions").await?;
///     let mut running = store.runner()?.spawn(SessionConfig::new("build"), Command::new("make")).await?;
///     println!("exit code {}", running.wait().await?.exit_code());
///     Ok(())
/// }
/// ```
#[cfg(all(feature = "runner", target_os = "linux"))]
pub use sessionkit_macros::main;

/// Declares an `async fn` as a test, like `#[tokio::test]`, that runs programs as sessions.
///
/// The test binary is started a second time for each of them, as its supervisor, and runs only this test there, which
/// then supervises instead (see [`runner::supervise_test`]). The runtime is the calling thread, unless
/// `flavor = "multi_thread"` is given.
///
/// ```
/// use sessionkit::{SessionConfig, runner::Command};
///
/// #[sessionkit::test]
/// async fn a_build_succeeds() {
///     let store = sessionkit::open_store("memory:").await.unwrap();
///     let config = SessionConfig::new("build");
///     let mut running = store.runner().unwrap().spawn(config, Command::new("true")).await.unwrap();
///     assert_eq!(running.wait().await.unwrap().exit_code(), 0);
/// }
/// ```
#[cfg(all(feature = "runner", target_os = "linux"))]
pub use sessionkit_macros::test;

/// Called by the attributes.
#[cfg(all(feature = "runner", target_os = "linux"))]
#[doc(hidden)]
pub mod __private {
    pub use crate::runtime::{Flavor, block_on};
}

/// Doc tests of the examples of the README, the guide and the page on steps.
#[cfg(all(doctest, feature = "file", feature = "runner", target_os = "linux"))]
mod pages {
    #[doc = include_str!("../../README.md")]
    struct Readme;
    #[doc = include_str!("../../docs/guide.md")]
    struct Guide;
    #[doc = include_str!("../../docs/steps.md")]
    struct Steps;
}
