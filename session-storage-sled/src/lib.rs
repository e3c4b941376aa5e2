//! sled storage for `session-core`: an embedded store for one process, whose promises are kept from outside where sled itself
//! does not keep them.
//!
//! ```
//! use session_core::{SessionFilter, SessionStorageExt as _};
//! use session_storage_sled::{SledStorage, SledStorageOptions};
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = folder.path().join("sessions");
//! let storage = SledStorage::open(SledStorageOptions::new(path))?;
//! // Looking makes nothing: a path without a store is a store without sessions.
//! assert!(storage.list_all(&SessionFilter::all()).await?.heads.is_empty());
//! # Ok::<(), session_core::StorageError>(())
//! # }).unwrap();
//! ```
//!
//! # What holds
//!
//! - **What was acknowledged as flushed survives power loss.** sled's `flush` waits with `sync_file_range`, which "does not
//!   flush disk write caches" (`sync_file_range(2)`; sled's `pagecache/iobuf.rs`,
//!   [#1351](https://github.com/spacejam/sled/issues/1351), [#1452](https://github.com/spacejam/sled/issues/1452)), and large
//!   values are not flushed at all (`pagecache/blob_io.rs`). Here, one thread gathers what has queued up, applies each append
//!   as one batch, calls the blocking `flush` once, then `fdatasync` of sled's data file (and `fsync` of new blobs and their
//!   folder), notes it in the marks, and only then answers. sled's timer is off; nothing relies on it, nor on drop.
//! - **An append is there whole or not at all**: records, head and counter are one `apply_batch` on one tree, of which sled
//!   recovers all or nothing.
//! - **What was acknowledged as buffered survives the death of the process.** sled buffers in this process, so a buffered
//!   append is followed by sled's `flush` as well, which waits for the disk, though not for its cache: on a busy one 0.4 to
//!   1 ms, where a flushed append took 3 to 6 ms. There is no append that waits for nothing.
//! - **Loss is never silent.** After bit rot sled can open with acknowledged records missing: while it recovers, a message
//!   with a wrong sum counts as the end of its segment, and it goes on with the next one (`pagecache/iterator.rs`). So what
//!   was flushed is marked in a file beside it, and each look checks the chain of sums, the head and the mark. A database
//!   behind its marks is read-only; sessions that lost something say
//!   [`Corrupt`](session_core::StorageError::Corrupt) with what was stored and what can be read, all others are read as ever.
//! - **A flush that failed is never tried again**: the store is closed, whoever waited is told that the outcome is unknown,
//!   and the next opening writes the database anew from what can be read before anything is acknowledged. The same after a
//!   process died in the midst of a flush.
//! - **After an end without a goodbye** a copy of the database is set aside in `aside/` before sled may cut its log: the
//!   newest only, sharing its blocks with the original where the file system can do that (`FICLONE`).
//! - **A stray or damaged snapshot does not keep the store from opening**
//!   ([#1527](https://github.com/spacejam/sled/issues/1527), [#1533](https://github.com/spacejam/sled/issues/1533)): it is set
//!   aside, sled reads its whole log instead, and the result is compared with the marks.
//! - **Panics and hangs of sled are errors.** It runs on threads of ours, where panics are caught and waiting ends after
//!   [`engine_timeout`](SledStorageOptions::engine_timeout). `flush_async`, whose threads can all wait for each other
//!   ([#1241](https://github.com/spacejam/sled/issues/1241)), is never called.
//!
//! # What does not
//!
//! - **One process has the store.** A second one is told who has it. What runs inside a session reports through its owner,
//!   so that `run` and `report` need no second one. All handles of one process on one folder share the database.
//! - **Damage can cost all of it.** In a tenth to a third of the cases of our damage tests, by store, and single bits
//!   suffice, sled panics when it opens ("tried to serialize Uninitialized"). That is an error which says how many sessions there were;
//!   there is no repair but a copy of `db/` from before. The file storage loses no more than what was hit.
//! - **A loss of sessions that were only ever buffered is not noticed**: marks tell of what was flushed. (A manager flushes
//!   what creates, changes and ends a session.)
//! - **Within one flush sled may use space again** that held flushed records, once it has written them elsewhere; a disk
//!   whose cache loses the second write and keeps the first would lose them. Groups of appends are kept below 256 KiB, half
//!   a segment, which makes that rare and does not exclude it. The marks would tell.
//! - **A hang stays.** sled's threads are shared by all databases of a process and not replaced after a panic
//!   (`threadpool.rs`): whoever is told of a hang should end the process. A panic of sled's inside a destructor that runs
//!   because of another panic would end it at once (`pagecache/reservation.rs`, and `unwrap` in `Drop for Log`): no test of
//!   ours has come to that.
//! - **After an unclean end opening needs room** for a copy of the database; without it, it says `STORAGE_FULL`.
//! - **Opening reads much**: all of sled's log behind its last snapshot, and a row for each session. The first append to a
//!   session after that reads its log once.
//!
//! # What is where
//!
//! ```text
//! STORE/                     0700, not below a network or FUSE file system
//!   FORMAT                   written last when a store is made
//!   lock                     held by the process that has the store; its pid
//!   unclean                  there while the database is open, and after an unclean end
//!   db/                      sled's own
//!   marks                    what is known to be flushed
//!   owners/ sessions/<id>/   for whoever announces owners and captures output
//!   aside/                   the database as the last unclean end left it; `starts/`: snapshots that were in the way
//!   quarantine/<id>/         what was cut from damaged logs
//! ```
//!
//! The rows in sled are in `rows`; how a change becomes durable is in `durable`, how a database is opened in `open`, what an
//! unclean end leaves in `unclean`.

// The features that an item needs, where the documentation is built for docs.rs; nothing elsewhere.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod db;
mod durable;
mod engine;
mod error;
mod files;
mod format;
mod layout;
mod lock;
mod open;
mod options;
mod queries;
mod reader_pool;
mod repair;
mod rows;
mod storage;
mod store;
mod unclean_shutdown;
mod worker;
mod writer;

pub use options::SledStorageOptions;
pub use storage::SledStorage;
