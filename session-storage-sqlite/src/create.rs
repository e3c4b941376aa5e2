//! The making of a store: out of sight, whole, then renamed to its place, so that nobody ever sees a part of one.

use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use session_core::StorageError;
use session_storage_engine::{Folders, IoContext as _, StoreId};

use crate::error::DbContext as _;
use crate::schema;
use crate::store::Store;

/// Begins the names of databases that are being made.
pub(crate) const STAGED: &str = "new-";

impl Store {
    /// Makes the store, unless somebody else did meanwhile.
    pub(crate) fn create(&self) -> Result<(), StorageError> {
        if self.look()?.is_some() {
            return Ok(());
        }
        let folder = self.folders.root();
        Folders::make(folder)?;
        let store = StoreId::random();
        let staged = folder.join(format!("{STAGED}{store}"));
        let made = build(&staged, store).and_then(|()| self.put(&staged));
        if made.is_err() {
            drop(std::fs::remove_file(&staged));
        }
        made
    }

    fn put(&self, staged: &Path) -> Result<(), StorageError> {
        match session_storage_engine::rename_new(staged, self.path()) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return std::fs::remove_file(staged).context("remove", staged);
            }
            // Somebody else made the store, and cleared this away.
            Err(_) if matches!(self.look(), Ok(Some(_))) => return Ok(()),
            Err(error) => return Err(error).context("create", self.path()),
        }
        let folder = self.path().parent().unwrap_or(Path::new("/"));
        session_storage_engine::sync_dir(folder).context("flush", folder)
    }
}

fn build(path: &Path, store: StoreId) -> Result<(), StorageError> {
    // For this user alone: SQLite gives the files beside a database the rights of the database.
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .context("create", path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let build = || {
        let mut connection = Connection::open_with_flags(path, flags)?;
        // With a journal at first: what says that it is ours is then in the file itself.
        connection.pragma_update(None, "synchronous", "EXTRA")?;
        schema::create(&mut connection, store)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.close().map_err(|(_, error)| error)
    };
    build().context("create", path)
}
