//! The thread of one stream: reads a pipe, stores and forwards what it reads, and notices that its reader is gone.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use session_core::{Clock, SystemClock};
use tokio::sync::watch;

use crate::output::interceptor::OutputInterceptor;
use crate::output::storage::{OutputStream, OutputWriter};
use crate::report::osc::{OscParser, TerminalProgress};

/// Bytes of one read: the capacity of a pipe of the default size.
const READ_BYTES: usize = 64 * 1024;
/// Bytes of one write: a pipe that is ready takes this many without blocking (`PIPE_BUF`).
const WRITE_BYTES: usize = 4096;
/// Time to forward output to a reader that does not read, once forwarding is hurried.
pub(crate) const LAST_WAIT: Duration = Duration::from_secs(1);
/// Bytes that are read, once reading is to end, from a process that still writes.
const LAST_BYTES: u64 = 1024 * 1024;

/// A stream to capture, and its destination besides the store.
#[derive(Debug)]
pub(crate) struct CapturedStream {
    pub(crate) stream: OutputStream,
    pub(crate) pipe: OwnedFd,
    /// The destination: the owner's own standard output or error.
    pub(crate) pass_on: Option<File>,
    /// The interceptor that also writes there.
    pub(crate) interceptor: Option<Arc<dyn OutputInterceptor>>,
    /// `true` to close the pipe when the destination has no reader any more, so that the program meets EPIPE.
    pub(crate) close_with_reader: bool,
}

/// Totals of the captured output.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Captured {
    /// Bytes that were printed, stored or not.
    pub(crate) bytes: u64,
    /// Bytes that were removed from the store, which keeps both ends.
    pub(crate) removed: u64,
    /// Bytes that could not be stored, and the first error.
    pub(crate) lost: Option<(u64, String)>,
    /// The error after which output was no longer forwarded.
    pub(crate) not_passed_on: Option<String>,
}

/// The state of the streams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Activity {
    /// Bytes that were read.
    pub(crate) bytes: u64,
    /// The number of streams that may still be written to.
    pub(crate) open: usize,
    /// `true` for each pipe, stdout and stderr, that is closed because its reader is gone.
    pub(crate) readers_gone: [bool; 2],
}

/// The state that the threads share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) writer: Option<Box<dyn OutputWriter>>,
    pub(crate) attempt: u32,
    pub(crate) captured: Captured,
    pub(crate) progress: watch::Sender<Option<TerminalProgress>>,
    pub(crate) stored: watch::Sender<u64>,
    pub(crate) activity: watch::Sender<Activity>,
}

pub(crate) fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A stream's pipe, and whether its thread holds output that is not delivered yet.
#[derive(Debug)]
pub(crate) struct StreamPipe {
    read_end: OwnedFd,
    pub(crate) busy: AtomicBool,
}

impl StreamPipe {
    pub(crate) fn new(read_end: OwnedFd) -> Self {
        Self { read_end, busy: AtomicBool::new(false) }
    }

    /// Returns `true` if no output is left in the pipe or in the thread. The order matters: output that has left the
    /// pipe makes the thread busy until it is delivered.
    pub(crate) fn is_drained(&self) -> bool {
        rustix::io::ioctl_fionread(&self.read_end).unwrap_or(0) == 0 && !self.busy.load(Ordering::SeqCst)
    }
}

impl AsFd for StreamPipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.read_end.as_fd()
    }
}

/// One stream's thread.
pub(crate) struct Worker {
    shared: Arc<Mutex<Shared>>,
    /// Closed at the other end once no more output is to be waited for.
    end: OwnedFd,
    /// Closed at the other end once forwarding is hurried.
    hurry: OwnedFd,
    stream: OutputStream,
    pass_on: Option<File>,
    /// `true` if the end of the destination's reader shows in `poll`. That of a terminal is a hangup, which is no
    /// reason to close the pipe: the program gets a signal for it.
    reader_shows: bool,
    close_with_reader: bool,
    interceptor: Option<Arc<dyn OutputInterceptor>>,
    ending: bool,
    /// Set once forwarding is hurried.
    until: Option<Instant>,
    osc: OscParser,
}

enum Ready {
    Output,
    /// No more output is to be waited for, and the pipe is empty.
    Never,
    /// The destination has no reader any more.
    ReaderGone,
}

impl Worker {
    /// Creates the worker of a stream. Returns it with the stream's pipe.
    pub(crate) fn new(
        source: CapturedStream,
        shared: Arc<Mutex<Shared>>,
        end: OwnedFd,
        hurry: OwnedFd,
    ) -> (Self, StreamPipe) {
        let CapturedStream { stream, pipe, pass_on, interceptor, close_with_reader } = source;
        let reader_shows = pass_on.as_ref().is_some_and(|file| !rustix::termios::isatty(file));
        let (ending, until, osc) = (false, None, OscParser::default());
        let worker = Self {
            shared,
            end,
            hurry,
            stream,
            pass_on,
            reader_shows,
            close_with_reader,
            interceptor,
            ending,
            until,
            osc,
        };
        (worker, StreamPipe::new(pipe))
    }

