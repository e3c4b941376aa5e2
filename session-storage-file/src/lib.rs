//! File storage for `session-core`: one readable log per session, in a folder that many processes share.
//!
//! ```
//! use session_core::{SessionFilter, SessionStorageExt as _};
//! use session_storage_file::{FileStorage, FileStorageOptions};
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = folder.path().join("sessions");
//! let storage = FileStorage::open(FileStorageOptions::new(path))?;
//! // Looking makes nothing: a path without a store is a store without sessions.
//! assert!(storage.list_all(&SessionFilter::all()).await?.heads.is_empty());
//! # Ok::<(), session_core::StorageError>(())
//! # }).unwrap();
//! ```
//!
//! # What is where
//!
//! ```text
//! STORE/                     0700, not below a network or FUSE file system
//!   FORMAT                   written last when a store is made
//!   lock                     the making and deleting of sessions
//!   owners/                  for whoever announces owners
//!   active/<id>              a marker for each unended session
//!   sessions/<id>/
//!     events.jsonl           the log: the truth
//!     head.json              two slots: the head, and what is known to be flushed
//!     lock                   each append and each repair
//!     output/                for whoever captures output
//!   stage/ trash/            sessions on their way in and out
//!   quarantine/<id>/         what was cut from damaged logs
//!   names.json               how far automatic names have come: a cache
//! ```
//!
//! # Where to begin reading
//!
//! `storage` is the port. Below it, each in a module: how an append becomes durable (`durable`), what a writer does
//! before (`catch_up`), readers (`read`), what a log shows (`scan`, `condition`), and the seam to the system
//! ([`Disk`]). The reasons are in `docs/decisions/0001-file-storage-durability.md`.
//!
//! Lock order: the store's lock before a session's. Readers take none.

// The features that an item needs, where the documentation is built for docs.rs; nothing elsewhere.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod append;
mod catch_up;
mod condition;
mod creation;
mod deletion;
mod disk;
mod error;
#[cfg(feature = "fault-disk")]
pub mod fault;
mod format;
mod handle;
mod layout;
mod lock;
mod names;
mod options;
mod pool;
mod quarantine;
mod reader;
mod reconciliation;
mod repair;
mod scan;
mod session_queues;
mod slots;
mod storage;
mod store;

pub use disk::{Disk, DiskFile, Identity, Kind, LockMode, Open, RealDisk};
pub use options::FileStorageOptions;
pub use storage::FileStorage;
