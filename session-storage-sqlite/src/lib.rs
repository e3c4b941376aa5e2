//! `SQLite` storage for `session-core`: all sessions of a store in one database, which many processes of a machine share and
//! which SQL can query.
//!
//! ```
//! use session_core::{SessionFilter, SessionStorageExt as _};
//! use session_storage_sqlite::{SqliteStorage, SqliteStorageOptions};
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = folder.path().join("sessions.db");
//! let storage = SqliteStorage::open(SqliteStorageOptions::new(path))?;
//! // Looking makes nothing: a path without a store is a store without sessions.
//! assert!(storage.list_all(&SessionFilter::all()).await?.heads.is_empty());
//! # Ok::<(), session_core::StorageError>(())
//! # }).unwrap();
//! ```
//!
//! # What is where
//!
//! ```text
//! PATH                       the database, 0600, not below a network or FUSE file system
//! PATH-wal PATH-shm          `SQLite`'s own, beside it
//! PATH-files/                0700
//!   marks                    what is known to be flushed: finds out a database that came back with less
//!   owners/                  for whoever announces owners
//!   sessions/<id>/           what belongs to sessions beside their logs, such as captured output
//!   quarantine/<id>/         what was cut from damaged logs
//! ```
//!
//! # What it promises
//!
//! One thread writes. What has queued up meanwhile is one transaction, with `synchronous=FULL` if anybody in it asked for a
//! flush, so that sessions that are written at the same time share one flush; a change that is refused undoes none of the
//! others. Head and records of an append are one transaction: nothing is ever torn. Transactions without a flush survive the
//! death of the process, not power loss, and are flushed with the next one that is.
//!
//! Readers see one state each, wait for nobody and hold nobody up: while one is at it for long, the write-ahead log grows.
//! Another process that writes is waited for, up to a deadline.
//!
//! # Where to begin reading
//!
//! `storage` is the port, `writer` the one thread that writes and `change` what it does for each; `reader` and `list` look.
//! The tables are in `schema`; `docs/sqlite.md` has what one can ask of them.

mod change;
mod create;
mod error;
mod list;
mod mend;
mod options;
mod reader;
mod request;
mod rows;
mod schema;
mod storage;
mod store;
mod untrusted;
mod writer;

pub use options::SqliteStorageOptions;
pub use storage::SqliteStorage;
