//! What redb says, told as what the caller of a storage does next.

use std::io;
use std::sync::Arc;

use redb::{DatabaseError, Error};
use session_core::StorageError;

/// Gives a failed call of redb the words that a caller needs.
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
            error => {
                StorageError::Io { what: "the database cannot be used".to_owned(), source: Arc::new(error) }
            }
        })
    }
}

pub fn closed() -> StorageError {
    StorageError::Closed { what: "the database, until it is opened again,".to_owned(), source: None }
}

pub fn opened(name: &str, error: DatabaseError) -> StorageError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => StorageError::Unavailable {
            what: format!("{name} is open already: share that handle, or end the process that has it"),
            source: None,
        },
        error => {
            StorageError::Io { what: format!("cannot open {name}"), source: Arc::new(Error::from(error)) }
        }
    }
}
