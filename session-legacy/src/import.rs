//! Stores what was found: each session all or nothing, and none twice.

use session_core::{Imported, SessionStorage, SessionStorageExt as _, StorageError};

use crate::LegacySession;

/// What becomes of a session that is imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It was not there, and is now.
    Imported,
    /// It was there already, with this very log.
    Skipped,
    /// A session of its id is there with another log: one that went on since, here or in the old tool. Nothing was
    /// changed.
    Conflict,
}

impl LegacySession {
    /// Stores the session, all of it or nothing, and flushes it.
    ///
    /// # Errors
    /// Those of [`SessionStorageExt::import`](session_core::SessionStorageExt::import) except `Conflict`.
    pub async fn import<S: SessionStorage + ?Sized>(&self, storage: &S) -> Result<Outcome, StorageError> {
        let lines: Vec<&str> = self.records.iter().map(session_core::StoredRecord::line).collect();
        match storage.import(self.id(), &lines).await {
            Ok(Imported::New(_)) => Ok(Outcome::Imported),
            Ok(Imported::AlreadyThere(_) | _) => Ok(Outcome::Skipped),
            Err(StorageError::Conflict { .. }) => Ok(Outcome::Conflict),
            Err(error) => Err(error),
        }
    }

    /// What [`import`](Self::import) would do. Changes nothing.
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
