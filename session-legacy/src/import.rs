//! Imports sessions into a storage: each completely or not at all, and none twice.

use session_core::StorageError;
use session_core::backend::{Imported, SessionStorage, SessionStorageExt as _};

use crate::LegacySession;

/// The result of importing a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It was new and is stored now.
    Imported,
    /// It is already stored with the same log.
    Skipped,
    /// A session with its id is stored with another log, because it continued here or in the old tool. Nothing was
    /// changed.
    Conflict,
}

impl LegacySession {
    /// Stores the session, completely or not at all, and flushes it.
    ///
    /// # Errors
    /// Those of [`SessionStorageExt::import`](session_core::backend::SessionStorageExt::import) except `Conflict`.
    pub async fn import<S: SessionStorage + ?Sized>(&self, storage: &S) -> Result<Outcome, StorageError> {
        let lines: Vec<&str> = self.records.iter().map(session_core::StoredRecord::line).collect();
        match storage.import(self.id(), &lines).await {
            Ok(Imported::New(_)) => Ok(Outcome::Imported),
            Ok(Imported::AlreadyThere(_) | _) => Ok(Outcome::Skipped),
            Err(StorageError::Conflict { .. }) => Ok(Outcome::Conflict),
            Err(error) => Err(error),
        }
    }

    /// Returns the result that [`import`](Self::import) would have. Read-only.
    ///
    /// # Errors
    /// Those of [`SessionStorage::head`].
    pub async fn preview<S: SessionStorage + ?Sized>(&self, storage: &S) -> Result<Outcome, StorageError> {
        match storage.head(self.id()).await {
            Ok(None) | Err(StorageError::NotFound { .. }) => Ok(Outcome::Imported),
            Ok(Some(head)) if head.tip == self.head.tip => Ok(Outcome::Skipped),
            Ok(Some(_)) => Ok(Outcome::Conflict),
            Err(error) => Err(error),
        }
    }
}
