//! One queue per session: its jobs run one after another, in order of submission, on one thread at a time. A
//! session whose lock is stuck therefore blocks no other session, and callers within one process queue fairly.
//! A queue caches the session's open files between jobs. The number of idle sessions with open files is
//! limited; of the others, the state of the closed files is cached.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use session_core::SessionId;

use crate::handle::{CachedHandle, OpenFiles};
use crate::pool::Pool;

/// The identity of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum QueueKey {
    /// Jobs that run under the store's lock.
    Store,
    /// Jobs that run under a session's lock.
    Session(SessionId),
}

/// The most sessions whose state is cached though their files are closed: one to two kilobytes each.
const MAX_CLOSED: usize = 4096;

/// A job that uses the open files of a queue.
pub(crate) type Job = Box<dyn FnOnce(&mut Option<CachedHandle>) + Send>;

/// The queues of all sessions.
pub(crate) struct SessionQueues {
    pool: Pool,
    max_open: NonZeroUsize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    queues: HashMap<QueueKey, SessionQueue>,
    /// Idle queues with open files, by last use.
    open: BTreeMap<u64, QueueKey>,
    /// Idle queues with closed files, by last use.
    closed: BTreeMap<u64, QueueKey>,
    uses: u64,
}

#[derive(Default)]
struct SessionQueue {
    cached: Option<CachedHandle>,
    jobs: VecDeque<Job>,
    busy: bool,
    /// The time of the last use, if it is idle.
    used: u64,
}

impl State {
    /// Marks a queue as busy: its files stay open.
    fn mark_busy(&mut self, key: QueueKey) {
        if let Some(queue) = self.queues.get_mut(&key) {
            queue.busy = true;
            self.open.remove(&queue.used);
            self.closed.remove(&queue.used);
        }
    }

    /// Marks a queue as idle and evicts others beyond the limits. Returns the files to close, for the caller to
    /// close where no other call waits for that.
    fn mark_idle(&mut self, key: QueueKey, max_open: usize) -> Vec<OpenFiles> {
        self.uses += 1;
        let mut closing = Vec::new();
        if let Some(queue) = self.queues.get_mut(&key) {
            (queue.busy, queue.used) = (false, self.uses);
            let idle = match queue.cached {
                Some(CachedHandle::Open(_)) => Some(&mut self.open),
                Some(CachedHandle::Closed(_)) => Some(&mut self.closed),
                None => None,
            };
            match idle {
                Some(idle) => drop(idle.insert(self.uses, key)),
                None => drop(self.queues.remove(&key)),
            }
        }
        while self.open.len() > max_open
            && let Some((used, key)) = self.open.pop_first()
            && let Some(queue) = self.queues.get_mut(&key)
        {
            if let Some(CachedHandle::Open(handle)) = queue.cached.take() {
                let (closed, files) = handle.close();
                queue.cached = closed.map(CachedHandle::Closed);
                closing.push(files);
            }
            if queue.cached.is_some() {
                self.closed.insert(used, key);
            } else {
                self.queues.remove(&key);
            }
        }
        while self.closed.len() > MAX_CLOSED
            && let Some((_, key)) = self.closed.pop_first()
        {
            self.queues.remove(&key);
        }
        closing
    }
}

impl SessionQueues {
    pub(crate) fn new(pool: Pool, max_open: NonZeroUsize) -> Self {
        Self { pool, max_open, state: Mutex::default() }
    }

    /// Submits a job to a queue.
    pub(crate) fn submit(self: &Arc<Self>, key: QueueKey, job: Job) {
        let mut state = self.lock();
        let queue = state.queues.entry(key).or_default();
        queue.jobs.push_back(job);
        if !queue.busy {
            state.mark_busy(key);
            drop(state);
            self.spawn_next(key);
        }
    }

    /// Claims a queue for a job that runs on this thread; `None` if the queue is busy or has no open files.
    pub(crate) fn try_claim(self: &Arc<Self>, key: QueueKey) -> Option<ClaimedQueue> {
        let mut state = self.lock();
        let queue = state.queues.get_mut(&key).filter(|queue| !queue.busy)?;
        let cached = queue.cached.take_if(|cached| matches!(cached, CachedHandle::Open(_)))?;
        state.mark_busy(key);
        Some(ClaimedQueue { queues: Arc::clone(self), key, cached: Some(cached) })
    }

    fn spawn_next(self: &Arc<Self>, key: QueueKey) {
        let queues = Arc::clone(self);
        self.pool.spawn(move || queues.run_next(key));
    }

    /// Runs one job; the next job of this queue is scheduled after the waiting jobs of other queues.
    fn run_next(self: &Arc<Self>, key: QueueKey) {
        let (job, mut cached) = {
            let mut state = self.lock();
            let Some(queue) = state.queues.get_mut(&key) else { return };
            (queue.jobs.pop_front(), queue.cached.take())
        };
        if let Some(job) = job
            && catch_unwind(AssertUnwindSafe(|| job(&mut cached))).is_err()
        {
            // The state of the files after a panic is unknown: closing them releases the lock.
            cached = None;
        }
        self.release(key, cached);
    }

    fn release(self: &Arc<Self>, key: QueueKey, cached: Option<CachedHandle>) {
        let mut state = self.lock();
        let Some(queue) = state.queues.get_mut(&key) else { return };
        queue.cached = cached;
        if !queue.jobs.is_empty() {
            drop(state);
            return self.spawn_next(key);
        }
        let closing = state.mark_idle(key, self.max_open.get());
        drop(state);
        drop(closing);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for SessionQueues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lanes")
            .field("pool", &self.pool)
            .field("most_open", &self.max_open)
            .finish_non_exhaustive()
    }
}

/// A queue whose job runs on the calling thread.
pub(crate) struct ClaimedQueue {
    queues: Arc<SessionQueues>,
    key: QueueKey,
    pub(crate) cached: Option<CachedHandle>,
}

impl Drop for ClaimedQueue {
    fn drop(&mut self) {
        let cached = if std::thread::panicking() { None } else { self.cached.take() };
        self.queues.release(self.key, cached);
    }
}
