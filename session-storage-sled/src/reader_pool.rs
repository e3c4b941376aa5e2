//! Named threads for reads of the database, which block. Closing the store fails all pending reads, since sled may
//! hang.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use session_core::StorageError;
use tokio::sync::oneshot;

use crate::error::unavailable;

type Task = Box<dyn FnOnce() + Send>;
type FailRead = Box<dyn FnOnce(StorageError) + Send>;

/// A fixed number of threads that end when this is dropped. Each queued task has a waiting caller, so the number of
/// callers bounds the queue.
#[derive(Debug)]
pub(crate) struct ReaderPool {
    tasks: Arc<Mutex<TaskQueue>>,
    pending: Arc<Mutex<PendingReads>>,
}

/// The tasks of the threads.
#[derive(Default)]
struct TaskQueue {
    /// Tasks for which no thread was idle.
    waiting: VecDeque<Task>,
    /// The threads without a task. The last one is next: reads one after another are mostly on one thread, since the
    /// allocator keeps memory for each thread.
    idle: Vec<Sender<Task>>,
    closed: bool,
}

#[derive(Default)]
struct PendingReads {
    next: u64,
    /// The reads that were submitted and not answered yet, each with the time of that.
    calls: HashMap<u64, (Instant, FailRead)>,
    closed: Option<StorageError>,
}

impl std::fmt::Debug for TaskQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TaskQueue").field("waiting", &self.waiting.len()).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for PendingReads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PendingReads").field("calls", &self.calls.len()).finish_non_exhaustive()
    }
}

/// The reply to a read, sent once by either the reader thread or the close of the store.
struct ReplySlot<T>(Arc<Mutex<Option<ReplySender<T>>>>);

type ReplySender<T> = oneshot::Sender<Result<T, StorageError>>;

impl<T> ReplySlot<T> {
    fn is_awaited(&self) -> bool {
        lock(&self.0).as_ref().is_some_and(|reply| !reply.is_closed())
    }

    fn send(&self, result: Result<T, StorageError>) {
        if let Some(reply) = lock(&self.0).take() {
            drop(reply.send(result));
        }
    }
}

impl ReaderPool {
    /// Starts the threads.
    pub(crate) fn start(threads: NonZeroUsize) -> Result<Self, StorageError> {
        let pool = Self { tasks: Arc::default(), pending: Arc::default() };
        for _ in 0..threads.get() {
            let tasks = Arc::clone(&pool.tasks);
            thread::Builder::new()
                .name("session-sled-read".to_owned())
                .spawn(move || run_tasks(&tasks))
                .map_err(|error| StorageError::Unavailable {
                    what: "cannot start a reader thread".to_owned(),
                    source: Some(Arc::new(error)),
                })?;
        }
        Ok(pool)
    }

    /// Runs a read on one of the threads. A read whose future is dropped before it has started is skipped.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let (reply, replied) = oneshot::channel();
        let reply = ReplySlot(Arc::new(Mutex::new(Some(reply))));
        let late_reply = ReplySlot(Arc::clone(&reply.0));
        let number = {
            let mut pending = lock(&self.pending);
            if let Some(closed) = &pending.closed {
                return Err(closed.clone());
            }
            pending.next += 1;
            let number = pending.next;
            let fail: FailRead = Box::new(move |error| late_reply.send(Err(error)));
            pending.calls.insert(number, (Instant::now(), fail));
            number
        };
        let pending = Arc::clone(&self.pending);
        let task = Box::new(move || {
            let result = reply.is_awaited().then(read);
            lock(&pending).calls.remove(&number);
            if let Some(result) = result {
                reply.send(result);
            }
        });
        lock(&self.tasks).submit(task);
        replied.await.unwrap_or_else(|_| Err(unavailable("the reader thread has ended")))
    }

    /// Returns the time at which the oldest pending read was submitted.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        lock(&self.pending).calls.values().map(|(since, _)| *since).min()
    }

    /// Fails all pending and all later reads with this error.
    pub(crate) fn close(&self, error: &StorageError) {
        let calls = {
            let mut pending = lock(&self.pending);
            pending.closed.get_or_insert_with(|| error.clone());
            std::mem::take(&mut pending.calls)
        };
        for (_, fail) in calls.into_values() {
            fail(error.clone());
        }
    }
}

impl TaskQueue {
    fn submit(&mut self, mut task: Task) {
        while let Some(thread) = self.idle.pop() {
            match thread.send(task) {
                Ok(()) => return,
                Err(unsent) => task = unsent.0,
            }
        }
        self.waiting.push_back(task);
    }

    /// Returns the next task, or the channel on which it will arrive; `None` at the end.
    fn next(&mut self) -> Option<Result<Task, Receiver<Task>>> {
        if let Some(task) = self.waiting.pop_front() {
            return Some(Ok(task));
        }
        if self.closed {
            return None;
        }
        let (thread, receiver) = channel();
        self.idle.push(thread);
        Some(Err(receiver))
    }
}

impl Drop for ReaderPool {
    fn drop(&mut self) {
        let mut tasks = lock(&self.tasks);
        tasks.closed = true;
        tasks.idle.clear();
    }
}

fn run_tasks(tasks: &Mutex<TaskQueue>) {
    loop {
        // The lock is released before the thread waits.
        let next = lock(tasks).next();
        match next {
            None => return,
            Some(Ok(task)) => task(),
            Some(Err(receiver)) => match receiver.recv() {
                Ok(task) => task(),
                Err(_) => return,
            },
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
