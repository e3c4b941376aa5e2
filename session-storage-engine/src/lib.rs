//! What storages for `session-core` over an embedded database share. For whoever writes one, not for users.
//!
//! A database promises that a transaction is there whole or not at all, and that a flushed one survives power loss. It
//! does not promise to notice that it came back with less than that: a missing write-ahead log, a copy from yesterday and
//! an engine that cuts what it cannot read all look like a healthy store that is a little older. So what was acknowledged
//! is noted beside the database too.
//!
//! ```
//! use session_storage_engine::{Marks, StoreId};
//!
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = folder.path().join("marks");
//! let marks = Marks::open(&path, StoreId::random())?;
//! // The database's own counter of changes: it is behind the marks exactly if it lost something.
//! let change_in_the_database = 0;
//! assert!(change_in_the_database >= marks.change());
//! # Ok::<(), session_core::StorageError>(())
//! ```
//!
//! # Map
//! - [`Marks`]: what is known to be flushed, in a file that many processes append to.
//! - [`Audit`]: the verdict on one session, the same as that of the file storage; [`page`] checks what a reader gets.
//! - [`GroupCommit`]: a thread that does at once what has queued up.
//! - [`Folders`]: the files and folders beside the database, and what must not be there; [`identity_at`] looks.

mod audit;
mod error;
mod folders;
mod group;
mod look;
mod marks;
mod page;

pub use audit::{Audit, Auditor, refuse_while_owned};
pub use error::{IoContext, storage_error};
pub use folders::{Folders, refuse_remote, rename_new, sync_dir};
pub use group::{GroupCommit, Job, Limits, WorkerGone};
pub use look::{Identity, Kind, identity_at};
pub use marks::{Mark, Marks, MarksSummary, StoreId};
pub use page::{Page, page};
