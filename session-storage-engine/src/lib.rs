//! Building blocks shared by the storages for `session-core` that use an embedded database. For authors of such a
//! storage, not for applications.
//!
//! A database promises that a transaction is stored completely or not at all, and that a flushed one survives power
//! loss. It does not promise to notice that it came back with less: after a missing write-ahead log, after a restored
//! copy from yesterday, and after a recovery that truncates what it cannot read, the database looks like a healthy
//! store that is a little older. So what was acknowledged is also recorded in a file next to the database.
//!
//! ```
//! use session_storage_engine::{Marks, StoreId};
//!
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = folder.path().join("marks");
//! let marks = Marks::open(&path, StoreId::random())?;
//! // The database's own change counter: it is behind the marks exactly if the database lost something.
//! let change_in_the_database = 0;
//! assert!(change_in_the_database >= marks.change());
//! # Ok::<(), session_core::StorageError>(())
//! ```
//!
//! # Map
//! - [`Marks`]: what is known to be flushed, in a file that many processes append to.
//! - [`Audit`]: the condition of one session, by the same rules as in the file storage; [`page`] checks what a reader
//!   gets.
//! - [`GroupCommit`]: a thread that processes all queued requests as one group.
//! - [`Folders`]: the files and folders next to the database, and checks of what is in their place; [`stat_path`] reads
//!   file identity and type.
//! - [`Reserve`]: room on the disk that is given up on a full one, so that sessions can be listed and deleted.

mod audit;
mod error;
mod file_stat;
mod folders;
mod group_commit;
mod marks;
mod page;
mod reserve;

pub use audit::{Audit, Auditor, refuse_while_owned};
pub use error::{IoContext, storage_error};
pub use file_stat::{FileIdentity, FileKind, stat_path};
pub use folders::{Folders, QuarantinedLines, refuse_remote, rename_noreplace, sync_dir};
pub use group_commit::{GroupCommit, Job, Limits, WorkerGone};
pub use marks::{Mark, Marks, MarksSummary, StoreId};
pub use page::{Page, page};
pub use reserve::Reserve;
