//! The threads of an open store: one that has sled and does at once what has queued up; one that sees to it that nobody waits
//! for it for ever, since sled can hang; and those that read.

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
use crate::lock::Held;
use crate::open::{broken, start};
use crate::options::SledStorageOptions;
use crate::readers::Readers;
use crate::unclean::Note;
use crate::write::{Answered, Request, Writer, unknown};

/// Bytes of records that are flushed at once: half a segment of sled's log, so that it seldom comes to use a segment again
/// before what takes its place was flushed by us.
const GROUP_BYTES: usize = 256 * 1024;

type Asked = Job<Option<Request>, Answered>;

/// An open store. Dropping it closes the database, which takes a flush.
pub(crate) struct Running {
    pub(crate) engine: Arc<Engine>,
    pub(crate) readers: Arc<Readers>,
    /// `None` only while it is dropped.
    group: Option<GroupCommit<Option<Request>, Answered>>,
    ended: Mutex<Receiver<()>>,
    patience: Duration,
    #[cfg(test)]
    pub(crate) next: crate::durable::NextFlush,
}

/// Whether a store is made where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Make {
    Nothing,
    Store,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("engine", &self.engine).finish_non_exhaustive()
    }
}

impl Running {
    /// Opens a store; `None` where there is none and none is to be made.
    pub(crate) fn open(
        options: &SledStorageOptions,
        make: Make,
        changes: &Arc<Notify>,
    ) -> Result<Option<Self>, StorageError> {
        let layout = Layout::new(options.path.clone());
        if format::look(&layout)?.is_none() && make == Make::Nothing {
            return Ok(None);
        }
        Folders::make(layout.root())?;
        let (writer, lock) = open_in_time(options, layout, changes)?;
        #[cfg(test)]
        let next = Arc::clone(&writer.durable.next);
        let engine = Arc::clone(&writer.engine);
        let (ends, ended) = channel();
        // From here on the database is closed whatever fails.
        let mut serving = Serving { open: Some((writer, lock)), desk: None, _ends: ends };
        let readers = Arc::new(Readers::start(options.read_threads)?);
        let patience = options.engine_timeout;
        let desk = Arc::new(Desk {
            engine: Arc::clone(&engine),
            readers: Arc::clone(&readers),
            patience,
            at_work: Mutex::default(),
            changed: Condvar::new(),
        });
        serving.desk = Some(Arc::clone(&desk));
        spawn("session-sled-watch", move || desk.watch())?;
        let limits = Limits { bytes: GROUP_BYTES, ..Limits::default() };
        let group = GroupCommit::start("session-sled-write", limits, move |jobs| serving.serve(jobs));
        let group = group.map_err(no_thread)?;
        Ok(Some(Self {
            engine,
            readers,
            group: Some(group),
            ended: Mutex::new(ended),
            patience,
            #[cfg(test)]
            next,
        }))
    }

