//! One lane per session: its jobs run one after another, in the order in which they came, on one thread at a time.
//! So a session whose lock is stuck holds up nobody else, and threads of one process queue fairly. A lane keeps the
//! session's open files from one job to the next; of idle ones only so many, and of those that were closed to make room,
//! what is known of them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use session_core::SessionId;

use crate::handle::{Files, Kept};
use crate::pool::Pool;

/// What a lane is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    /// What happens under the store's lock.
    Store,
    /// What happens under a session's lock.
    Session(SessionId),
}

/// Sessions of which something is known though their files are closed: a kilobyte or two each.
const MOST_CLOSED: usize = 4096;

/// Something to do with a lane's open files.
pub(crate) type Job = Box<dyn FnOnce(&mut Option<Kept>) + Send>;

/// All lanes.
pub(crate) struct Lanes {
    pool: Pool,
    most_open: NonZeroUsize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    lanes: HashMap<Key, Lane>,
    /// Lanes without a job whose files are open, by when they were used.
    open: BTreeMap<u64, Key>,
    /// Lanes without a job whose files are closed, by when they were used.
    closed: BTreeMap<u64, Key>,
    uses: u64,
}

#[derive(Default)]
struct Lane {
    kept: Option<Kept>,
    jobs: VecDeque<Job>,
    busy: bool,
    /// When it was used last, where it has no job.
    used: u64,
}

impl State {
    /// The lane is in use from now on: nobody closes its files.
    fn begin(&mut self, key: Key) {
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.busy = true;
            self.open.remove(&lane.used);
            self.closed.remove(&lane.used);
        }
    }

    /// Takes a lane out of use, and makes room. What is returned is to be closed where nobody waits for it.
    fn end(&mut self, key: Key, most_open: usize) -> Vec<Files> {
        self.uses += 1;
        let mut closing = Vec::new();
        if let Some(lane) = self.lanes.get_mut(&key) {
            (lane.busy, lane.used) = (false, self.uses);
            let idle = match lane.kept {
                Some(Kept::Open(_)) => Some(&mut self.open),
                Some(Kept::Closed(_)) => Some(&mut self.closed),
                None => None,
            };
            match idle {
                Some(idle) => drop(idle.insert(self.uses, key)),
                None => drop(self.lanes.remove(&key)),
            }
        }
        while self.open.len() > most_open
            && let Some((used, key)) = self.open.pop_first()
            && let Some(lane) = self.lanes.get_mut(&key)
        {
            if let Some(Kept::Open(handle)) = lane.kept.take() {
                let (known, files) = handle.close();
                lane.kept = known.map(Kept::Closed);
                closing.push(files);
            }
            if lane.kept.is_some() {
                self.closed.insert(used, key);
            } else {
                self.lanes.remove(&key);
            }
        }
        while self.closed.len() > MOST_CLOSED
            && let Some((_, key)) = self.closed.pop_first()
        {
            self.lanes.remove(&key);
        }
        closing
    }
}

impl Lanes {
    pub(crate) fn new(pool: Pool, most_open: NonZeroUsize) -> Self {
        Self { pool, most_open, state: Mutex::default() }
    }

    /// Runs a job after those that are in its lane already.
    pub(crate) fn submit(self: &Arc<Self>, key: Key, job: Job) {
        let mut state = self.lock();
        let lane = state.lanes.entry(key).or_default();
        lane.jobs.push_back(job);
        if !lane.busy {
            state.begin(key);
            drop(state);
            self.run_on_a_thread(key);
        }
    }

    /// The open files of a lane, for a job that runs here and now; `None` if others are at it, or nothing is open.
    pub(crate) fn claim(self: &Arc<Self>, key: Key) -> Option<Claim> {
        let mut state = self.lock();
        let lane = state.lanes.get_mut(&key).filter(|lane| !lane.busy)?;
        let kept = lane.kept.take_if(|kept| matches!(kept, Kept::Open(_)))?;
        state.begin(key);
        Some(Claim { lanes: Arc::clone(self), key, kept: Some(kept) })
    }

    fn run_on_a_thread(self: &Arc<Self>, key: Key) {
        let lanes = Arc::clone(self);
        self.pool.spawn(move || lanes.run_next(key));
    }

    /// Runs one job; the next one queues behind the jobs of other lanes.
    fn run_next(self: &Arc<Self>, key: Key) {
        let (job, mut kept) = {
            let mut state = self.lock();
            let Some(lane) = state.lanes.get_mut(&key) else { return };
            (lane.jobs.pop_front(), lane.kept.take())
        };
        if let Some(job) = job
            && catch_unwind(AssertUnwindSafe(|| job(&mut kept))).is_err()
        {
            // Whatever it was doing to the files is not known: closing them lets go of the lock.
            kept = None;
        }
        self.release(key, kept);
    }

    fn release(self: &Arc<Self>, key: Key, kept: Option<Kept>) {
        let mut state = self.lock();
        let Some(lane) = state.lanes.get_mut(&key) else { return };
        lane.kept = kept;
        if !lane.jobs.is_empty() {
            drop(state);
            return self.run_on_a_thread(key);
        }
        let closing = state.end(key, self.most_open.get());
        drop(state);
        drop(closing);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Lanes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lanes")
            .field("pool", &self.pool)
            .field("most_open", &self.most_open)
            .finish_non_exhaustive()
    }
}

/// A lane in which a job runs on the thread of whoever asked for it.
pub(crate) struct Claim {
    lanes: Arc<Lanes>,
    key: Key,
    pub(crate) kept: Option<Kept>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        let kept = if std::thread::panicking() { None } else { self.kept.take() };
        self.lanes.release(self.key, kept);
    }
}
