//! A pool of named threads for blocking calls. Threads are started when there is work for them and end with the
//! pool.

use std::collections::VecDeque;
use std::fmt;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

type Task = Box<dyn FnOnce() + Send>;

/// Threads that run tasks in order of submission. After the pool is dropped they finish the queued tasks.
pub(crate) struct Pool {
    name: &'static str,
    /// `None`: the submitting thread runs the task itself.
    max_threads: Option<NonZeroUsize>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    tasks: VecDeque<Task>,
    threads: usize,
    idle: usize,
    closed: bool,
}

impl Pool {
    pub(crate) fn new(name: &'static str, max_threads: Option<NonZeroUsize>) -> Self {
        Self { name, max_threads, shared: Arc::default() }
    }

    /// Runs a task on one of the threads. The queue has one task for each waiting caller, so bounding the
    /// callers bounds the queue.
    ///
    /// If no thread can be started, the submitting thread runs the task itself: a caller that waited for a thread
    /// might wait forever.
    pub(crate) fn spawn(&self, task: impl FnOnce() + Send + 'static) {
        let Some(max_threads) = self.max_threads else { return run(Box::new(task)) };
        let mut state = self.shared.lock();
        state.tasks.push_back(Box::new(task));
        if state.idle < state.tasks.len() && state.threads < max_threads.get() {
            state.threads += 1;
            let shared = Arc::clone(&self.shared);
            let started =
                thread::Builder::new().name(self.name.to_owned()).spawn(move || shared.run_worker());
            if let Err(error) = started {
                tracing::warn!(%error, "could not start a storage thread");
                state.threads -= 1;
                if state.threads == 0 {
                    let tasks = std::mem::take(&mut state.tasks);
                    // A task may call back into this pool.
                    drop(state);
                    tasks.into_iter().for_each(run);
                    return;
                }
            }
        }
        drop(state);
        self.shared.changed.notify_one();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("name", &self.name)
            .field("most", &self.max_threads)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run_worker(&self) {
        let mut state = self.lock();
        loop {
            if let Some(task) = state.tasks.pop_front() {
                drop(state);
                run(task);
                state = self.lock();
            } else if state.closed {
                return;
            } else {
                state.idle += 1;
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
            }
        }
    }
}

fn run(task: Task) {
    // The panic hook has reported the panic; the waiting caller detects the closed channel.
    drop(catch_unwind(AssertUnwindSafe(task)));
}
