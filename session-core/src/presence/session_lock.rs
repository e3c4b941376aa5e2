//! The lock of one session's program, which prevents two copies from running concurrently, even after the owner died.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use super::lock_dir::LockDir;
use super::lock_root::LockRoot;
use crate::storage::StorageError;

/// Interval at which a held lock is tried again: a few microseconds of work each time.
const POLL: Duration = Duration::from_millis(20);

/// The lock of one session's program, not yet acquired. It is acquired before the program starts, and the supervisor of
/// the program's processes keeps it until the last of them is gone, which may be after the owner's death.
#[derive(Debug, Clone)]
pub struct SessionLock {
    locks: LockRoot,
    name: String,
}

/// The acquired lock of one session's program: a kernel lock on an open file, shared by all copies of the descriptor in
/// this process and in those that inherit one. Closing the last copy releases it.
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

    /// Acquires the lock if it is free. `None` may be temporary: a sweep holds the lock for a moment.
    ///
    /// # Errors
    /// If the folder of lock files cannot be used, or if something that is not a regular file has the lock's name.
    pub fn try_acquire(&self) -> Result<Option<HeldSessionLock>, StorageError> {
        let dir = self.locks.create()?;
        let file =
            dir.try_lock(&self.name).map_err(|error| self.locks.failed("cannot provide a lock", error))?;
        Ok(file.map(|file| HeldSessionLock { file, name: self.name.clone(), dir }))
    }

    /// Waits without a limit until the lock is free, and acquires it. Tries every 20 ms. Dropping the future is
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
    /// Returns the open file that holds the lock. It closes on exec, so a copy must be passed to another process
    /// explicitly.
    #[must_use]
    pub const fn file(&self) -> &File {
        &self.file
    }

    /// Returns the open file that holds the lock, for passing it on.
    #[must_use]
    pub fn into_file(self) -> File {
        self.file
    }

    /// Closes this copy, and removes the lock file if it was the last one. Dropping only closes; the next sweep then
    /// removes the file.
    pub fn release(self) {
        let Self { file, name, dir } = self;
        drop(file);
        if let Err(error) = dir.remove_if_free(&name) {
            tracing::debug!(name, %error, "could not remove a lock file");
        }
    }
}

impl AsFd for HeldSessionLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
