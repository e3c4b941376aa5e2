//! Captures a program's output from its pipes: stores it, forwards it, and scans it for progress.
//!
//! Each stream has a thread of its own, which blocks on a slow disk or on a reader that does not read. Then the pipe
//! fills and the program waits, as with any pipe; only one buffer per stream is kept in memory. No failure here ends
//! the program: output that could not be stored or forwarded is reported at the end.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use session_core::{Clock, SystemClock};
use tokio::sync::{oneshot, watch};

use super::storage::{OutputStream, OutputWriter, Stored};
use crate::report::osc::{OscParser, TerminalProgress};

/// Bytes of one read: the capacity of a pipe of the default size.
const READ_BYTES: usize = 64 * 1024;
/// Bytes of one write: a pipe that is ready takes this many without blocking (`PIPE_BUF`).
const WRITE_BYTES: usize = 4096;
/// Limits once the tree is empty: the time to forward output to a reader that does not read, and the bytes that are
/// read from an escaped process that still holds the pipe.
const LAST_WAIT: Duration = Duration::from_secs(1);
const LAST_BYTES: u64 = 1024 * 1024;
/// Timeout and poll interval of waiting until the output of a stopped tree is stored and forwarded.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(300);
const DRAIN_INTERVAL: Duration = Duration::from_millis(1);

/// A stream to capture, and its destination besides the store.
#[derive(Debug)]
pub(crate) struct CapturedStream {
    pub(crate) stream: OutputStream,
    pub(crate) pipe: OwnedFd,
    /// The destination: the owner's own standard output or error.
    pub(crate) pass_on: Option<File>,
    /// The interceptor that also writes there.
    pub(crate) interceptor: Option<Arc<dyn OutputInterceptor>>,
}

/// Lets the application interleave its own terminal output (such as a progress bar or a log) with the child's. Without
/// it the two would mix in the middle of a line.
pub trait OutputInterceptor: Send + Sync + std::fmt::Debug {
    /// Forwards a piece of output: calls `write` with these bytes, and before and after them with the bytes that the
    /// application itself writes there.
    ///
    /// Called on a thread of its own for each stream, so concurrently for both. `write` blocks while the destination is
    /// not read, and the program waits meanwhile once its pipe is full. `write` reports no errors: bytes that could not
    /// be written are dropped.
    fn pass_on(&self, stream: OutputStream, bytes: &[u8], write: &mut dyn FnMut(&[u8]));
}

/// Totals of the captured output.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Captured {
    /// Bytes that were printed, stored or not.
    pub(crate) bytes: u64,
    /// Bytes beyond the limit of the store, if this attempt reached it.
    pub(crate) cut: Option<u64>,
    /// Bytes that could not be stored, and the first error.
    pub(crate) lost: Option<(u64, String)>,
    /// The error after which output was no longer forwarded.
    pub(crate) not_passed_on: Option<String>,
}

/// The capture threads of one program.
#[derive(Debug)]
pub(crate) struct Capture {
    shared: Arc<Mutex<Shared>>,
    /// The threads hold the other end: closing this one notifies them that the tree is empty.
    tree: Option<OwnedFd>,
    threads: Vec<oneshot::Receiver<()>>,
    /// The pipes, for as long as the threads run.
    pipes: Vec<Weak<StreamPipe>>,
    progress: watch::Receiver<Option<TerminalProgress>>,
    stored: watch::Receiver<u64>,
    start_offset: u64,
}

/// A stream's pipe, and whether its thread holds output that is not delivered yet.
#[derive(Debug)]
struct StreamPipe {
    read_end: OwnedFd,
    busy: AtomicBool,
}

impl StreamPipe {
    /// Returns `true` if no output is left in the pipe or in the thread. The order matters: output that has left the
    /// pipe makes the thread busy until it is delivered.
    fn is_drained(&self) -> bool {
        rustix::io::ioctl_fionread(&self.read_end).unwrap_or(0) == 0 && !self.busy.load(Ordering::SeqCst)
    }
}

#[derive(Debug)]
struct Shared {
    writer: Option<Box<dyn OutputWriter>>,
    attempt: u32,
    captured: Captured,
    progress: watch::Sender<Option<TerminalProgress>>,
    stored: watch::Sender<u64>,
}

