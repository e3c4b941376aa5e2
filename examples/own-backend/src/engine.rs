//! The open database. After a failure it is reopened, and reads only what is known to be on the disk.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use redb::{Database, DatabaseError, StorageBackend};
use session_core::StorageError;

use crate::error::{IntoStorageError as _, open_failed};
use crate::log::{HEADS, RECORDS, UNENDED};

type Open = dyn Fn() -> Result<Database, DatabaseError> + Send + Sync;

pub struct Engine {
    name: String,
    open: Box<Open>,
    /// `None` after a failure.
    database: Mutex<Option<Arc<Database>>>,
}

impl Engine {
    pub fn new<B: StorageBackend>(
        name: &str,
        make: impl Fn() -> io::Result<B> + Send + Sync + 'static,
    ) -> Self {
        let open = Box::new(move || open(&make));
        Self { name: name.to_owned(), open, database: Mutex::default() }
    }

    /// Returns the database, and opens it if it is closed.
    pub fn database(&self) -> Result<Arc<Database>, StorageError> {
        let mut open = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(database) = &*open {
            return Ok(Arc::clone(database));
        }
        let database = (self.open)().map_err(|error| open_failed(&self.name, error))?;
        // Opening a table for writing creates it; reading a table that does not exist is an error.
        let write = database.begin_write().storage_error()?;
        write.open_table(HEADS).storage_error()?;
        write.open_table(RECORDS).storage_error()?;
        write.open_table(UNENDED).storage_error()?;
        write.commit().storage_error()?;
        Ok(Arc::clone(open.insert(Arc::new(database))))
    }

    /// Closes the database; the next call reopens it.
    pub fn close(&self) {
        self.database.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("name", &self.name).finish_non_exhaustive()
    }
}

fn open<B: StorageBackend>(make: &impl Fn() -> io::Result<B>) -> Result<Database, DatabaseError> {
    let clean =
        Database::builder().set_repair_callback(redb::RepairSession::abort).create_with_backend(make()?);
    match clean {
        Err(DatabaseError::RepairAborted) => {
            write_again(&make()?)?;
            Database::builder().create_with_backend(make()?)
        }
        opened => opened,
    }
}

/// Rewrites the whole file. The database was not closed cleanly, so a flush may have failed: what the operating system
/// then shows may be missing on the disk, and no later flush stores it. Data that is written again will be flushed.
fn write_again(backend: &impl StorageBackend) -> io::Result<()> {
    let (length, mut bytes) = (backend.len()?, vec![0; 1 << 20]);
    let mut at = 0;
    while at < length {
        let size = usize::try_from(length - at).unwrap_or(usize::MAX).min(bytes.len());
        let part = bytes.get_mut(..size).unwrap_or_default();
        backend.read(at, part)?;
        backend.write(at, part)?;
        at += size as u64;
    }
    backend.sync_data()?;
    backend.close()
}
