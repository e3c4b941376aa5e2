//! Group commit: one thread that takes all queued jobs and has them processed as one group. The work itself, and its
//! failures, belong to the caller.

use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use session_core::{SessionId, StorageError};
use tokio::sync::{mpsc, oneshot};

/// Yields before a group smaller than the last one starts: callers that just got a reply usually submit again
/// immediately, and one flush for all of them costs what one flush for the first of them does.
const YIELDS: usize = 64;

/// Limits of a group and of the queue.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The largest number of jobs in a group.
    pub jobs: NonZeroUsize,
    /// The number of bytes after which no further job joins a group: a single job may be larger.
    pub bytes: usize,
    /// The largest number of queued jobs; callers with further jobs wait until there is room.
    pub queue: NonZeroUsize,
}

impl Default for Limits {
    /// Returns 256 jobs or 1 MiB per group, and 1024 queued jobs.
    fn default() -> Self {
        const fn count(n: usize) -> NonZeroUsize {
            NonZeroUsize::new(n).expect("the defaults are not 0")
        }
        Self { jobs: count(256), bytes: 1 << 20, queue: count(1024) }
    }
}

/// A queued request whose caller awaits the reply.
#[derive(Debug)]
pub struct Job<Q, R> {
    /// The request.
    pub request: Q,
    reply: oneshot::Sender<Result<R, WorkerGone>>,
    bytes: usize,
}

impl<Q, R> Job<Q, R> {
    /// Sends the reply to the caller. A job that is dropped without a reply has an unknown outcome.
    pub fn reply(self, reply: R) {
        // The caller may have dropped its future.
        drop(self.reply.send(Ok(reply)));
    }

    /// Returns the request, to be consumed, and a function that sends the reply.
    pub fn split(self) -> (Q, impl FnOnce(R)) {
        let sender = self.reply;
        (self.request, move |reply| drop(sender.send(Ok(reply))))
    }
}

/// The error of a job whose worker thread ended after a panic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerGone {
    /// The job was never started.
    NotStarted,
    /// The job may have been done.
    Unknown,
}

impl WorkerGone {
    /// Converts to the error of an append or a deletion: `Closed` if nothing was done, else `OutcomeUnknown`.
    #[must_use]
    pub fn to_error(self, what: &str, id: SessionId) -> StorageError {
        let closed = StorageError::Closed { what: what.to_owned(), source: None };
        match self {
            Self::NotStarted => closed,
            Self::Unknown => StorageError::OutcomeUnknown { id, source: Arc::new(closed) },
        }
    }
}

/// A handle on the worker thread. Dropping it waits for the group in progress; jobs that are still queued then are not
/// started. To share it, put it into an `Arc`.
///
/// A job whose future is dropped before the job was started is skipped. If the work panics, the jobs of its group have
/// an unknown outcome, and all others fail with [`WorkerGone::NotStarted`] from then on.
pub struct GroupCommit<Q, R> {
    queue: Option<mpsc::Sender<Job<Q, R>>>,
    thread: Option<JoinHandle<()>>,
}

impl<Q: Send + 'static, R: Send + 'static> GroupCommit<Q, R> {
    /// Starts the thread. `work` is never called with an empty group, and is dropped on that thread when it ends.
    ///
    /// # Errors
    /// The system's error if no thread can be started.
    pub fn start(
        name: &str,
        limits: Limits,
        mut work: impl FnMut(Vec<Job<Q, R>>) + Send + 'static,
    ) -> io::Result<Self> {
        let (queue, mut waiting) = mpsc::channel(limits.queue.get());
        let run = move || {
            let mut last = 0;
            while let Some(first) = waiting.blocking_recv() {
                for _ in 0..YIELDS {
                    if waiting.len() + 1 >= last {
                        break;
                    }
                    thread::yield_now();
                }
                let group = take_group(first, &mut waiting, limits);
                last = group.len();
                if group.is_empty() {
                    continue;
                }
                // After a panic the state behind `work` is not used again.
                if catch_unwind(AssertUnwindSafe(|| work(group))).is_err() {
                    tracing::error!("the writer thread panicked; its storage is closed");
                    break;
                }
            }
            waiting.close();
            while let Ok(job) = waiting.try_recv() {
                drop(job.reply.send(Err(WorkerGone::NotStarted)));
            }
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(run)?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    /// Queues a job of about `bytes` bytes and waits for its reply.
    ///
    /// # Errors
    /// [`WorkerGone`] if the thread has ended.
    pub async fn submit(&self, request: Q, bytes: usize) -> Result<R, WorkerGone> {
        let (reply, replied) = oneshot::channel();
        let Some(queue) = &self.queue else { return Err(WorkerGone::NotStarted) };
        if queue.send(Job { request, reply, bytes }).await.is_err() {
            return Err(WorkerGone::NotStarted);
        }
        replied.await.unwrap_or(Err(WorkerGone::Unknown))
    }
}

/// Takes the first job and those queued behind it, up to the limits, without the jobs whose callers have gone.
fn take_group<Q, R>(
    first: Job<Q, R>,
    waiting: &mut mpsc::Receiver<Job<Q, R>>,
    limits: Limits,
) -> Vec<Job<Q, R>> {
    let (mut group, mut bytes) = (Vec::new(), 0_usize);
    let mut next = Some(first);
    while let Some(job) = next {
        if !job.reply.is_closed() {
            bytes = bytes.saturating_add(job.bytes);
            group.push(job);
        }
        if group.len() >= limits.jobs.get() || bytes >= limits.bytes {
            break;
        }
        next = waiting.try_recv().ok();
    }
    group
}

impl<Q, R> Drop for GroupCommit<Q, R> {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take()
            // The work itself may hold the last handle: a thread cannot join itself.
            && thread.thread().id() != thread::current().id()
        {
            // A panic of the work was caught; the panic hook reported any other.
            drop(thread.join());
        }
    }
}

impl<Q, R> fmt::Debug for GroupCommit<Q, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.thread.as_ref().and_then(|thread| thread.thread().name());
        f.debug_struct("GroupCommit").field("thread", &name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
