//! How a store is opened.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

/// How a store is opened. Everything but the path has a default that is safe.
#[derive(Debug, Clone)]
#[must_use]
pub struct SledStorageOptions {
    pub(crate) path: PathBuf,
    pub(crate) lock_timeout: Duration,
    pub(crate) engine_timeout: Duration,
    pub(crate) read_threads: NonZeroUsize,
    pub(crate) cache_bytes: u64,
}

impl SledStorageOptions {
    /// A store at this path, which need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            lock_timeout: Duration::from_secs(5),
            engine_timeout: Duration::from_secs(120),
            read_threads: const { NonZeroUsize::new(2).expect("the default is not 0") },
            cache_bytes: 64 * 1024 * 1024,
        }
    }

    /// How long is waited for a process that holds the store to let go of it; 5 seconds unless told otherwise.
    pub const fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = timeout;
        self
    }

    /// How long sled may take to open, or to store and flush one group of appends, before it is taken to hang and the
    /// store is closed; 2 minutes unless told otherwise. Opening reads the whole database.
    pub const fn engine_timeout(mut self, timeout: Duration) -> Self {
        self.engine_timeout = timeout;
        self
    }

    /// How many threads read; 2 unless told otherwise.
    pub const fn read_threads(mut self, threads: NonZeroUsize) -> Self {
        self.read_threads = threads;
        self
    }

    /// How much memory sled may use for pages that it has read, in bytes; 64 MiB unless told otherwise.
    pub const fn cache_bytes(mut self, bytes: u64) -> Self {
        self.cache_bytes = bytes;
        self
    }
}
