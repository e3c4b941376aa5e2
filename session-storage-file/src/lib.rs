//! File storage for `session-core`: one readable log per session, in a folder that many processes share.
//!
//! ```
//! use session_core::backend::SessionStorageExt as _;
//! use session_core::SessionFilter;
//! use session_storage_file::{FileStorage, FileStorageOptions};
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = folder.path().join("sessions");
//! let storage = FileStorage::open(FileStorageOptions::new(path))?;
//! // Reading creates nothing: a path without a store is a store without sessions.
//! assert!(storage.list_all(&SessionFilter::all()).await?.heads.is_empty());
//! # Ok::<(), session_core::StorageError>(())
//! # }).unwrap();
//! ```
//!
//! # Layout
//!
//! ```text
//! STORE/                     0700, not below a network or FUSE file system
//!   FORMAT                   written last when a store is created
//!   lock                     creation and deletion of sessions
//!   owners/                  lock files of owners, written by `session-core`
//!   active/<id>              a marker for each unended session
//!   sessions/<id>/
//!     events.jsonl           the log: the source of truth
//!     head.json              two slots: the cached head and the flush mark
//!     lock                   taken by each append and each repair
//!     output/                captured output, written by `session-runner`
//!   stage/ trash/            sessions that are being created and deleted
//!   quarantine/<id>/         bytes that were removed from damaged logs
//!   names.json               the highest numbers of automatic names: a cache
//! ```
//!
//! # Code map
//!
//! `storage` implements the storage traits. Below it are durable appends (`append`), the preparation of a write
//! (`catch_up`), readers (`reader`), reading and classifying a log (`scan`, `condition`), and the file system
//! interface ([`Disk`]). `docs/decisions/0001-file-storage-durability.md` has the reasons.
//!
//! Lock order: the store's lock before a session's. Readers take none.

// On docs.rs only: shows the features that an item needs.
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
mod format_repair;
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
