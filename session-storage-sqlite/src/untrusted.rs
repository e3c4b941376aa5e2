//! After a flush that failed: nobody builds on what it left behind.

use std::path::{Path, PathBuf};

use session_core::StorageError;
use session_storage_engine::Folders;

use crate::error::DbContext as _;
use crate::store::Db;

/// Says that a flush failed: until the write-ahead log was copied into the database and begun anew, nothing is
/// acknowledged, by anyone. Some systems forget what a failed flush should have written, and say nothing the next time.
const UNTRUSTED: &str = "untrusted";

/// The file that says so.
pub(crate) fn untrusted(folders: &Folders) -> PathBuf {
    folders.root().join(UNTRUSTED)
}

/// Copies the write-ahead log into the database, flushes that, and begins the log anew.
pub(crate) fn make_anew(db: &Db, path: &Path) -> Result<(), StorageError> {
    let busy: i64 = db
        .connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
        .context("make anew what could not be flushed in", path)?;
    if busy == 0 {
        return Ok(());
    }
    Err(StorageError::Unavailable {
        what: format!(
            "{} could not be flushed, and is read by another process meanwhile: let it finish, then try again",
            path.display()
        ),
        source: None,
    })
}
