//! The threads of an open store: the writer thread, which processes queued requests as groups; the watchdog, which ends
//! waiting if sled hangs; and the reader threads.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use session_core::{SessionId, StorageError};
use session_storage_engine::{Folders, GroupCommit, Job, Limits};
use tokio::sync::Notify;

use crate::engine::Engine;
use crate::error::{Fault, unavailable};
use crate::format;
use crate::layout::Layout;
use crate::lock::StoreLock;
use crate::open::{open_error, open_store};
use crate::options::SledStorageOptions;
use crate::reader_pool::ReaderPool;
use crate::unclean_shutdown::DirtyMarker;
use crate::writer::{Reply, Request, Writer, outcome_unknown};

/// Bytes of records in one group: half a segment of sled's log, so that sled seldom reuses a segment before our flush
/// of the records that it moved elsewhere.
const GROUP_BYTES: usize = 256 * 1024;

type QueuedJob = Job<Option<Request>, Reply>;

/// An open store. Dropping it closes the database, which takes a flush.
pub(crate) struct Worker {
    pub(crate) engine: Arc<Engine>,
    pub(crate) readers: Arc<ReaderPool>,
    /// `None` only while it is dropped.
    group: Option<GroupCommit<Option<Request>, Reply>>,
    closed_rx: Mutex<Receiver<()>>,
    timeout: Duration,
    #[cfg(test)]
    pub(crate) flush_hook: crate::durable::FlushHook,
}

/// The choice to create a missing store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CreateIfMissing {
    No,
    Yes,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("engine", &self.engine).finish_non_exhaustive()
    }
}

impl Worker {
    /// Opens a store; `None` if it is missing and must not be created.
    pub(crate) fn open(
        options: &SledStorageOptions,
        create_if_missing: CreateIfMissing,
        changes: &Arc<Notify>,
    ) -> Result<Option<Self>, StorageError> {
        let layout = Layout::new(options.path.clone());
        if format::identify(&layout, options.purpose)?.is_none() && create_if_missing == CreateIfMissing::No {
            return Ok(None);
        }
        Folders::create(layout.root())?;
        let (writer, lock) = open_with_timeout(options, layout, changes)?;
        #[cfg(test)]
        let flush_hook = Arc::clone(&writer.durable.flush_hook);
        let engine = Arc::clone(&writer.engine);
        let (closed_tx, closed_rx) = channel();
        // From here on every error path closes the database.
        let mut writer_thread =
            WriterThread { open: Some((writer, lock)), watchdog: None, _closed_tx: closed_tx };
        let readers = Arc::new(ReaderPool::start(options.read_threads)?);
        let timeout = options.engine_timeout;
        let watchdog = Arc::new(Watchdog {
            engine: Arc::clone(&engine),
            readers: Arc::clone(&readers),
            timeout,
            in_flight: Mutex::default(),
            changed: Condvar::new(),
        });
        writer_thread.watchdog = Some(Arc::clone(&watchdog));
        spawn("session-sled-watch", move || watchdog.watch())?;
        let limits = Limits { bytes: GROUP_BYTES, ..Limits::default() };
        let group = GroupCommit::start("session-sled-write", limits, move |jobs| writer_thread.process(jobs));
        let group = group.map_err(thread_error)?;
        Ok(Some(Self {
            engine,
            readers,
            group: Some(group),
            closed_rx: Mutex::new(closed_rx),
            timeout,
            #[cfg(test)]
            flush_hook,
        }))
    }

    /// Submits a request to the writer and awaits its reply.
    pub(crate) async fn submit(&self, request: Request) -> Reply {
        if let Some(closed) = self.engine.closed() {
            return Err(closed);
        }
        let Some(group) = &self.group else { return Err(unavailable("the store is being closed")) };
        let (id, bytes) = (request.session(), request.bytes());
        group.submit(Some(request), bytes).await.unwrap_or_else(|gone| {
            let what = format!("the store {}", self.engine.layout.root().display());
            Err(id.map_or(StorageError::Closed { what: what.clone(), source: None }, |id| {
                gone.to_error(&what, id)
            }))
        })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let Some(group) = self.group.take() else { return };
        // Joins the writer thread on another thread, since it may hang.
        if spawn("session-sled-close", move || drop(group)).is_err() {
            tracing::error!("could not start a thread to close the store");
        }
        let closed_rx = self.closed_rx.lock().unwrap_or_else(PoisonError::into_inner);
        if closed_rx.recv_timeout(self.timeout) == Err(RecvTimeoutError::Timeout) {
            tracing::error!(store = %self.engine.layout.root().display(), "timed out closing the sled database");
        }
    }
}

fn thread_error(error: std::io::Error) -> StorageError {
    let what = "cannot start a thread to open the store".to_owned();
    StorageError::Unavailable { what, source: Some(Arc::new(error)) }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), StorageError> {
    thread::Builder::new().name(name.to_owned()).spawn(run).map(drop).map_err(thread_error)
}

/// Opens the database on a separate thread, and waits for it up to the timeouts.
fn open_with_timeout(
    options: &SledStorageOptions,
    layout: Layout,
    changes: &Arc<Notify>,
) -> Result<(Writer, StoreLock), StorageError> {
    let (opened_tx, opened_rx) = channel();
    let (thread_options, thread_changes) = (options.clone(), Arc::clone(changes));
    spawn("session-sled-open", move || {
        let started =
            catch_unwind(AssertUnwindSafe(|| open_store(&thread_options, &layout, &thread_changes)));
        let started = started.unwrap_or_else(|panic| Err(open_error(&layout, &Fault::panic(&*panic))));
        if let Err(unreceived) = opened_tx.send(started)
            && let Ok((writer, lock)) = unreceived.0
        {
            close_database(writer, lock);
        }
    })?;
    match opened_rx.recv_timeout(options.engine_timeout + options.lock_timeout) {
        Ok(opened) => opened,
        Err(RecvTimeoutError::Timeout) => {
            let hang = Fault::Hang(options.engine_timeout.as_secs());
            Err(open_error(&Layout::new(options.path.clone()), &hang))
        }
        Err(RecvTimeoutError::Disconnected) => Err(unavailable("the thread that opens the store has ended")),
    }
}

