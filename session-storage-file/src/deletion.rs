//! Deletion of sessions, and removal of what crashes left in `stage` and `trash`.
//!
//! A session is deleted by the rename of its folder into `trash`. Some file systems refuse that: overlayfs for a folder of a
//! lower layer, such as a session that is part of a container's image. There, a file in `trash` with the session's id says
//! that the session is deleted once its log is gone; the log is removed, then the rest.

use std::io;
use std::path::Path;
use std::sync::Arc;

use session_core::backend::Tip;
use session_core::{SessionId, StorageError};

use crate::disk::{Kind, Open};
use crate::error::{IoContext, storage_error};
use crate::format::CreateIfMissing;
use crate::layout::SessionPaths;
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
        let is_moved = self.with_session_lock(&mut None, id, deadline, |handle| {
            let actual = self.read_head(id)?.ok_or(StorageError::NotFound { id })?.tip;
            if actual != tip {
                return Err(StorageError::Conflict { id, expected: Some(tip), actual: Some(actual) });
            }
            let unknown = |error| StorageError::OutcomeUnknown { id, source: Arc::new(error) };
            let renamed = self.disk.rename_new(&handle.paths.dir, &trashed);
            if is_refused_by_layers(&renamed) {
                return self.delete_in_place(id, &handle.paths, &trashed);
            }
            if let Err(error) = renamed {
                let error = storage_error("rename", &handle.paths.dir, error);
                let exists = matches!(self.find(id), Ok(Some(_)));
                return Err(if exists { error } else { unknown(error) });
            }
            self.sync_sessions_dir().map_err(unknown)?;
            Ok(true)
        })?;
        if !is_moved.ok_or(StorageError::NotFound { id })? {
            return Ok(());
        }
        // The session is deleted: files that cannot be removed now are removed by the next holder of the
        // store's lock.
        let rest = [&trashed, &self.layout.quarantined(id), &self.layout.marker(id)];
        if let Err(error) = rest.into_iter().try_for_each(|path| self.remove_tree(path)) {
            tracing::warn!(session = %id, %error, "could not remove all files of a deleted session");
        }
        Ok(())
    }

    /// Deletes a session whose folder cannot be renamed. The caller holds both locks. Returns `true` if only what a moved
    /// folder leaves is left to be removed.
    fn delete_in_place(
        &self,
        id: SessionId,
        paths: &SessionPaths,
        note: &Path,
    ) -> Result<bool, StorageError> {
        drop(self.disk.open(note, Open::Create).context("create", note)?);
        self.disk.sync_dir(&self.layout.trash()).context("flush", &self.layout.trash())?;
        self.disk.remove_file(&paths.log).context("remove", &paths.log)?;
        let unknown = |error| StorageError::OutcomeUnknown { id, source: Arc::new(error) };
        self.disk.sync_dir(&paths.dir).context("flush", &paths.dir).map_err(unknown)?;
        // It is deleted: what cannot be removed now is removed by the next holder of the store's lock.
        let removed = self.remove_tree(&paths.dir).and_then(|()| self.sync_sessions_dir());
        if let Err(error) = &removed {
            tracing::warn!(session = %id, %error, "could not remove all files of a deleted session");
        }
        Ok(removed.is_ok())
    }

    /// Returns `true` if a session does not exist: one whose files cannot be read may have been deleted meanwhile.
    pub(crate) fn is_gone(&self, id: SessionId) -> Result<bool, StorageError> {
        let Some(paths) = self.find(id)? else { return Ok(true) };
        let note = self.layout.trash().join(id.to_string());
        let is_noted = matches!(self.disk.kind(&note).context("stat", &note)?, Some((Kind::File, _)));
        Ok(is_noted && self.disk.kind(&paths.log).context("stat", &paths.log)?.is_none())
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
                if let Ok(id) = name.parse::<SessionId>()
                    && folder == self.layout.trash()
                    && self.is_gone(id)?
                {
                    self.remove_tree(&self.layout.session(id).dir)?;
                    self.sync_sessions_dir()?;
                }
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

/// Returns `true` if a file system of several layers has refused to rename a folder.
pub(crate) fn is_refused_by_layers(renamed: &io::Result<()>) -> bool {
    renamed.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::CrossesDevices)
}
