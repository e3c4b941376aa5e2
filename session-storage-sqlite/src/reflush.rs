//! Recovery from a failed flush: no process commits on top of it before the write-ahead log was flushed again.

use std::path::{Path, PathBuf};

use session_core::StorageError;
use session_storage_engine::Folders;

use crate::error::DbContext as _;
use crate::store::Db;

/// The name of the file that marks a failed flush: until the write-ahead log was copied into the database and
/// restarted, no process acknowledges anything. Some systems drop the data of a failed flush, and report no error the
/// next time.
const MARKER: &str = "untrusted";

/// Returns the path of the marker file.
pub(crate) fn reflush_marker(folders: &Folders) -> PathBuf {
    folders.root().join(MARKER)
}

/// Copies the write-ahead log into the database, flushes the database, and restarts the log.
pub(crate) fn reflush(db: &Db, path: &Path) -> Result<(), StorageError> {
    let busy: i64 = db
        .connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
        .context("flush again", path)?;
    if busy == 0 {
        return Ok(());
    }
    Err(StorageError::Unavailable {
        what: format!(
            "{} has a failed flush and is being read by another process: let that process finish, then try again",
            path.display()
        ),
        source: None,
    })
}
