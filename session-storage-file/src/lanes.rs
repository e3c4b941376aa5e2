//! One lane per session: its jobs run one after another, in the order in which they came, on one thread at a time.
//! So a session whose lock is stuck holds up nobody else, and threads of one process queue fairly. A lane keeps the
//! session's open files from one job to the next; of idle ones only so many.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use session_core::SessionId;

use crate::handle::Handle;
use crate::pool::Pool;

/// What a lane is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    /// What happens under the store's lock.
    Store,
    /// What happens under a session's lock.
    Session(SessionId),
}

/// Something to do with a lane's open files.
pub(crate) type Job = Box<dyn FnOnce(&mut Option<Handle>) + Send>;

/// All lanes.
pub(crate) struct Lanes {
    pool: Pool,
    most_idle: NonZeroUsize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    lanes: HashMap<Key, Lane>,
    /// Lanes without a job, the one that was used longest ago first.
    idle: VecDeque<Key>,
}

#[derive(Default)]
struct Lane {
    handle: Option<Handle>,
    jobs: VecDeque<Job>,
    busy: bool,
}

impl Lanes {
    pub(crate) fn new(pool: Pool, most_idle: NonZeroUsize) -> Self {
        Self { pool, most_idle, state: Mutex::default() }
    }

    /// Runs a job after those that are in its lane already.
    pub(crate) fn submit(self: &Arc<Self>, key: Key, job: Job) {
        let mut state = self.lock();
        let lane = state.lanes.entry(key).or_default();
        lane.jobs.push_back(job);
        if !std::mem::replace(&mut lane.busy, true) {
            state.idle.retain(|idle| *idle != key);
            drop(state);
            self.run_on_a_thread(key);
        }
    }

    /// The open files of a lane, for a job that runs here and now; `None` if others are at it, or nothing is open.
    pub(crate) fn claim(self: &Arc<Self>, key: Key) -> Option<Claim> {
        let mut state = self.lock();
        let lane = state.lanes.get_mut(&key).filter(|lane| !lane.busy)?;
        let handle = lane.handle.take()?;
        lane.busy = true;
        state.idle.retain(|idle| *idle != key);
        Some(Claim { lanes: Arc::clone(self), key, handle: Some(handle) })
    }

    fn run_on_a_thread(self: &Arc<Self>, key: Key) {
        let lanes = Arc::clone(self);
        self.pool.spawn(move || lanes.run_next(key));
    }

    /// Runs one job; the next one queues behind the jobs of other lanes.
    fn run_next(self: &Arc<Self>, key: Key) {
        let (job, mut handle) = {
            let mut state = self.lock();
            let Some(lane) = state.lanes.get_mut(&key) else { return };
            (lane.jobs.pop_front(), lane.handle.take())
        };
        if let Some(job) = job
            && catch_unwind(AssertUnwindSafe(|| job(&mut handle))).is_err()
        {
            // Whatever it was doing to the files is not known: closing them lets go of the lock.
            handle = None;
        }
        self.release(key, handle);
    }

    fn release(self: &Arc<Self>, key: Key, handle: Option<Handle>) {
        let mut closed = Vec::new();
        let mut state = self.lock();
        let Some(lane) = state.lanes.get_mut(&key) else { return };
        lane.handle = handle;
        if !lane.jobs.is_empty() {
            drop(state);
            return self.run_on_a_thread(key);
        }
        lane.busy = false;
        if lane.handle.is_some() {
            state.idle.push_back(key);
        } else {
            state.lanes.remove(&key);
        }
        while state.idle.len() > self.most_idle.get() {
            let oldest = state.idle.pop_front();
            closed.extend(oldest.and_then(|key| state.lanes.remove(&key)));
        }
        drop(state);
        // Files are closed while nobody waits for it.
        drop(closed);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Lanes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lanes")
            .field("pool", &self.pool)
            .field("most_idle", &self.most_idle)
            .finish_non_exhaustive()
    }
}

/// A lane in which a job runs on the thread of whoever asked for it.
pub(crate) struct Claim {
    lanes: Arc<Lanes>,
    key: Key,
    pub(crate) handle: Option<Handle>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        let handle = if std::thread::panicking() { None } else { self.handle.take() };
        self.lanes.release(self.key, handle);
    }
}
