//! sled storage for `session-core`: an embedded store for one process. This crate provides the guarantees that sled
//! itself does not.
//!
//! ```
//! use session_core::backend::SessionStorageExt as _;
//! use session_core::SessionFilter;
//! use session_storage_sled::{SledStorage, SledStorageOptions};
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = folder.path().join("sessions");
//! let storage = SledStorage::open(SledStorageOptions::new(path))?;
//! // Reading creates nothing: a path without a store is a store without sessions.
//! assert!(storage.list_all(&SessionFilter::all()).await?.heads.is_empty());
//! # Ok::<(), session_core::StorageError>(())
//! # }).unwrap();
//! ```
//!
//! # Guarantees
//!
//! - **What was acknowledged as flushed survives power loss.** sled's `flush` waits with `sync_file_range`, which "does
//!   not flush disk write caches" (`sync_file_range(2)`; sled's `pagecache/iobuf.rs`,
//!   [#1351](https://github.com/spacejam/sled/issues/1351), [#1452](https://github.com/spacejam/sled/issues/1452)), and
//!   large values are not flushed at all (`pagecache/blob_io.rs`). Here, one thread takes all queued requests, applies
//!   each append as one batch, calls the blocking `flush` once, then `fdatasync` of sled's data file (and `fsync` of
//!   new blobs and their folder), records the flush in the marks, and only then replies. sled's flush timer is off;
//!   nothing relies on it, nor on drop.
//! - **An append is stored completely or not at all**: records, head and change counter are one `apply_batch` on one
//!   tree, of which sled recovers all or nothing.
//! - **What was acknowledged as buffered survives the death of the process.** sled buffers in this process, so a
//!   buffered append is followed by sled's `flush` as well, which waits for the disk, though not for its cache: on a
//!   busy one 0.4 to 1 ms, where a flushed append took 3 to 6 ms. There is no append that waits for nothing.
//! - **Loss is never silent.** After bit rot sled can open with acknowledged records missing: during recovery it treats
//!   a message with a wrong checksum as the end of its segment, and continues with the next one
//!   (`pagecache/iterator.rs`). So what was flushed is marked in a separate file, and each read checks the chain of
//!   sums, the head and the mark. A database behind its marks is read-only; sessions that lost something fail with
//!   [`Corrupt`](session_core::StorageError::Corrupt), naming what was stored and what can be read; all others can be
//!   read as before.
//! - **A failed flush is never retried**: the store is closed, waiting callers get an unknown outcome, and the next
//!   opening rewrites the database from what can be read before anything is acknowledged. The same holds after a
//!   process died during a flush.
//! - **After an unclean shutdown** a copy of the database is saved in `aside/` before sled may truncate its log: the
//!   newest copy only, sharing its blocks with the original if the file system supports that (`FICLONE`). On a full disk
//!   the database is opened without a copy, or no session could be deleted to make room.
//! - **A disk that cannot be read costs nothing.** While it opens, sled takes a read that fails for the end of its log, and
//!   cuts that off. So the whole file is read before: an error is met there, and what sled reads then is in memory.
//! - **A stray or damaged snapshot does not keep the store from opening**
//!   ([#1527](https://github.com/spacejam/sled/issues/1527), [#1533](https://github.com/spacejam/sled/issues/1533)): it
//!   is moved to `aside/`, sled reads its full log instead, and the result is compared with the marks.
//! - **Panics and hangs of sled are errors.** sled runs on threads of this crate, where panics are caught, and logged
//!   instead of printed. Waiting ends within seconds after an error of a write in the background, and otherwise after [`engine_timeout`](SledStorageOptions::engine_timeout). `flush_async`, whose threads can all wait for
//!   each other ([#1241](https://github.com/spacejam/sled/issues/1241)), is never called.
//!
//! # Limits
//!
//! - **One process has the store.** A second process gets an error that names the first. What runs inside a session
//!   reports through its owner, so that `run` and `report` need no second one. All handles of one process on one folder
//!   share the database.
//! - **Damage can cost the entire database.** In a tenth to a third of the cases of our damage tests, by store, and for
//!   single bits too, sled panics when it opens ("tried to serialize Uninitialized"). The error then has the number of
//!   stored sessions; the only repair is an earlier copy of `db/`. The file storage loses no more than the damaged
//!   session.
//! - **A loss of sessions that were only ever buffered is not noticed**: marks record flushes only. (A manager flushes
//!   the creation, the changes of state and the end of a session.)
//! - **Within one flush sled may reuse space** that held flushed records, once it has written them elsewhere; a disk
//!   whose cache loses the second write and keeps the first would lose them. Groups of appends are kept below 256 KiB,
//!   half a segment, which makes that rare but does not exclude it. The marks would detect it.
//! - **A hang is permanent.** sled's threads are shared by all databases of a process and not replaced after a panic
//!   (`threadpool.rs`): end the process after a reported hang. A panic of sled inside a destructor that runs because of
//!   another panic would abort the process (`pagecache/reservation.rs`, and `unwrap` in `Drop for Log`); no test of
//!   ours has triggered that.
//! - **After an unclean shutdown opening needs room** for a copy of the database; without it, opening fails with
//!   `STORAGE_FULL`.
//! - **Opening reads much**: all of sled's log after its last snapshot, and a row for each session. The first append to
//!   a session after that reads its log once.
//!
//! # Files
//!
//! ```text
//! STORE/                     0700, not on a network or FUSE file system
//!   FORMAT                   the store's id; written last when a store is created
//!   lock                     held by the process that has the store; contains its pid
//!   unclean                  exists while the database is open, and after an unclean shutdown
//!   db/                      files of sled
//!   marks                    what is known to be flushed
//!   reserve                  4 MiB of room that is given up on a full disk, so that sessions can be listed and deleted
//!   owners/ sessions/<id>/   announcements of owners, captured output
//!   aside/                   the database after the last unclean shutdown; `starts/`: bad snapshots
//!   quarantine/<id>/         what was cut from damaged logs; `FORMAT.<number>`, `marks.<id>`: damaged ones
//! ```
//!
//! Without a readable `FORMAT` only [`open_for_repair`](SledStorage::open_for_repair) opens the store; reconciling it
//! rebuilds the file with the id that marks and database agree on.
//!
//! The rows in sled are in `rows`; `durable` flushes changes, `open` opens a database, and `unclean_shutdown` handles
//! what an unclean shutdown leaves.

// Shows the features that an item needs in the documentation on docs.rs.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod db;
mod durable;
mod engine;
mod error;
mod files;
mod format;
mod format_repair;
mod layout;
mod lock;
mod open;
mod options;
mod panic_guard;
mod queries;
mod reader_pool;
mod repair;
mod rows;
mod storage;
mod store;
mod unclean_shutdown;
mod watchdog;
mod worker;
mod writer;

pub use options::SledStorageOptions;
pub use storage::SledStorage;
