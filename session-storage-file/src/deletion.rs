//! The deletion of sessions, and of what crashes left out of sight.

use std::io;
use std::path::Path;
use std::sync::Arc;

use session_core::{SessionId, StorageError, Tip};

use crate::disk::Kind;
use crate::error::{IoContext, storage_error};
use crate::format::CreateIfMissing;
use crate::store::Store;

impl Store {
    /// Deletes a session whose log ends with `tip`.
    pub(crate) fn delete(&self, id: SessionId, tip: Tip) -> Result<(), StorageError> {
        // The store's lock first, as everywhere; it keeps the id from being created again before all is gone.
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
                let there = matches!(self.find(id), Ok(Some(_)));
                return Err(if there { error } else { unknown(error) });
            }
            self.sync_sessions_dir().map_err(unknown)
        })?
        .ok_or(StorageError::NotFound { id })?;
        // It is deleted: what cannot be cleared away now is cleared by whoever takes the store's lock next.
        let rest = [&trashed, &self.layout.quarantined(id), &self.layout.marker(id)];
        if let Err(error) = rest.into_iter().try_for_each(|path| self.remove_tree(path)) {
            tracing::warn!(session = %id, %error, "a part of a deleted session is left");
        }
        Ok(())
    }

    /// Removes what a crash left of sessions that were being made or deleted; the store's lock is held, so that
    /// nobody else is at it.
    pub(crate) fn clear_leftovers(&self) -> Result<(), StorageError> {
        self.create_folders()?;
        for folder in [self.layout.stage(), self.layout.trash()] {
            let names = self.disk.read_dir(&folder).context("list", &folder)?;
            if !names.is_empty() {
                // Whoever deleted a session may have died before that was on the disk: emptied, it must not come back.
                self.sync_sessions_dir()?;
            }
            for name in names {
                self.remove_tree(&folder.join(name))?;
            }
        }
        Ok(())
    }

    /// Removes whatever a path names, and what is in it; nothing if there is nothing. Links are removed, not followed.
    pub(crate) fn remove_tree(&self, path: &Path) -> Result<(), StorageError> {
        let gone = |result: io::Result<()>| match result {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result.context("remove", path),
        };
        match self.disk.kind(path).context("look at", path)? {
            None => Ok(()),
            Some((Kind::Dir, _)) => {
                for name in self.disk.read_dir(path).context("list", path)? {
                    self.remove_tree(&path.join(name))?;
                }
                gone(self.disk.remove_dir(path))
            }
            Some((Kind::File | Kind::Other, _)) => gone(self.disk.remove_file(path)),
        }
    }
}
