//! The lock of one session's program: so that no command runs twice at once, whatever becomes of its owner.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use super::lock_dir::LockDir;
use super::lock_root::LockRoot;
use crate::storage::StorageError;

/// How often a lock that somebody holds is looked at: some microseconds each time, against what somebody waits longer.
const POLL: Duration = Duration::from_millis(20);

/// The lock of one session's program, not yet taken. Whoever is about to run the program takes it first, and the
/// supervisor of the program's processes keeps it until the last of them is gone, which may be after its owner's death.
#[derive(Debug, Clone)]
pub struct SessionLock {
    locks: LockRoot,
    name: String,
}

/// The lock of one session's program. It is a kernel lock on an open file, shared by all copies of the descriptor, in
/// this process and in those that inherit one: it is free when the last copy is closed.
#[derive(Debug)]
pub struct HeldSessionLock {
    file: File,
    name: String,
    dir: LockDir,
}

impl SessionLock {
    pub(super) const fn new(locks: LockRoot, name: String) -> Self {
        Self { locks, name }
    }

    /// Takes the lock if it is free. `None` may also pass: somebody who cleans up holds it for a moment.
    ///
    /// # Errors
    /// Where the folder of locks cannot be used; where something that is no lock has the lock's name.
    pub fn try_acquire(&self) -> Result<Option<HeldSessionLock>, StorageError> {
        let dir = self.locks.create()?;
        let file =
            dir.try_lock(&self.name).map_err(|error| self.locks.failed("cannot be locked in", error))?;
        Ok(file.map(|file| HeldSessionLock { file, name: self.name.clone(), dir }))
    }

    /// Waits until the lock is free, however long that takes, and takes it. Looks every 20 ms. Dropping the future is
    /// harmless.
    ///
    /// # Errors
    /// As [`try_acquire`](Self::try_acquire).
    pub async fn acquire(&self) -> Result<HeldSessionLock, StorageError> {
        loop {
            if let Some(held) = self.try_acquire()? {
                return Ok(held);
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

impl HeldSessionLock {
    /// The open file that holds the lock. It closes on exec: a copy for another process must be handed over knowingly.
    #[must_use]
    pub const fn file(&self) -> &File {
        &self.file
    }

    /// The open file that holds the lock, to be handed over.
    #[must_use]
    pub fn into_file(self) -> File {
        self.file
    }

    /// Gives up this copy, and removes the lock's file if it was the last one. Dropping does the same without removing,
    /// which is left to the next sweep.
    pub fn release(self) {
        let Self { file, name, dir } = self;
        drop(file);
        if let Err(error) = dir.remove_if_free(&name) {
            tracing::debug!(name, %error, "a lock file was left behind");
        }
    }
}

impl AsFd for HeldSessionLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
