//! Deletion of sessions, and removal of what crashes left in `stage` and `trash`.

use std::io;
use std::path::Path;
use std::sync::Arc;

use session_core::backend::Tip;
use session_core::{SessionId, StorageError};

use crate::disk::Kind;
use crate::error::{IoContext, storage_error};
use crate::format::CreateIfMissing;
use crate::store::Store;

impl Store {
    /// Deletes a session whose log ends with `tip`.
    pub(crate) fn delete(&self, id: SessionId, tip: Tip) -> Result<(), StorageError> {
        // The store's lock first, as everywhere; it prevents a new session with this id until all is removed.
        let Some(_lock) = self.lock_store(CreateIfMissing::No, self.deadline())? else {
            return Err(StorageError::NotFound { id });
        };
        self.clear_leftovers()?;
        let trashed = self.layout.trash().join(id.to_string());
        let deadline = self.deadline();
        self.with_session_lock(&mut None, id, deadline, |handle| {
            let actual = self.read_head(id)?.ok_or(StorageError::NotFound { id })?.tip;
            if actual != tip {
                return Err(StorageError::Conflict { id, expected: Some(tip), actual: Some(actual) });
            }
            let unknown = |error| StorageError::OutcomeUnknown { id, source: Arc::new(error) };
            if let Err(error) = self.disk.rename_new(&handle.paths.dir, &trashed) {
                let error = storage_error("rename", &handle.paths.dir, error);
                let exists = matches!(self.find(id), Ok(Some(_)));
                return Err(if exists { error } else { unknown(error) });
            }
            self.sync_sessions_dir().map_err(unknown)
        })?
        .ok_or(StorageError::NotFound { id })?;
        // The session is deleted: files that cannot be removed now are removed by the next holder of the
        // store's lock.
        let rest = [&trashed, &self.layout.quarantined(id), &self.layout.marker(id)];
        if let Err(error) = rest.into_iter().try_for_each(|path| self.remove_tree(path)) {
            tracing::warn!(session = %id, %error, "could not remove all files of a deleted session");
        }
        Ok(())
    }

    /// Removes what a crash left of sessions that were being created or deleted. The caller holds the store's
    /// lock, so no other process is using them.
    pub(crate) fn clear_leftovers(&self) -> Result<(), StorageError> {
        self.create_folders()?;
        for folder in [self.layout.stage(), self.layout.trash()] {
            let names = self.disk.read_dir(&folder).context("list", &folder)?;
            if !names.is_empty() {
                // The process that deleted a session may have died before that was durable: once emptied, the
                // session must not reappear.
                self.sync_sessions_dir()?;
            }
            for name in names {
                self.remove_tree(&folder.join(name))?;
            }
        }
        Ok(())
    }

    /// Removes a file, link or folder tree; succeeds if it does not exist. Links are not followed.
    pub(crate) fn remove_tree(&self, path: &Path) -> Result<(), StorageError> {
        let ignore_missing = |result: io::Result<()>| match result {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result.context("remove", path),
        };
        match self.disk.kind(path).context("stat", path)? {
            None => Ok(()),
            Some((Kind::Dir, _)) => {
                for name in self.disk.read_dir(path).context("list", path)? {
                    self.remove_tree(&path.join(name))?;
                }
                ignore_missing(self.disk.remove_dir(path))
            }
            Some((Kind::File | Kind::Other, _)) => ignore_missing(self.disk.remove_file(path)),
        }
    }
}
