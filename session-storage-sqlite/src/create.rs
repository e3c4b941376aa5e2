//! Creation of a store: built under a temporary name, then renamed, so that no process ever sees an incomplete one.

use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use session_core::StorageError;
use session_storage_engine::{Folders, IoContext as _, StoreId};

use crate::error::DbContext as _;
use crate::schema;
use crate::store::Store;

/// The prefix of the names of databases under construction.
pub(crate) const STAGED: &str = "new-";

impl Store {
    /// Creates the store, unless another process did meanwhile.
    pub(crate) fn create(&self) -> Result<(), StorageError> {
        if self.find_database()?.is_some() {
            return Ok(());
        }
        let folder = self.folders.root();
        Folders::create(folder)?;
        let store = StoreId::random();
        let staged = folder.join(format!("{STAGED}{store}"));
        let created = build_database(&staged, store).and_then(|()| self.publish(&staged));
        if created.is_err() {
            drop(std::fs::remove_file(&staged));
        }
        created
    }

    fn publish(&self, staged: &Path) -> Result<(), StorageError> {
        match session_storage_engine::rename_noreplace(staged, self.path()) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return std::fs::remove_file(staged).context("remove", staged);
            }
            // Another process created the store, and removed this file as a leftover.
            Err(_) if matches!(self.find_database(), Ok(Some(_))) => return Ok(()),
            Err(error) => return Err(error).context("create", self.path()),
        }
        let folder = self.path().parent().unwrap_or(Path::new("/"));
        session_storage_engine::sync_dir(folder).context("flush", folder)
    }
}

fn build_database(path: &Path, store: StoreId) -> Result<(), StorageError> {
    // For this user alone: SQLite gives its other files the mode of the database.
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .context("create", path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let build = || {
        let mut connection = Connection::open_with_flags(path, flags)?;
        // With a rollback journal at first: then the application id is in the file itself, not in a write-ahead log.
        connection.pragma_update(None, "synchronous", "EXTRA")?;
        schema::create(&mut connection, store)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.close().map_err(|(_, error)| error)
    };
    build().context("create", path)
}
