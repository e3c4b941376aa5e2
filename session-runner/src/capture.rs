//! From a program's pipes to where its output goes: stored, passed on, and searched for progress.
//!
//! Each stream has a thread of its own, which blocks: on a slow disk, on a reader who does not read. Then the pipe
//! fills and the program waits, as with any pipe; nothing is kept in memory but one buffer a stream. Nothing here
//! ends the work: what cannot be stored or passed on is told at the end.

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

use crate::osc::{OscParser, TerminalProgress};
use crate::output::{OutputStream, OutputWriter, Stored};

/// What a thread takes from a pipe at once: all that a pipe of the usual size holds.
const READ_BYTES: usize = 64 * 1024;
/// What can be written to a pipe that is ready without having to wait (`PIPE_BUF`).
const WRITE_BYTES: usize = 4096;
/// Once the tree is empty: how long output may take to be passed on to somebody who does not read it, and how much of
/// it is taken from a process that got away with the pipe.
const LAST_WAIT: Duration = Duration::from_secs(1);
const LAST_BYTES: u64 = 1024 * 1024;
/// How long, and how often, is looked whether all that was printed by a tree that stands still has got through.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(300);
const DRAIN_INTERVAL: Duration = Duration::from_millis(1);

/// Where a stream goes besides the store.
#[derive(Debug)]
pub(crate) struct CapturedStream {
    pub(crate) stream: OutputStream,
    pub(crate) pipe: OwnedFd,
    /// Whoever reads along: the owner's own standard output or error.
    pub(crate) pass_on: Option<File>,
    /// Whoever else writes there.
    pub(crate) interceptor: Option<Arc<dyn OutputInterceptor>>,
}

/// Whoever writes where a program's output is passed on to, too: a bar of progress, a log of its own. Without it the two
/// would be mixed up in the middle of a line.
pub trait OutputInterceptor: Send + Sync + std::fmt::Debug {
    /// Passes on some output: calls `write` with these bytes, and around them with whatever else is to be written there.
    ///
    /// Called on a thread of the stream's own, and of both streams at once. `write` takes as long as whoever reads there
    /// likes; what it could not write is nobody's concern here. The program waits meanwhile, once its pipe is full.
    fn pass_on(&self, stream: OutputStream, bytes: &[u8], write: &mut dyn FnMut(&[u8]));
}

/// What became of the output.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Captured {
    /// Everything that was printed, in bytes, kept or not.
    pub(crate) bytes: u64,
    /// Bytes that came after the limit of the store was reached, where it was in this attempt.
    pub(crate) cut: Option<u64>,
    /// Bytes that could not be stored, and the first reason.
    pub(crate) lost: Option<(u64, String)>,
    /// Why output was no longer passed on from some point on.
    pub(crate) not_passed_on: Option<String>,
}

/// The threads that capture.
#[derive(Debug)]
pub(crate) struct Capture {
    shared: Arc<Mutex<Shared>>,
    /// Its other end is in the threads: closing this one says that the tree is empty.
    tree: Option<OwnedFd>,
    threads: Vec<oneshot::Receiver<()>>,
    /// Whatever is still on its way, for as long as the threads run.
    pipes: Vec<Weak<StreamPipe>>,
    progress: watch::Receiver<Option<TerminalProgress>>,
    stored: watch::Receiver<u64>,
    start_offset: u64,
}

/// A stream's pipe, and what its thread has in hand.
#[derive(Debug)]
struct StreamPipe {
    read_end: OwnedFd,
    busy: AtomicBool,
}

impl StreamPipe {
    /// In this order: what is in the pipe no more is in the thread's hand, until it is through.
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
    /// Starts to capture. Without a writer, output is only passed on.
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
                // Let go of everything first: whoever hears of the end may count descriptors.
                drop((worker, pipe));
                let _ = done.send(());
            })?;
            threads.push(wait);
        }
        Ok(Self { shared, tree: Some(tree), threads, pipes, progress, stored, start_offset: length })
    }

    /// What the program said of its progress, the latest only.
    pub(crate) fn progress(&self) -> watch::Receiver<Option<TerminalProgress>> {
        self.progress.clone()
    }

    /// How much output is stored.
    pub(crate) fn stored(&self) -> watch::Receiver<u64> {
        self.stored.clone()
    }

    /// Where the output of this capture begins.
    pub(crate) const fn start_offset(&self) -> u64 {
        self.start_offset
    }

    /// Waits, for a moment only, until all that a tree that stands still has printed is stored and passed on.
    pub(crate) async fn wait_until_drained(&self) {
        let deadline = Instant::now() + DRAIN_TIMEOUT;
        while Instant::now() < deadline
            && !self.pipes.iter().filter_map(Weak::upgrade).all(|pipe| pipe.is_drained())
        {
            tokio::time::sleep(DRAIN_INTERVAL).await;
        }
    }

    /// Takes what is left in the pipes, once no process of the tree is there to write more, and ends.
    pub(crate) async fn finish(mut self) -> Captured {
        self.tree = None;
        for thread in &mut self.threads {
            // An error is a thread that panicked: it is at its end too.
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
    /// The tree is empty, and so is the pipe.
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

/// Writes everything, however slowly it is taken, until the tree is empty; after that, only for a while.
///
/// The descriptor is shared with whoever started this process, so that it stays as it is, blocking or not. In small
/// pieces, and only when it is ready, even a blocking one makes nobody wait.
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
