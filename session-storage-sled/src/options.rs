//! Options for opening a store.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

/// Options for opening a store. Everything but the path has a safe default.
#[derive(Debug, Clone)]
#[must_use]
pub struct SledStorageOptions {
    pub(crate) path: PathBuf,
    pub(crate) lock_timeout: Duration,
    pub(crate) engine_timeout: Duration,
    pub(crate) read_threads: NonZeroUsize,
    pub(crate) cache_bytes: u64,
    pub(crate) purpose: Purpose,
}

/// The purpose for which a store is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Everything, which needs an intact store.
    Work,
    /// Verification and repair: a store without a usable `FORMAT` can be read, and reconciling it repairs it.
    Repair,
}

impl SledStorageOptions {
    /// Creates options for a store at this path, which need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            lock_timeout: Duration::from_secs(5),
            engine_timeout: Duration::from_secs(120),
            read_threads: const { NonZeroUsize::new(2).expect("the default is not 0") },
            cache_bytes: 4 * 1024 * 1024,
            purpose: Purpose::Work,
        }
    }

    /// Sets how long opening waits for another process to release the store; 5 seconds by default.
    pub const fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = timeout;
        self
    }

    /// Sets how long sled may take to open, or to store and flush one group of appends, before it is treated as hung
    /// and the store is closed; 2 minutes by default. Opening reads the entire database.
    pub const fn engine_timeout(mut self, timeout: Duration) -> Self {
        self.engine_timeout = timeout;
        self
    }

    /// Sets the number of threads that read; 2 by default.
    pub const fn read_threads(mut self, threads: NonZeroUsize) -> Self {
        self.read_threads = threads;
        self
    }

    /// Sets the memory that sled may use for pages that it has read, in bytes; 4 MiB by default.
    pub const fn cache_bytes(mut self, bytes: u64) -> Self {
        self.cache_bytes = bytes;
        self
    }
}
