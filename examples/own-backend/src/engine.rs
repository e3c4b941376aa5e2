//! The database, opened anew after a failure, and only on what is known to be on the disk.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use redb::{Database, DatabaseError, StorageBackend};
use session_core::StorageError;

use crate::error::{IntoStorageError as _, opened};
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

    /// The database, opened if it is not.
    pub fn database(&self) -> Result<Arc<Database>, StorageError> {
        let mut open = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(database) = &*open {
            return Ok(Arc::clone(database));
        }
        let database = (self.open)().map_err(|error| opened(&self.name, error))?;
        // A table exists once it was opened for writing, and reading one that does not is an error.
        let write = database.begin_write().storage_error()?;
        write.open_table(HEADS).storage_error()?;
        write.open_table(RECORDS).storage_error()?;
        write.open_table(UNENDED).storage_error()?;
        write.commit().storage_error()?;
        Ok(Arc::clone(open.insert(Arc::new(database))))
    }

    /// Nobody uses the database any more as it is now.
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

/// It was not closed in peace, so a flush may have failed before: what the system then shows need not be on the disk, and
/// no later flush will bring it there. What is written again will be.
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
