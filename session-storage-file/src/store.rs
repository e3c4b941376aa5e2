//! What all operations on a store share: its disk, its paths, and what is known of it.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use session_core::{SessionId, StorageError};

use crate::disk::{Disk, Kind};
use crate::error::IoContext;
use crate::layout::{Layout, SessionPaths};
use crate::reader::{Cursors, HeadCache};

/// A store, used in blocking calls only.
///
/// Lock order: the store's lock before a session's. Whoever holds a session's lock never waits for the store's.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) layout: Layout,
    /// This run of the machine.
    pub(crate) boot: String,
    /// How long a lock is waited for.
    pub(crate) lock_timeout: Duration,
    pub(crate) cursors: Cursors,
    pub(crate) heads: HeadCache,
    /// Set once a store was found at the path.
    pub(crate) ready: OnceLock<()>,
    /// Set once the store itself is known to be durable.
    pub(crate) root_synced: OnceLock<()>,
}

impl Store {
    /// When to stop waiting for a lock.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.lock_timeout
    }

    /// The session's paths, if there is such a session.
    pub(crate) fn find(&self, id: SessionId) -> Result<Option<SessionPaths>, StorageError> {
        let paths = self.layout.session(id);
        if !self.is_folder(&self.layout.sessions())? {
            return Ok(None);
        }
        match self.disk.kind(&paths.dir).context("look at", &paths.dir)? {
            None => Ok(None),
            Some((Kind::Dir, _)) => Ok(Some(paths)),
            Some((Kind::File | Kind::Other, _)) => Err(StorageError::Corrupt {
                id,
                readable: 0,
                what: format!("{} is not a folder", paths.dir.display()),
            }),
        }
    }

    /// Whether a folder of the store is there. Anything else in its place is refused: a link could lead anywhere.
    pub(crate) fn is_folder(&self, path: &std::path::Path) -> Result<bool, StorageError> {
        match self.disk.kind(path).context("look at", path)? {
            None => Ok(false),
            Some((Kind::Dir, _)) => Ok(true),
            Some((Kind::File | Kind::Other, _)) => Err(StorageError::Unavailable {
                what: format!("{} is not a folder: put it away and try again", path.display()),
                source: None,
            }),
        }
    }

    /// What is wrong with a session's file that cannot be opened, if that is damage and not the system's failure.
    pub(crate) fn check_is_regular_file(
        &self,
        id: SessionId,
        path: &std::path::Path,
    ) -> Result<(), StorageError> {
        let problem = match self.disk.kind(path).context("look at", path)? {
            Some((Kind::File, _)) => return Ok(()),
            Some((Kind::Dir | Kind::Other, _)) => "is not a regular file",
            None => "is missing",
        };
        Err(StorageError::Corrupt { id, readable: 0, what: format!("{} {problem}", path.display()) })
    }
}
