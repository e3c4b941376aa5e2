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
    let make = || make().map(ClosedOnDrop);
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

/// A backend that releases its lock when it is dropped. A repair that is aborted drops it without closing it, and a
/// process that another thread has just forked holds its descriptor, and so the lock, until it executes a program.
#[derive(Debug)]
struct ClosedOnDrop<B: StorageBackend>(B);

impl<B: StorageBackend> StorageBackend for ClosedOnDrop<B> {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.0.close()
    }
}

impl<B: StorageBackend> Drop for ClosedOnDrop<B> {
    fn drop(&mut self) {
        // A second time after redb has closed it, which is harmless.
        let _ = self.0.close();
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
    backend.sync_data()
}
