//! The threads of an open store: the writer thread, which processes queued requests as groups, the reader threads, and
//! those that open and close it.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use session_core::StorageError;
use session_storage_engine::{Folders, GroupCommit, Limits};
use tokio::sync::Notify;

use crate::engine::Engine;
use crate::error::{Fault, unavailable};
use crate::format;
use crate::layout::Layout;
use crate::lock::StoreLock;
use crate::open::{open_error, open_store};
use crate::options::SledStorageOptions;
use crate::panic_guard::guard;
use crate::reader_pool::ReaderPool;
use crate::unclean_shutdown::DirtyMarker;
use crate::watchdog::{QueuedJob, Watchdog};
use crate::writer::{Reply, Request, Writer};

/// Bytes of records in one group: half a segment of sled's log, so that sled seldom reuses a segment before our flush
/// of the records that it moved elsewhere.
const GROUP_BYTES: usize = 256 * 1024;

/// The longest wait for the close of a database after a fault.
const FAULT_GRACE: Duration = Duration::from_secs(5);

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
        let (engine, watched_db) = (Arc::clone(&writer.engine), writer.db.clone());
        let (closed_tx, closed_rx) = channel();
        // From here on every error path closes the database.
        let mut writer_thread =
            WriterThread { open: Some((writer, lock)), watchdog: None, _closed_tx: closed_tx };
        let readers = Arc::new(ReaderPool::start(options.read_threads)?);
        let timeout = options.engine_timeout;
        let watchdog =
            Arc::new(Watchdog::new(Arc::clone(&engine), Arc::clone(&readers), watched_db, timeout));
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
        // After a fault the writer may hang forever.
        let timeout =
            if self.engine.closed().is_some() { self.timeout.min(FAULT_GRACE) } else { self.timeout };
        if closed_rx.recv_timeout(timeout) == Err(RecvTimeoutError::Timeout) {
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
        let started = guard(|| open_store(&thread_options, &layout, &thread_changes));
        let started = started.unwrap_or_else(|fault| Err(open_error(&layout, &fault)));
        if let Err(unreceived) = opened_tx.send(started)
            && let Ok((writer, lock)) = unreceived.0
        {
            close_database(writer, lock, None);
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
        let result = guard(|| writer.process(requests));
        let waiting = watchdog.finish();
        match result {
            Ok(replies) => {
                for ((_, job), reply) in waiting.into_iter().zip(replies) {
                    job.reply(reply);
                }
            }
            Err(fault) => {
                watchdog.engine.close(fault);
                watchdog.fail_all(waiting);
            }
        }
        if watchdog.engine.closed().is_some() {
            watchdog.readers.close(&watchdog.closed());
            self.close_database();
        }
    }

    fn close_database(&mut self) {
        let Some((writer, lock)) = self.open.take() else { return };
        if let Some(watchdog) = &self.watchdog {
            watchdog.begin(Vec::new());
        }
        close_database(writer, lock, self.watchdog.as_deref());
        if let Some(watchdog) = &self.watchdog {
            watchdog.finish();
        }
    }
}

impl Drop for WriterThread {
    fn drop(&mut self) {
        self.close_database();
        if let Some(watchdog) = &self.watchdog {
            watchdog.end();
        }
    }
}

/// Closes the database. After a fault its state is unknown, and the marker stays.
fn close_database(writer: Writer, lock: StoreLock, watchdog: Option<&Watchdog>) {
    let Writer { engine, db, mut durable, change, given_up } = writer;
    let mut clean = engine.closed().is_none();
    if clean && durable.is_dirty() {
        let flushed = guard(|| durable.flush_durably(&engine, &db, change));
        if let Err(fault) = flushed.flatten() {
            tracing::error!(store = %engine.layout.root().display(), fault = fault.summary(), "the last flush failed");
            clean = false;
        }
    }
    drop(durable);
    if let Some(watchdog) = watchdog {
        watchdog.release();
    }
    // Waits for readers.
    let shared = engine.db.write().unwrap_or_else(PoisonError::into_inner).take();
    // sled flushes when it is dropped, and panics if that fails.
    let dropped = guard(|| {
        drop(shared);
        drop(db);
    });
    if let Err(fault) = &dropped {
        tracing::error!(
            store = %engine.layout.root().display(),
            fault = fault.summary(),
            "closing sled failed; nothing acknowledged is lost, and the next opening keeps a copy of the database"
        );
    }
    if clean
        && dropped.is_ok()
        && let Err(error) = DirtyMarker::remove(&engine.layout)
    {
        tracing::warn!(store = %engine.layout.root().display(), %error, "could not remove the marker of an unclean shutdown");
    }
    engine.layout.reserve().reclaim(given_up);
    drop(lock);
}

#[cfg(test)]
mod tests;
