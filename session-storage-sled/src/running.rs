//! The threads of an open store: one that has sled, opens, changes and closes it; one that hands groups of requests on to it,
//! and does not wait for it for ever, since sled can hang; and those that read.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::Duration;

use session_core::StorageError;
use session_storage_engine::{Folders, Group, Job, Limits};
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

type Served = (Vec<Answered>, bool);

/// What the thread that writes is asked for.
struct Ask {
    requests: Vec<Request>,
    answers: Sender<Served>,
}

/// An open store. Dropping it closes the database, which takes a flush.
pub(crate) struct Running {
    pub(crate) engine: Arc<Engine>,
    pub(crate) readers: Arc<Readers>,
    /// `None` only while it is dropped.
    group: Option<Group<Option<Request>, Answered>>,
    ended: std::sync::Mutex<Receiver<()>>,
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
        let (asks, asked) = channel::<Ask>();
        let (opened, opens) = channel();
        let (ends, ended) = channel();
        let (options_there, changes_there) = (options.clone(), Arc::clone(changes));
        let run = move || {
            let writer = catch_unwind(AssertUnwindSafe(|| start(&options_there, &layout, &changes_there)))
                .unwrap_or_else(|panic| Err(broken(&layout, &Fault::panic(&*panic))));
            match writer {
                Ok((writer, lock)) => {
                    #[cfg(test)]
                    let next = Arc::clone(&writer.durable.next);
                    #[cfg(not(test))]
                    let next = ();
                    if opened.send(Ok((Arc::clone(&writer.engine), next))).is_ok() {
                        serve(writer, &asked, lock);
                    }
                }
                Err(error) => drop(opened.send(Err(error))),
            }
            let _ = ends.send(());
        };
        spawn("session-sled-write", run)?;
        let patience = options.engine_timeout;
        let (engine, next) = match opens.recv_timeout(patience + options.lock_timeout) {
            Ok(opened) => opened?,
            Err(RecvTimeoutError::Timeout) => {
                return Err(broken(&Layout::new(options.path.clone()), &Fault::Hang(patience.as_secs())));
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(unavailable("the thread that opens the store has ended"));
            }
        };
        #[cfg(not(test))]
        let () = next;
        let readers = Arc::new(Readers::start(options.read_threads)?);
        let limits = Limits { bytes: GROUP_BYTES, ..Limits::default() };
        let work = {
            let (engine, readers) = (Arc::clone(&engine), Arc::clone(&readers));
            move |jobs| hand_on(jobs, &asks, &engine, &readers, patience)
        };
        let group =
            Group::start("session-sled-group", limits, work).map_err(|error| StorageError::Unavailable {
                what: "no thread can be started to write with".to_owned(),
                source: Some(Arc::new(error)),
            })?;
        Ok(Some(Self {
            engine,
            readers,
            group: Some(group),
            ended: std::sync::Mutex::new(ended),
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
            Err(id
                .map_or(StorageError::Closed { what: what.clone(), source: None }, |id| gone.told(&what, id)))
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // With the thread that groups goes the only one who asks, and so the one who writes comes to its end.
        drop(self.group.take());
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.recv_timeout(self.patience).is_err_and(|error| error == RecvTimeoutError::Timeout) {
            tracing::error!(store = %self.engine.layout.root().display(), "sled does not come to its end");
        }
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), StorageError> {
    thread::Builder::new().name(name.to_owned()).spawn(run).map(drop).map_err(|error| {
        StorageError::Unavailable {
            what: "no thread can be started to write with".to_owned(),
            source: Some(Arc::new(error)),
        }
    })
}

/// On the thread that groups: hands a group on to the thread that has sled, and answers for it if it does not.
fn hand_on(
    mut jobs: Vec<Job<Option<Request>, Answered>>,
    asks: &Sender<Ask>,
    engine: &Engine,
    readers: &Readers,
    patience: Duration,
) {
    let requests: Vec<Request> = jobs.iter_mut().filter_map(|job| job.request.take()).collect();
    let ids: Vec<_> = requests.iter().map(Request::session).collect();
    let closed = || engine.closed().unwrap_or_else(|| unavailable("the store is closed"));
    if engine.closed().is_some() {
        for job in jobs {
            job.answer(Err(closed()));
        }
        return;
    }
    let (sender, receiver) = channel();
    let asked = asks.send(Ask { requests, answers: sender });
    let served = match (asked, receiver.recv_timeout(patience)) {
        (Ok(()), Ok(served)) => Some(served),
        (Ok(()), Err(RecvTimeoutError::Timeout)) => {
            engine.close(Fault::Hang(patience.as_secs()));
            None
        }
        _ => {
            engine.close(Fault::Panic("the thread that writes has ended".to_owned()));
            None
        }
    };
    match served {
        Some((said, _)) => {
            for (job, said) in jobs.into_iter().zip(said) {
                job.answer(said);
            }
        }
        None => {
            for (job, id) in jobs.into_iter().zip(ids) {
                job.answer(Err(unknown(id, closed())));
            }
        }
    }
    if let Some(closed) = engine.closed() {
        readers.end(&closed);
    }
}

/// On the thread that has sled: does what it is asked for until nobody can ask any more, and closes the database.
fn serve(mut writer: Writer, asked: &Receiver<Ask>, lock: Held) {
    let mut goes_on = true;
    while goes_on && let Ok(Ask { requests, answers }) = asked.recv() {
        let served = catch_unwind(AssertUnwindSafe(|| writer.serve(requests)));
        match served {
            Ok(served) => {
                // A look may have closed the store as well.
                goes_on = served.1 && writer.engine.closed().is_none();
                drop(answers.send(served));
            }
            Err(panic) => {
                writer.engine.close(Fault::panic(&*panic));
                goes_on = false;
            }
        }
    }
    end(writer, lock);
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
