//! How a store is opened.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

/// How a store is opened. Everything but the path has a default that is safe.
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
    /// A store at this path, which need not exist yet.
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

    /// How long a lock that another process holds is waited for; 5 seconds unless told otherwise.
    pub const fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = timeout;
        self
    }

    /// How many threads write at most, each for another session; 64 unless told otherwise. They are started when there is
    /// work for them, and what they do is wait for the disk: those who wait at once share what a flush of it costs.
    pub const fn write_threads(mut self, threads: NonZeroUsize) -> Self {
        self.write_threads = Some(threads);
        self
    }

    /// How many threads read at most; 4 unless told otherwise.
    pub const fn read_threads(mut self, threads: NonZeroUsize) -> Self {
        self.read_threads = Some(threads);
        self
    }

    /// Does everything on the thread that polls, waiting for locks and disks included: for disks that are in memory,
    /// and for programs that do nothing else meanwhile.
    pub const fn without_threads(mut self) -> Self {
        self.write_threads = None;
        self.read_threads = None;
        self
    }

    /// How many idle sessions keep their files open, three each; 64 unless told otherwise.
    pub const fn open_sessions(mut self, sessions: NonZeroUsize) -> Self {
        self.open_sessions = sessions;
        self
    }
}
