//! Mapping of redb's errors to storage errors.

use std::io;
use std::sync::Arc;

use redb::{DatabaseError, Error};
use session_core::StorageError;

/// Conversion of the result of a redb call to that of a storage call.
pub trait IntoStorageError<T> {
    fn storage_error(self) -> Result<T, StorageError>;
}

impl<T, E: Into<Error>> IntoStorageError<T> for Result<T, E> {
    fn storage_error(self) -> Result<T, StorageError> {
        self.map_err(|error| match error.into() {
            Error::Io(error) if error.kind() == io::ErrorKind::StorageFull => {
                StorageError::Full { what: "the database".to_owned(), source: Arc::new(error) }
            }
            Error::PreviousIo | Error::DatabaseClosed => closed(),
            error => StorageError::Io { what: "cannot use the database".to_owned(), source: Arc::new(error) },
        })
    }
}

pub fn closed() -> StorageError {
    StorageError::Closed { what: "the database".to_owned(), source: None }
}

pub fn open_failed(name: &str, error: DatabaseError) -> StorageError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => StorageError::Unavailable {
            what: format!("{name} is already open: share that handle, or stop the process that holds it"),
            source: None,
        },
        error => {
            StorageError::Io { what: format!("cannot open {name}"), source: Arc::new(Error::from(error)) }
        }
    }
}
