//! The state that all operations on a store share: disk, paths and caches.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use session_core::{SessionId, StorageError};

use crate::disk::{Disk, Kind};
use crate::error::IoContext;
use crate::layout::{Layout, SessionPaths};
use crate::reader::{Cursors, HeadCache};

/// A store, used in blocking calls only.
///
/// Lock order: the store's lock before a session's. A holder of a session's lock never waits long for the
/// store's.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) layout: Layout,
    /// The current boot id.
    pub(crate) boot: String,
    /// The longest wait for a lock.
    pub(crate) lock_timeout: Duration,
    pub(crate) cursors: Cursors,
    pub(crate) heads: HeadCache,
    pub(crate) purpose: Purpose,
    /// Set once a store was found at the path.
    pub(crate) ready: OnceLock<()>,
    /// Set once the store itself is known to be durable.
    pub(crate) root_synced: OnceLock<()>,
}

/// The purpose for which a store is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Everything, which needs an intact store.
    Work,
    /// Verification and repair: a damaged store can be read, and reconciling it repairs it.
    Repair,
}

impl Store {
    /// Returns the time at which a wait for a lock that starts now ends.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.lock_timeout
    }

    /// Returns the session's paths, if the session exists.
    pub(crate) fn find(&self, id: SessionId) -> Result<Option<SessionPaths>, StorageError> {
        let paths = self.layout.session(id);
        if !self.is_folder(&self.layout.sessions())? {
            return Ok(None);
        }
        match self.disk.kind(&paths.dir).context("stat", &paths.dir)? {
            None => Ok(None),
            Some((Kind::Dir, _)) => Ok(Some(paths)),
            Some((Kind::File | Kind::Other, _)) => Err(StorageError::Corrupt {
                id,
                readable: 0,
                what: format!("{} is not a folder", paths.dir.display()),
            }),
        }
    }

    /// Returns `true` if a folder of the store exists. Anything else at its path is rejected: a link could lead
    /// anywhere.
    pub(crate) fn is_folder(&self, path: &std::path::Path) -> Result<bool, StorageError> {
        match self.disk.kind(path).context("stat", path)? {
            None => Ok(false),
            Some((Kind::Dir, _)) => Ok(true),
            Some((Kind::File | Kind::Other, _)) => Err(StorageError::Unavailable {
                what: format!("{} is not a folder: move it elsewhere, then try again", path.display()),
                source: None,
            }),
        }
    }

    /// Returns an error if a session's file is missing or not a regular file. Called after it could not be
    /// opened, to distinguish damage from a system error.
    pub(crate) fn check_is_regular_file(
        &self,
        id: SessionId,
        path: &std::path::Path,
    ) -> Result<(), StorageError> {
        let problem = match self.disk.kind(path).context("stat", path)? {
            Some((Kind::File, _)) => return Ok(()),
            Some((Kind::Dir | Kind::Other, _)) => "is not a regular file",
            None => "is missing",
        };
        Err(StorageError::Corrupt { id, readable: 0, what: format!("{} {problem}", path.display()) })
    }
}