    pub(crate) fn run(&mut self, pipe: &StreamPipe) {
        let mut buffer = vec![0; READ_BYTES];
        let mut last = 0;
        loop {
            pipe.busy.store(false, Ordering::SeqCst);
            match self.wait_for(&pipe.read_end) {
                Ok(Ready::Output) => {}
                Ok(Ready::ReaderGone) => {
                    self.reader_is_gone();
                    if !self.close_with_reader {
                        continue;
                    }
                    // What is in the pipe was printed before the program could notice.
                    self.ending = true;
                    last = LAST_BYTES;
                    continue;
                }
                Ok(Ready::Never) | Err(_) => break,
            }
            pipe.busy.store(true, Ordering::SeqCst);
            let bytes = match rustix::io::read(&pipe.read_end, &mut buffer) {
                Ok(0) => break,
                Ok(read) => buffer.get(..read).unwrap_or_default(),
                Err(Errno::INTR | Errno::AGAIN) => continue,
                Err(_) => break,
            };
            store(&self.shared, self.stream, bytes, self.osc.last(bytes));
            self.pass_on(bytes);
            if self.ending {
                last += bytes.len() as u64;
                if last >= LAST_BYTES {
                    break;
                }
            }
        }
    }

    fn wait_for(&mut self, pipe: &OwnedFd) -> io::Result<Ready> {
        loop {
            let no_wait = Timespec { tv_sec: 0, tv_nsec: 0 };
            let mut sources = vec![PollFd::new(pipe, PollFlags::IN)];
            if !self.ending {
                sources.push(PollFd::new(&self.end, PollFlags::IN));
                let reader = self.pass_on.as_ref().filter(|_| self.reader_shows);
                sources.extend(reader.map(|file| PollFd::new(file, PollFlags::empty())));
            }
            match poll(&mut sources, self.ending.then_some(&no_wait)) {
                Ok(0) => return Ok(Ready::Never),
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            let [output, end, reader_gone] =
                [0, 1, 2].map(|at| sources.get(at).is_some_and(|source| !source.revents().is_empty()));
            if reader_gone {
                return Ok(Ready::ReaderGone);
            }
            self.ending |= end;
            if output {
                return Ok(Ready::Output);
            }
        }
    }

    fn pass_on(&mut self, bytes: &[u8]) {
        let Some(file) = &self.pass_on else { return };
        let mut written = Ok(());
        let mut write = |bytes: &[u8]| {
            if written.is_ok() {
                written = write_all(file, bytes, &self.hurry, &mut self.until);
            }
        };
        match &self.interceptor {
            Some(interceptor) => interceptor.pass_on(self.stream, bytes, &mut write),
            None => write(bytes),
        }
        match written {
            Ok(()) => {}
            // The next wait closes the pipe.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe && self.reader_shows && !self.ending => {}
            Err(error) => self.stop_forwarding(&error),
        }
    }

    fn reader_is_gone(&mut self) {
        self.stop_forwarding(&Errno::PIPE.into());
        if self.close_with_reader {
            let place = self.stream.place();
            lock(&self.shared).activity.send_modify(|activity| {
                if let Some(gone) = activity.readers_gone.get_mut(place) {
                    *gone = true;
                }
            });
        }
    }

    fn stop_forwarding(&mut self, error: &io::Error) {
        self.pass_on = None;
        lock(&self.shared).captured.not_passed_on.get_or_insert_with(|| error.to_string());
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        lock(&self.shared).activity.send_modify(|activity| activity.open = activity.open.saturating_sub(1));
    }
}

/// Stores output, and reports its progress.
pub(crate) fn store(
    shared: &Mutex<Shared>,
    stream: OutputStream,
    bytes: &[u8],
    progress: Option<TerminalProgress>,
) {
    let mut shared = lock(shared);
    let shared = &mut *shared;
    let length = bytes.len() as u64;
    shared.captured.bytes += length;
    if let Some(writer) = &mut shared.writer {
        match writer.append(stream, shared.attempt, SystemClock.now(), bytes) {
            Ok(removed) => shared.captured.removed += removed,
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
    shared.activity.send_modify(|activity| activity.bytes += length);
}

/// Writes everything, however slowly it is read, until forwarding is hurried; after that, only until a timeout.
///
/// The descriptor is shared with the process that started this one, so its blocking mode is not changed. Small writes
/// to a descriptor that is ready do not block even in blocking mode.
fn write_all(file: &File, bytes: &[u8], hurry: &OwnedFd, until: &mut Option<Instant>) -> io::Result<()> {
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
            sources.push(PollFd::from_borrowed_fd(hurry.as_fd(), PollFlags::IN));
        }
        match poll(&mut sources, timeout.as_ref()) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let [writable, hurried] =
            [0, 1].map(|at| sources.get(at).is_some_and(|source| !source.revents().is_empty()));
        if hurried {
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
