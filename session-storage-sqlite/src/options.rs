//! Options for opening a store.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

/// Options for opening a store. Everything but the path has a safe default.
#[derive(Debug, Clone)]
#[must_use]
pub struct SqliteStorageOptions {
    pub(crate) path: PathBuf,
    pub(crate) lock_timeout: Duration,
    pub(crate) statement_timeout: Duration,
    pub(crate) read_threads: NonZeroUsize,
    pub(crate) max_pages: Option<u32>,
}

impl SqliteStorageOptions {
    /// Creates options for the database file at this path, which need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        const READERS: NonZeroUsize = NonZeroUsize::new(4).expect("4 is not 0");
        Self {
            path: path.into(),
            lock_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(120),
            read_threads: READERS,
            max_pages: None,
        }
    }

    /// Sets how long a write waits for another process that writes; 5 seconds by default.
    pub const fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = timeout;
        self
    }

    /// Sets how long one read, or one group of writes, may take in `SQLite` before it is interrupted and fails; 2 minutes by
    /// default. Checks of the whole store are not limited.
    pub const fn statement_timeout(mut self, timeout: Duration) -> Self {
        self.statement_timeout = timeout;
        self
    }

    /// Sets the largest number of threads that read, each with a connection; 4 by default. They are started on demand.
    pub const fn read_threads(mut self, threads: NonZeroUsize) -> Self {
        self.read_threads = threads;
        self
    }

    /// Sets the largest size of the database through this handle, in pages of 4 KiB; unlimited by default. An append
    /// beyond it fails with `STORAGE_FULL`.
    pub const fn max_pages(mut self, pages: u32) -> Self {
        self.max_pages = Some(pages);
        self
    }
}
