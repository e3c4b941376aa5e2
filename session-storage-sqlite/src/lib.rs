//! `SQLite` storage for `session-core`: all sessions of a store in one database, shared by many processes of a machine
//! and open to SQL queries.
//!
//! ```
//! use session_core::backend::SessionStorageExt as _;
//! use session_core::SessionFilter;
//! use session_storage_sqlite::{SqliteStorage, SqliteStorageOptions};
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = folder.path().join("sessions.db");
//! let storage = SqliteStorage::open(SqliteStorageOptions::new(path))?;
//! // Reading creates nothing: a path without a store is a store without sessions.
//! assert!(storage.list_all(&SessionFilter::all()).await?.heads.is_empty());
//! # Ok::<(), session_core::StorageError>(())
//! # }).unwrap();
//! ```
//!
//! # Files
//!
//! ```text
//! PATH                       the database, 0600, not on a network or FUSE file system
//! PATH-wal PATH-shm          files of `SQLite` itself
//! PATH-files/                0700
//!   marks                    what is known to be flushed: detects a database that came back with less
//!   reserve                  2 MiB of room that is given up on a full disk, so that sessions can be listed and deleted
//!   owners/                  announcements of owners
//!   sessions/<id>/           what sessions have besides their logs, such as captured output
//!   quarantine/<id>/         what was cut from damaged logs; `marks.<id>`: damaged marks
//! ```
//!
//! # Guarantees
//!
//! One thread writes. All requests queued meanwhile become one transaction, with `synchronous=FULL` if one of them asks
//! for a flush, so that sessions written concurrently share one flush; a refused change undoes none of the others. Head
//! and records of an append are one transaction: nothing is ever torn. Transactions without a flush survive the death
//! of the process, not power loss, and are flushed with the next transaction that is.
//!
//! Each read sees one state; reads neither wait for writers nor block them. During a long read the write-ahead log
//! grows. A write waits for a writing process up to a timeout.
//!
//! # Reading order
//!
//! `storage` is the storage port, `writer` the one thread that writes and `transaction` its changes; `reader` and
//! `list` read. The tables are in `schema`; `docs/sqlite.md` has SQL queries for them.

mod create;
mod error;
mod list;
mod options;
mod reader;
mod reflush;
mod repair;
mod request;
mod rows;
mod schema;
mod schema_check;
mod statement_limit;
mod storage;
mod store;
mod transaction;
mod writer;

pub use options::SqliteStorageOptions;
pub use storage::SqliteStorage;
