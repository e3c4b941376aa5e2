//! Durable sessions for long-running work: see what is running and how far it is, stop it, survive a crash, resume
//! where it stopped, and prove afterwards what happened.
//!
//! A session is an append-only log of events; everything else is derived from it. This crate is the front door: it
//! re-exports [`session_core`], and its features choose where logs are kept.
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
//! | open a store | [`open`], [`builder`], [`StoreUrl`]; [`global`] for the whole process |
//! | run work | [`SessionManagerExt::run`], [`SessionManagerExt::run_or_resume`], [`Session`] |
//! | run a program | `runner` (feature `runner`) |
//! | inspect sessions | [`SessionManager::list_sessions`], [`SessionManager::get_progress`], [`SessionManager::read_log`] |
//! | cancel, pause, provide input | [`SessionManager::cancel_session`], [`SessionManager::pause_session`], [`SessionManager::provide_input`] |
//! | recover from crashes | [`SessionManager::find_crashed_sessions`], [`SessionManager::recover`] |
//! | receive events | [`SessionObserver`], `observers` (features `observer-…`) |
//! | move sessions to another store | [`Store::export`](Store), [`Store::import`](Store), [`Store::migrate`](Store) (feature `runner`) |
//! | import from an older tool | `legacy` (feature `legacy`) |
//! | check and repair what is stored | [`Builder::open_store`], [`Store::maintenance`], [`Store::repair`] |
//!
//! # Features
//!
//! - `file` (default): stores in a folder, with a readable log for each session.
//! - `sled`, `sqlite`: stores in a database.
//! - `runner` (default): child processes as sessions.
//! - `observer-tracing`, `observer-channel`, `observer-closure`, `observer-progress`: ready-made observers.
//! - `legacy`: import from the stores of older tools.
//! - `full`: all of them.

// On docs.rs, shows the feature that an item needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "runner")]
mod exchange;
mod global;
mod open;
mod repair;
mod store;
mod url;

pub use session_core::*;

#[cfg(feature = "runner")]
pub use self::exchange::{
    EXPORT_FORMAT, ExchangeError, Export, Import, ImportCheck, ImportPlan, ImportReport, MigratedSession,
    Migration, MigrationOutcome, Output,
};
pub use self::global::{GlobalIsSet, global, set_global};
pub use self::open::{Builder, builder, open};
pub use self::repair::LossPolicy;
pub use self::store::Store;
pub use self::url::StoreUrl;

#[cfg(feature = "legacy")]
pub use session_legacy as legacy;
#[cfg(any(
    feature = "observer-tracing",
    feature = "observer-channel",
    feature = "observer-closure",
    feature = "observer-progress"
))]
pub use session_observers as observers;
#[cfg(feature = "runner")]
pub use session_runner as runner;
#[cfg(feature = "file")]
pub use session_storage_file as file;
#[cfg(feature = "sled")]
pub use session_storage_sled as sled;
#[cfg(feature = "sqlite")]
pub use session_storage_sqlite as sqlite;

/// Doc tests of the README's and the guide's examples.
#[cfg(all(doctest, feature = "file"))]
mod pages {
    #[doc = include_str!("../../README.md")]
    struct Readme;
    #[doc = include_str!("../../docs/guide.md")]
    struct Guide;
}
