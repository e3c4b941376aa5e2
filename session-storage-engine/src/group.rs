//! One thread that takes all that has queued up and has it done at once. What is done, and how it fails, is not its business.

use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use session_core::{SessionId, StorageError};
use tokio::sync::{mpsc, oneshot};

/// How often others may run before a group begins that is smaller than the last one: whoever was answered just now mostly has
/// something more to do, and a flush for all of them costs what one for the first of them does.
const YIELDS: usize = 64;

/// How much is done at once, and how much may wait.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// At most so many jobs at once.
    pub jobs: NonZeroUsize,
    /// No more jobs at once after so many bytes: a single job may be larger.
    pub bytes: usize,
    /// At most so many jobs wait; whoever has another one waits until there is room.
    pub queue: NonZeroUsize,
}

impl Default for Limits {
    /// 256 jobs or 1 MiB at once, 1024 waiting.
    fn default() -> Self {
        const fn count(n: usize) -> NonZeroUsize {
            NonZeroUsize::new(n).expect("the defaults are not 0")
        }
        Self { jobs: count(256), bytes: 1 << 20, queue: count(1024) }
    }
}

/// Something to be done, for somebody who waits for the answer.
#[derive(Debug)]
pub struct Job<Q, A> {
    /// What.
    pub request: Q,
    answer: oneshot::Sender<Result<A, WorkerGone>>,
    bytes: usize,
}

impl<Q, A> Job<Q, A> {
    /// Answers whoever waits. A job that is dropped without an answer has an unknown outcome.
    pub fn answer(self, answer: A) {
        // Whoever asked may have left.
        drop(self.answer.send(Ok(answer)));
    }

    /// The request, to be used up, and how to answer it then.
    pub fn split(self) -> (Q, impl FnOnce(A)) {
        let answer = self.answer;
        (self.request, move |said| drop(answer.send(Ok(said))))
    }
}

/// The thread is gone, after a panic in what it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerGone {
    /// And the job was never begun.
    NotStarted,
    /// And the job may have been done.
    Unknown,
}

impl WorkerGone {
    /// As whoever appends or deletes is told: `Closed` where nothing was done, else `OutcomeUnknown`.
    #[must_use]
    pub fn to_error(self, what: &str, id: SessionId) -> StorageError {
        let closed = StorageError::Closed { what: what.to_owned(), source: None };
        match self {
            Self::NotStarted => closed,
            Self::Unknown => StorageError::OutcomeUnknown { id, source: Arc::new(closed) },
        }
    }
}

/// A handle on the thread. Dropping it waits until what has begun is done; what still waits then is not begun any more.
/// Whoever shares it puts it into an `Arc`.
///
/// A job whose future is dropped before it was begun is left out. If what is done panics, its jobs have an unknown outcome,
/// all others are [`WorkerGone::NotStarted`] from then on.
pub struct GroupCommit<Q, A> {
    queue: Option<mpsc::Sender<Job<Q, A>>>,
    thread: Option<JoinHandle<()>>,
}

impl<Q: Send + 'static, A: Send + 'static> GroupCommit<Q, A> {
    /// Starts the thread. What it does at once never is nothing; whatever `work` holds is dropped on that thread at its end.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn start(
        name: &str,
        limits: Limits,
        mut work: impl FnMut(Vec<Job<Q, A>>) + Send + 'static,
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
                let group = take(first, &mut waiting, limits);
                last = group.len();
                if group.is_empty() {
                    continue;
                }
                // What a panic left half done is not used again.
                if catch_unwind(AssertUnwindSafe(|| work(group))).is_err() {
                    tracing::error!("a panic ended the thread that writes; its storage is closed");
                    break;
                }
            }
            waiting.close();
            while let Ok(job) = waiting.try_recv() {
                drop(job.answer.send(Err(WorkerGone::NotStarted)));
            }
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(run)?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    /// Queues a job of about so many bytes and waits for its answer.
    ///
    /// # Errors
    /// [`WorkerGone`], where the thread is.
    pub async fn submit(&self, request: Q, bytes: usize) -> Result<A, WorkerGone> {
        let (answer, answered) = oneshot::channel();
        let Some(queue) = &self.queue else { return Err(WorkerGone::NotStarted) };
        if queue.send(Job { request, answer, bytes }).await.is_err() {
            return Err(WorkerGone::NotStarted);
        }
        answered.await.unwrap_or(Err(WorkerGone::Unknown))
    }
}

/// The first job and those that wait behind it, as far as anybody waits for their answers.
fn take<Q, A>(first: Job<Q, A>, waiting: &mut mpsc::Receiver<Job<Q, A>>, limits: Limits) -> Vec<Job<Q, A>> {
    let (mut group, mut bytes) = (Vec::new(), 0_usize);
    let mut next = Some(first);
    while let Some(job) = next {
        if !job.answer.is_closed() {
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

impl<Q, A> Drop for GroupCommit<Q, A> {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take()
            // What is done may hold the last handle.
            && thread.thread().id() != thread::current().id()
        {
            // A panic of the work was caught; one that was not has been told by the hook.
            drop(thread.join());
        }
    }
}

impl<Q, A> fmt::Debug for GroupCommit<Q, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.thread.as_ref().and_then(|thread| thread.thread().name());
        f.debug_struct("Group").field("thread", &name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
