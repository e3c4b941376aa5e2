//! Named threads for looks at the database, which block. A look that is not answered when the store is closed is answered
//! then: sled may hang.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use session_core::StorageError;
use tokio::sync::oneshot;

use crate::error::unavailable;

type Task = Box<dyn FnOnce() + Send>;
type GiveUp = Box<dyn FnOnce(StorageError) + Send>;

/// A few threads that end with this. There are as many tasks as callers that wait for one: whoever bounds its callers bounds
/// the queue.
#[derive(Debug)]
pub(crate) struct Readers {
    tasks: Mutex<Sender<Task>>,
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Default)]
struct Waiting {
    next: u64,
    calls: HashMap<u64, GiveUp>,
    over: Option<StorageError>,
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiting").field("calls", &self.calls.len()).finish_non_exhaustive()
    }
}

/// The answer to a look, which two may want to give.
struct Answer<T>(Arc<Mutex<Option<Asked<T>>>>);

type Asked<T> = oneshot::Sender<Result<T, StorageError>>;

impl<T> Answer<T> {
    fn is_awaited(&self) -> bool {
        lock(&self.0).as_ref().is_some_and(|answer| !answer.is_closed())
    }

    fn give(&self, result: Result<T, StorageError>) {
        if let Some(answer) = lock(&self.0).take() {
            drop(answer.send(result));
        }
    }
}

impl Readers {
    /// Starts the threads.
    pub(crate) fn start(threads: NonZeroUsize) -> Result<Self, StorageError> {
        let (tasks, receiver) = channel::<Task>();
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..threads.get() {
            let receiver = Arc::clone(&receiver);
            thread::Builder::new()
                .name("session-sled-read".to_owned())
                .spawn(move || work(&receiver))
                .map_err(|error| StorageError::Unavailable {
                    what: "no thread can be started to read with".to_owned(),
                    source: Some(Arc::new(error)),
                })?;
        }
        Ok(Self { tasks: Mutex::new(tasks), waiting: Arc::default() })
    }

    /// Looks at something on one of the threads. A look whose future is dropped before it has begun does not take place.
    pub(crate) async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let (answer, answered) = oneshot::channel();
        let answer = Answer(Arc::new(Mutex::new(Some(answer))));
        let late = Answer(Arc::clone(&answer.0));
        let number = {
            let mut waiting = lock(&self.waiting);
            if let Some(over) = &waiting.over {
                return Err(over.clone());
            }
            waiting.next += 1;
            let number = waiting.next;
            waiting.calls.insert(number, Box::new(move |error| late.give(Err(error))));
            number
        };
        let waiting = Arc::clone(&self.waiting);
        let task = Box::new(move || {
            let result = answer.is_awaited().then(look);
            lock(&waiting).calls.remove(&number);
            if let Some(result) = result {
                answer.give(result);
            }
        });
        if lock(&self.tasks).send(task).is_err() {
            return Err(unavailable("the threads that read have ended"));
        }
        answered.await.unwrap_or_else(|_| Err(unavailable("the thread that was to answer has ended")))
    }

    /// Answers all that wait, and all that come, with this.
    pub(crate) fn end(&self, error: &StorageError) {
        let calls = {
            let mut waiting = lock(&self.waiting);
            waiting.over.get_or_insert_with(|| error.clone());
            std::mem::take(&mut waiting.calls)
        };
        for give_up in calls.into_values() {
            give_up(error.clone());
        }
    }
}

fn work(tasks: &Mutex<Receiver<Task>>) {
    loop {
        // Held while waiting: the others wait for the lock instead.
        let task = lock(tasks).recv();
        let Ok(task) = task else { return };
        task();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