impl Capture {
    /// Starts the threads. Without a writer, output is only forwarded.
    pub(crate) fn start(
        streams: Vec<CapturedStream>,
        writer: Option<Box<dyn OutputWriter>>,
        attempt: u32,
    ) -> io::Result<Self> {
        let (tree_seen, tree) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let length = writer.as_ref().map_or(0, |writer| writer.length().bytes);
        let (progress_sender, progress) = watch::channel(None);
        let (stored_sender, stored) = watch::channel(length);
        let shared = Arc::new(Mutex::new(Shared {
            writer,
            attempt,
            captured: Captured::default(),
            progress: progress_sender,
            stored: stored_sender,
        }));
        let (mut threads, mut pipes) = (Vec::new(), Vec::new());
        for source in streams {
            let (done, wait) = oneshot::channel();
            let mut worker = Worker {
                shared: Arc::clone(&shared),
                tree: tree_seen.try_clone()?,
                pass_on: source.pass_on,
                interceptor: source.interceptor,
                until: None,
                osc: OscParser::default(),
            };
            let name = match source.stream {
                OutputStream::Stdout => "capture-stdout",
                OutputStream::Stderr => "capture-stderr",
            };
            let pipe = Arc::new(StreamPipe { read_end: source.pipe, busy: AtomicBool::new(false) });
            pipes.push(Arc::downgrade(&pipe));
            std::thread::Builder::new().name(name.to_owned()).spawn(move || {
                worker.run(source.stream, &pipe);
                // Closed before the end is reported: the receiver may count open descriptors.
                drop((worker, pipe));
                let _ = done.send(());
            })?;
            threads.push(wait);
        }
        Ok(Self { shared, tree: Some(tree), threads, pipes, progress, stored, start_offset: length })
    }

    /// Watches the latest progress in the program's output.
    pub(crate) fn progress(&self) -> watch::Receiver<Option<TerminalProgress>> {
        self.progress.clone()
    }

    /// Watches the number of stored bytes.
    pub(crate) fn stored(&self) -> watch::Receiver<u64> {
        self.stored.clone()
    }

    /// Returns the offset at which the output of this capture begins.
    pub(crate) const fn start_offset(&self) -> u64 {
        self.start_offset
    }

    /// Waits briefly until the output of a stopped tree is stored and forwarded.
    pub(crate) async fn wait_until_drained(&self) {
        let deadline = Instant::now() + DRAIN_TIMEOUT;
        while Instant::now() < deadline
            && !self.pipes.iter().filter_map(Weak::upgrade).all(|pipe| pipe.is_drained())
        {
            tokio::time::sleep(DRAIN_INTERVAL).await;
        }
    }

    /// Reads the rest from the pipes, once no process of the tree is left to write more, and ends the threads.
    pub(crate) async fn finish(mut self) -> Captured {
        self.tree = None;
        for thread in &mut self.threads {
            // An error is a thread that panicked: it has ended, too.
            let _ = thread.await;
        }
        let mut shared = lock(&self.shared);
        shared.writer = None;
        std::mem::take(&mut shared.captured)
    }
}

fn lock(shared: &Mutex<Shared>) -> std::sync::MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One stream's thread.
struct Worker {
    shared: Arc<Mutex<Shared>>,
    tree: OwnedFd,
    pass_on: Option<File>,
    interceptor: Option<Arc<dyn OutputInterceptor>>,
    /// Set once the tree is empty.
    until: Option<Instant>,
    osc: OscParser,
}

enum Ready {
    Output,
    /// The tree and the pipe are empty.
    Never,
}

impl Worker {
    fn run(&mut self, stream: OutputStream, pipe: &StreamPipe) {
        let mut buffer = vec![0; READ_BYTES];
        let mut last = 0;
        loop {
            pipe.busy.store(false, Ordering::SeqCst);
            let Ok(Ready::Output) = self.wait_for(&pipe.read_end) else { break };
            pipe.busy.store(true, Ordering::SeqCst);
            let bytes = match rustix::io::read(&pipe.read_end, &mut buffer) {
                Ok(0) => break,
                Ok(read) => buffer.get(..read).unwrap_or_default(),
                Err(Errno::INTR | Errno::AGAIN) => continue,
                Err(_) => break,
            };
            self.store(stream, bytes);
            self.pass_on(stream, bytes);
            if self.until.is_some() {
                last += bytes.len() as u64;
                if last >= LAST_BYTES {
                    break;
                }
            }
        }
    }

