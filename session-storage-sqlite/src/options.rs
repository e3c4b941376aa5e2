//! How a store is opened.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

/// How a store is opened. Everything but the path has a default that is safe.
#[derive(Debug, Clone)]
#[must_use]
pub struct SqliteStorageOptions {
    pub(crate) path: PathBuf,
    pub(crate) lock_timeout: Duration,
    pub(crate) read_threads: NonZeroUsize,
    pub(crate) max_pages: Option<u32>,
}

impl SqliteStorageOptions {
    /// A store in the database file at this path, which need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        const READERS: NonZeroUsize = NonZeroUsize::new(4).expect("4 is not 0");
        Self {
            path: path.into(),
            lock_timeout: Duration::from_secs(5),
            read_threads: READERS,
            max_pages: None,
        }
    }

    /// How long another process that writes is waited for; 5 seconds unless told otherwise.
    pub const fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = timeout;
        self
    }

    /// How many threads read at most, each with a connection; 4 unless told otherwise. They are started when there is work
    /// for them.
    pub const fn read_threads(mut self, threads: NonZeroUsize) -> Self {
        self.read_threads = threads;
        self
    }

    /// How large the database may become through this handle, in pages of 4 KiB; as large as the disk has room unless told
    /// otherwise. What does not fit is `STORAGE_FULL`.
    pub const fn max_pages(mut self, pages: u32) -> Self {
        self.max_pages = Some(pages);
        self
    }
}