/// The watchdog of the writer thread, and the requests that it processes now.
#[derive(Debug)]
struct Watchdog {
    engine: Arc<Engine>,
    readers: Arc<ReaderPool>,
    timeout: Duration,
    in_flight: Mutex<InFlight>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct InFlight {
    since: Option<Instant>,
    waiting: Vec<(Option<SessionId>, QueuedJob)>,
    is_over: bool,
}

impl Watchdog {
    fn lock(&self) -> MutexGuard<'_, InFlight> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn closed(&self) -> StorageError {
        self.engine.closed().unwrap_or_else(|| unavailable("the store is closed"))
    }

    fn begin(&self, waiting: Vec<(Option<SessionId>, QueuedJob)>) {
        let mut state = self.lock();
        (state.since, state.waiting) = (Some(Instant::now()), waiting);
    }

    /// Ends the current group and returns its jobs; none if the watchdog has failed them.
    fn finish(&self) -> Vec<(Option<SessionId>, QueuedJob)> {
        let mut state = self.lock();
        state.since = None;
        mem::take(&mut state.waiting)
    }

    /// Fails the waiting requests with an unknown outcome, and all reads.
    fn fail_all(&self, waiting: Vec<(Option<SessionId>, QueuedJob)>) {
        for (id, job) in waiting {
            job.reply(Err(outcome_unknown(id, self.closed())));
        }
        self.readers.close(&self.closed());
    }

    /// Checks periodically, until the end, that the current group has not exceeded the timeout.
    fn watch(&self) {
        let mut state = self.lock();
        while !state.is_over {
            if state.since.is_some_and(|since| since.elapsed() > self.timeout) {
                let waiting = mem::take(&mut state.waiting);
                drop(state);
                self.engine.close(Fault::Hang(self.timeout.as_secs()));
                return self.fail_all(waiting);
            }
            let (next, _) =
                self.changed.wait_timeout(state, self.timeout / 4).unwrap_or_else(PoisonError::into_inner);
            state = next;
        }
    }
}

/// The state of the writer thread. Dropping it closes the database.
struct WriterThread {
    /// `None` once the database is closed.
    open: Option<(Writer, StoreLock)>,
    /// `None` only until the threads are started.
    watchdog: Option<Arc<Watchdog>>,
    /// Dropped with this, which signals the end to the waiting receiver.
    _closed_tx: Sender<()>,
}

impl WriterThread {
    fn process(&mut self, mut jobs: Vec<QueuedJob>) {
        let Some(watchdog) = self.watchdog.clone() else { return };
        let Some((writer, _)) = self.open.as_mut().filter(|_| watchdog.engine.closed().is_none()) else {
            for job in jobs {
                job.reply(Err(watchdog.closed()));
            }
            return;
        };
        let requests: Vec<Request> = jobs.iter_mut().filter_map(|job| job.request.take()).collect();
        watchdog.begin(requests.iter().map(Request::session).zip(jobs).collect());
        let result = catch_unwind(AssertUnwindSafe(|| writer.process(requests)));
        let waiting = watchdog.finish();
        match result {
            Ok(replies) => {
                for ((_, job), reply) in waiting.into_iter().zip(replies) {
                    job.reply(reply);
                }
            }
            Err(panic) => {
                watchdog.engine.close(Fault::panic(&*panic));
                watchdog.fail_all(waiting);
            }
        }
        if watchdog.engine.closed().is_some() {
            watchdog.readers.close(&watchdog.closed());
            self.close_database();
        }
    }

    fn close_database(&mut self) {
        if let Some((writer, lock)) = self.open.take() {
            close_database(writer, lock);
        }
    }
}

impl Drop for WriterThread {
    fn drop(&mut self) {
        self.close_database();
        if let Some(watchdog) = &self.watchdog {
            watchdog.lock().is_over = true;
            watchdog.changed.notify_all();
        }
    }
}

/// Closes the database. After a fault its state is unknown, and the marker stays.
fn close_database(writer: Writer, lock: StoreLock) {
    let Writer { engine, db, mut durable, change } = writer;
    let mut clean = engine.closed().is_none();
    if clean && durable.is_dirty() {
        let flushed = catch_unwind(AssertUnwindSafe(|| durable.flush_durably(&engine, &db, change)));
        if !matches!(flushed, Ok(Ok(()))) {
            tracing::error!(store = %engine.layout.root().display(), "the last flush failed");
            clean = false;
        }
    }
    drop(durable);
    // Waits for readers.
    let shared = engine.db.write().unwrap_or_else(PoisonError::into_inner).take();
    // sled flushes when it is dropped, and panics if that fails.
    let dropped = catch_unwind(AssertUnwindSafe(|| {
        drop(shared);
        drop(db);
    }));
    if clean
        && dropped.is_ok()
        && let Err(error) = DirtyMarker::remove(&engine.layout)
    {
        tracing::warn!(store = %engine.layout.root().display(), %error, "could not remove the marker of an unclean shutdown");
    }
    drop(lock);
}

#[cfg(test)]
mod tests;