    fn wait_for(&mut self, pipe: &OwnedFd) -> io::Result<Ready> {
        loop {
            let ended = self.until.is_some();
            let no_wait = Timespec { tv_sec: 0, tv_nsec: 0 };
            let mut sources = vec![PollFd::new(pipe, PollFlags::IN)];
            if !ended {
                sources.push(PollFd::new(&self.tree, PollFlags::IN));
            }
            match poll(&mut sources, ended.then_some(&no_wait)) {
                Ok(0) => return Ok(Ready::Never),
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            let [output, tree] =
                [0, 1].map(|at| sources.get(at).is_some_and(|source| !source.revents().is_empty()));
            if tree {
                self.until = Some(Instant::now() + LAST_WAIT);
            }
            if output {
                return Ok(Ready::Output);
            }
        }
    }

    fn store(&mut self, stream: OutputStream, bytes: &[u8]) {
        let progress = self.osc.last(bytes);
        let mut shared = lock(&self.shared);
        let shared = &mut *shared;
        let length = bytes.len() as u64;
        shared.captured.bytes += length;
        if let Some(writer) = &mut shared.writer {
            match writer.append(stream, shared.attempt, SystemClock.now(), bytes) {
                Ok(Stored::Whole) => {}
                Ok(Stored::Cut { bytes: kept }) => {
                    *shared.captured.cut.get_or_insert(0) += length - kept as u64;
                }
                Ok(Stored::Beyond) => *shared.captured.cut.get_or_insert(0) += length,
                Err(error) => {
                    let (lost, _) = shared.captured.lost.get_or_insert_with(|| (0, crate::chain(&error)));
                    *lost += length;
                }
            }
            let end = writer.length().bytes;
            shared.stored.send_if_modified(|stored| std::mem::replace(stored, end) != end);
        }
        if progress.is_some() {
            shared.progress.send_replace(progress);
        }
    }

    fn pass_on(&mut self, stream: OutputStream, bytes: &[u8]) {
        let Some(file) = &self.pass_on else { return };
        let mut written = Ok(());
        let mut write = |bytes: &[u8]| {
            if written.is_ok() {
                written = write_all(file, bytes, &self.tree, &mut self.until);
            }
        };
        match &self.interceptor {
            Some(interceptor) => interceptor.pass_on(stream, bytes, &mut write),
            None => write(bytes),
        }
        if let Err(error) = written {
            self.pass_on = None;
            let mut shared = lock(&self.shared);
            shared.captured.not_passed_on.get_or_insert_with(|| error.to_string());
        }
    }
}

/// Writes everything, however slowly it is read, until the tree is empty; after that, only until a timeout.
///
/// The descriptor is shared with the process that started this one, so its blocking mode is not changed. Small writes
/// to a descriptor that is ready do not block even in blocking mode.
fn write_all(file: &File, bytes: &[u8], tree: &OwnedFd, until: &mut Option<Instant>) -> io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let timeout = until.map(|until| {
            let left = until.saturating_duration_since(Instant::now());
            Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(0),
                tv_nsec: i64::from(left.subsec_nanos()),
            }
        });
        let mut sources = vec![PollFd::new(file, PollFlags::OUT)];
        if until.is_none() {
            sources.push(PollFd::from_borrowed_fd(tree.as_fd(), PollFlags::IN));
        }
        match poll(&mut sources, timeout.as_ref()) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let [writable, empty] =
            [0, 1].map(|at| sources.get(at).is_some_and(|source| !source.revents().is_empty()));
        if empty {
            *until = Some(Instant::now() + LAST_WAIT);
        }
        if !writable {
            continue;
        }
        match rustix::io::write(file, rest.get(..WRITE_BYTES).unwrap_or(rest)) {
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
