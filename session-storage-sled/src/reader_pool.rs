//! Named threads for reads of the database, which block. Closing the store fails all pending reads, since sled may
//! hang.

use std::collections::HashMap;
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
    tasks: Mutex<Sender<Task>>,
    pending: Arc<Mutex<PendingReads>>,
}

#[derive(Default)]
struct PendingReads {
    next: u64,
    /// The reads that were submitted and not answered yet, each with the time of that.
    calls: HashMap<u64, (Instant, FailRead)>,
    closed: Option<StorageError>,
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
        let (tasks, receiver) = channel::<Task>();
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..threads.get() {
            let receiver = Arc::clone(&receiver);
            thread::Builder::new()
                .name("session-sled-read".to_owned())
                .spawn(move || run_tasks(&receiver))
                .map_err(|error| StorageError::Unavailable {
                what: "cannot start a reader thread".to_owned(),
                source: Some(Arc::new(error)),
            })?;
        }
        Ok(Self { tasks: Mutex::new(tasks), pending: Arc::default() })
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
        if lock(&self.tasks).send(task).is_err() {
            return Err(unavailable("the reader threads have ended"));
        }
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

fn run_tasks(tasks: &Mutex<Receiver<Task>>) {
    loop {
        // The lock is held while waiting for a task: the other threads wait for the lock instead.
        let task = lock(tasks).recv();
        let Ok(task) = task else { return };
        task();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
