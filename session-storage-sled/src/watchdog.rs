//! The watchdog of an open store: it ends waiting for sled, which may hang. After an error of a write in the background
//! sled does not always wake the threads that wait for that write, and after a panic of one of its threads never.

use std::mem;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use session_core::{SessionId, StorageError};
use session_storage_engine::Job;

use crate::db::Db;
use crate::engine::Engine;
use crate::error::{Fault, unavailable};
use crate::panic_guard::{guard, lost_threads};
use crate::reader_pool::ReaderPool;
use crate::writer::{Reply, Request, outcome_unknown};

/// The time between two checks.
const TICK: Duration = Duration::from_secs(1);
/// The time that threads have to end with the error of a write in the background, after they were woken.
const ERROR_GRACE: Duration = Duration::from_secs(5);

pub(crate) type QueuedJob = Job<Option<Request>, Reply>;
type Waiting = Vec<(Option<SessionId>, QueuedJob)>;

/// The watchdog of a store's threads, and the requests that the writer processes now.
#[derive(Debug)]
pub(crate) struct Watchdog {
    pub(crate) engine: Arc<Engine>,
    pub(crate) readers: Arc<ReaderPool>,
    timeout: Duration,
    /// `None` once the database is being closed: sled closes it with the last handle.
    db: Mutex<Option<Db>>,
    in_flight: Mutex<InFlight>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct InFlight {
    since: Option<Instant>,
    waiting: Waiting,
    is_over: bool,
}

impl Watchdog {
    pub(crate) fn new(engine: Arc<Engine>, readers: Arc<ReaderPool>, db: Db, timeout: Duration) -> Self {
        let (in_flight, changed) = (Mutex::default(), Condvar::new());
        Self { engine, readers, timeout, db: Mutex::new(Some(db)), in_flight, changed }
    }

    fn lock(&self) -> MutexGuard<'_, InFlight> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the error of requests to the closed store.
    pub(crate) fn closed(&self) -> StorageError {
        self.engine.closed().unwrap_or_else(|| unavailable("the store is closed"))
    }

    /// Starts the clock for a group of requests; without any, for the close of the database.
    pub(crate) fn begin(&self, waiting: Waiting) {
        let mut state = self.lock();
        (state.since, state.waiting) = (Some(Instant::now()), waiting);
    }

    /// Ends the current group and returns its jobs; none if the watchdog has failed them.
    pub(crate) fn finish(&self) -> Waiting {
        let mut state = self.lock();
        state.since = None;
        mem::take(&mut state.waiting)
    }

    /// Fails the waiting requests with an unknown outcome, and all reads.
    pub(crate) fn fail_all(&self, waiting: Waiting) {
        for (id, job) in waiting {
            job.reply(Err(outcome_unknown(id, self.closed())));
        }
        self.readers.close(&self.closed());
    }

    /// Releases the database, so that it can be closed.
    pub(crate) fn release(&self) {
        drop(self.db.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Ends the watch.
    pub(crate) fn end(&self) {
        self.lock().is_over = true;
        self.changed.notify_all();
    }

    /// Checks periodically, until the end, that nothing waits longer than the timeout, or for a write that has failed.
    pub(crate) fn watch(&self) {
        let tick = TICK.min(self.timeout / 4);
        let mut failure: Option<Instant> = None;
        let threads_before = lost_threads();
        let mut state = self.lock();
        let mut seen = 0;
        while !state.is_over {
            let progress = self.engine.progress.load(Ordering::Relaxed);
            if progress != seen {
                // A part of a long change is done: the next part has the whole timeout again.
                seen = progress;
                state.since = state.since.map(|_| Instant::now());
            }
            let oldest = [state.since, self.readers.oldest()].into_iter().flatten().min();
            if let Some(since) = oldest {
                let fault = self.background_fault(threads_before);
                let is_stuck = fault.is_some() && failure.is_some_and(|seen| seen.elapsed() > ERROR_GRACE);
                if is_stuck || since.elapsed() > self.timeout {
                    let waiting = mem::take(&mut state.waiting);
                    drop(state);
                    self.engine.close(fault.unwrap_or(Fault::Hang(self.timeout.as_secs())));
                    return self.fail_all(waiting);
                }
                if fault.is_some() {
                    failure.get_or_insert_with(Instant::now);
                    self.wake();
                }
            } else {
                failure = None;
            }
            let (next, _) = self.changed.wait_timeout(state, tick).unwrap_or_else(PoisonError::into_inner);
            state = next;
        }
    }

    /// Returns the failure of sled's threads, if there was one.
    fn background_fault(&self, threads_before: usize) -> Option<Fault> {
        let db = self.db.lock().unwrap_or_else(PoisonError::into_inner);
        let error = db.as_ref().and_then(Db::background_error).map(Fault::Sled);
        let is_lost = lost_threads() != threads_before;
        error.or_else(|| is_lost.then(|| Fault::Panic("one of its threads has ended".to_owned())))
    }

    /// Wakes the threads that wait for a failed write: a flush finds its error, and passes it on to them. On a thread of
    /// its own, since it may hang as well.
    fn wake(&self) {
        let Some(db) = self.db.lock().unwrap_or_else(PoisonError::into_inner).clone() else { return };
        let flush = move || drop(guard(|| drop((db.flush(), db))));
        if let Err(error) = thread::Builder::new().name("session-sled-wake".to_owned()).spawn(flush) {
            tracing::warn!(%error, "could not start a thread to wake those that wait for sled");
        }
    }
}