    /// Has the writer do something.
    pub(crate) async fn ask(&self, request: Request) -> Answered {
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

impl Drop for Running {
    fn drop(&mut self) {
        let Some(group) = self.group.take() else { return };
        // The thread is waited for where it hurts nobody if it hangs.
        if spawn("session-sled-close", move || drop(group)).is_err() {
            tracing::error!("no thread can be started to close the store with");
        }
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.recv_timeout(self.patience) == Err(RecvTimeoutError::Timeout) {
            tracing::error!(store = %self.engine.layout.root().display(), "sled does not come to its end");
        }
    }
}

fn no_thread(error: std::io::Error) -> StorageError {
    let what = "no thread can be started to open the store with".to_owned();
    StorageError::Unavailable { what, source: Some(Arc::new(error)) }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), StorageError> {
    thread::Builder::new().name(name.to_owned()).spawn(run).map(drop).map_err(no_thread)
}

/// Opens the database on a thread of its own, and waits for it no longer than it may take.
fn open_in_time(
    options: &SledStorageOptions,
    layout: Layout,
    changes: &Arc<Notify>,
) -> Result<(Writer, Held), StorageError> {
    let (opened, opens) = channel();
    let (options_there, changes_there) = (options.clone(), Arc::clone(changes));
    spawn("session-sled-open", move || {
        let started = catch_unwind(AssertUnwindSafe(|| start(&options_there, &layout, &changes_there)));
        let started = started.unwrap_or_else(|panic| Err(broken(&layout, &Fault::panic(&*panic))));
        if let Err(unheard) = opened.send(started)
            && let Ok((writer, lock)) = unheard.0
        {
            end(writer, lock);
        }
    })?;
    match opens.recv_timeout(options.engine_timeout + options.lock_timeout) {
        Ok(opened) => opened,
        Err(RecvTimeoutError::Timeout) => {
            let hang = Fault::Hang(options.engine_timeout.as_secs());
            Err(broken(&Layout::new(options.path.clone()), &hang))
        }
        Err(RecvTimeoutError::Disconnected) => Err(unavailable("the thread that opens the store has ended")),
    }
}

/// Who waits for what sled is doing now.
#[derive(Debug)]
struct Desk {
    engine: Arc<Engine>,
    readers: Arc<Readers>,
    patience: Duration,
    at_work: Mutex<AtWork>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct AtWork {
    since: Option<Instant>,
    waiting: Vec<(Option<SessionId>, Asked)>,
    over: bool,
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, AtWork> {
        self.at_work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn closed(&self) -> StorageError {
        self.engine.closed().unwrap_or_else(|| unavailable("the store is closed"))
    }

    fn begin(&self, waiting: Vec<(Option<SessionId>, Asked)>) {
        let mut now = self.lock();
        (now.since, now.waiting) = (Some(Instant::now()), waiting);
    }

    /// Whoever still waits; nobody if it took too long.
    fn finish(&self) -> Vec<(Option<SessionId>, Asked)> {
        let mut now = self.lock();
        now.since = None;
        mem::take(&mut now.waiting)
    }

    /// Answers whoever waits that nobody knows.
    fn give_up(&self, waiting: Vec<(Option<SessionId>, Asked)>) {
        for (id, job) in waiting {
            job.answer(Err(unknown(id, self.closed())));
        }
        self.readers.end(&self.closed());
    }

    /// Until the end: looks from time to time whether what sled does takes too long.
    fn watch(&self) {
        let mut now = self.lock();
        while !now.over {
            if now.since.is_some_and(|since| since.elapsed() > self.patience) {
                let waiting = mem::take(&mut now.waiting);
                drop(now);
                self.engine.close(Fault::Hang(self.patience.as_secs()));
                return self.give_up(waiting);
            }
            let (looked, _) =
                self.changed.wait_timeout(now, self.patience / 4).unwrap_or_else(PoisonError::into_inner);
            now = looked;
        }
    }
}

/// What the thread that writes has. When it goes, the database is closed.
struct Serving {
    /// `None` once the database is closed.
    open: Option<(Writer, Held)>,
    /// `None` only until the threads are started.
    desk: Option<Arc<Desk>>,
    /// Goes with it, which whoever waits for the end notices.
    _ends: Sender<()>,
}

impl Serving {
    fn serve(&mut self, mut jobs: Vec<Asked>) {
        let Some(desk) = self.desk.clone() else { return };
        let Some((writer, _)) = self.open.as_mut().filter(|_| desk.engine.closed().is_none()) else {
            for job in jobs {
                job.answer(Err(desk.closed()));
            }
            return;
        };
        let requests: Vec<Request> = jobs.iter_mut().filter_map(|job| job.request.take()).collect();
        desk.begin(requests.iter().map(Request::session).zip(jobs).collect());
        let served = catch_unwind(AssertUnwindSafe(|| writer.serve(requests)));
        let waiting = desk.finish();
        match served {
            Ok(said) => {
                for ((_, job), said) in waiting.into_iter().zip(said) {
                    job.answer(said);
                }
            }
            Err(panic) => {
                desk.engine.close(Fault::panic(&*panic));
                desk.give_up(waiting);
            }
        }
        if desk.engine.closed().is_some() {
            desk.readers.end(&desk.closed());
            self.end();
        }
    }

    fn end(&mut self) {
        if let Some((writer, lock)) = self.open.take() {
            end(writer, lock);
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.end();
        if let Some(desk) = &self.desk {
            desk.lock().over = true;
            desk.changed.notify_all();
        }
    }
}

/// Closes the database. After a fault nothing of it is believed, and the note stays.
fn end(writer: Writer, lock: Held) {
    let Writer { engine, db, mut durable, change } = writer;
    let mut clean = engine.closed().is_none();
    if clean && durable.is_dirty() {
        let settled = catch_unwind(AssertUnwindSafe(|| durable.settle(&engine, &db, change)));
        if !matches!(settled, Ok(Ok(()))) {
            tracing::error!(store = %engine.layout.root().display(), "the last flush failed");
            clean = false;
        }
    }
    drop(durable);
    // Waits for those who look.
    let shared = engine.db.write().unwrap_or_else(PoisonError::into_inner).take();
    // sled flushes when it is dropped, and panics if that fails.
    let dropped = catch_unwind(AssertUnwindSafe(|| {
        drop(shared);
        drop(db);
    }));
    if clean
        && dropped.is_ok()
        && let Err(error) = Note::take_away(&engine.layout)
    {
        tracing::warn!(store = %engine.layout.root().display(), %error, "a note of an unclean end is left");
    }
    drop(lock);
}

#[cfg(test)]
mod tests;
