//! Options for opening a store.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

/// Options for opening a store. Everything but the path has a safe default.
#[derive(Debug, Clone)]
#[must_use]
pub struct FileStorageOptions {
    pub(crate) path: PathBuf,
    pub(crate) lock_timeout: Duration,
    pub(crate) write_threads: Option<NonZeroUsize>,
    pub(crate) read_threads: Option<NonZeroUsize>,
    pub(crate) open_sessions: NonZeroUsize,
}

impl FileStorageOptions {
    /// Creates options for a store at this path, which need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        const fn count(n: usize) -> NonZeroUsize {
            NonZeroUsize::new(n).expect("the defaults are not 0")
        }
        Self {
            path: path.into(),
            lock_timeout: Duration::from_secs(5),
            write_threads: Some(count(64)),
            read_threads: Some(count(4)),
            open_sessions: count(64),
        }
    }

    /// Sets the longest wait for a lock that another process holds. The default is 5 seconds.
    pub const fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = timeout;
        self
    }

    /// Sets the limit of writing threads, each for a different session. The default is 64. They are started
    /// when there is work for them, and they mostly wait for the disk: those that wait at the same time share
    /// the cost of a flush.
    pub const fn write_threads(mut self, threads: NonZeroUsize) -> Self {
        self.write_threads = Some(threads);
        self
    }

    /// Sets the limit of reading threads. The default is 4.
    pub const fn read_threads(mut self, threads: NonZeroUsize) -> Self {
        self.read_threads = Some(threads);
        self
    }

    /// Runs everything on the polling thread, including waits for locks and disks. Meant for in-memory disks,
    /// and for programs that do nothing else meanwhile.
    pub const fn without_threads(mut self) -> Self {
        self.write_threads = None;
        self.read_threads = None;
        self
    }

    /// Sets the number of idle sessions whose files stay open, three each. The default is 64.
    pub const fn open_sessions(mut self, sessions: NonZeroUsize) -> Self {
        self.open_sessions = sessions;
        self
    }
}
