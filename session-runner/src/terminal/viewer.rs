//! The owner's side of one viewer: its frames in both directions, and its terminal.

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::cmsg_space;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use session_core::SessionId;

use super::frame::{FrameBuffer, Hello, OwnerFrame, ViewerFrame};
use super::pty::TerminalSize;
use super::replies::ReplyFilter;

/// Bytes of output that may wait for a viewer before the program waits for it.
const MAX_WAITING: usize = 256 * 1024;
/// Time that the program waits for a viewer that does not read.
const PATIENCE: Duration = Duration::from_secs(1);
/// Bytes of one receive.
const RECEIVE_BYTES: usize = 16 * 1024;

/// A connected viewer.
#[derive(Debug)]
pub(crate) struct Viewer {
    /// Identifies it among those of its terminal.
    pub(crate) number: u64,
    stream: UnixStream,
    frames: FrameBuffer,
    /// The frames that are not sent yet, and whether each is output.
    queue: VecDeque<(Vec<u8>, bool)>,
    waiting: usize,
    /// Bytes of the first frame that are sent.
    sent: usize,
    /// The time of the last progress, while more waits than the program should be ahead.
    slow_since: Option<Instant>,
    /// Bytes of output that it has missed since it was left behind, if it was.
    missed: Option<u64>,
    terminal: Option<ViewerTerminal>,
    hello: Option<Hello>,
    pub(crate) size: TerminalSize,
    pub(crate) replies: ReplyFilter,
    said_farewell: bool,
}

/// The terminal of a viewer.
#[derive(Debug)]
struct ViewerTerminal {
    file: OwnedFd,
    /// Its modes before the viewer changed them, while it has it.
    modes: Option<Termios>,
}

impl Viewer {
    pub(crate) fn new(stream: UnixStream, number: u64) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            number,
            stream,
            frames: FrameBuffer::default(),
            queue: VecDeque::new(),
            waiting: 0,
            sent: 0,
            slow_since: None,
            missed: None,
            terminal: None,
            hello: None,
            size: TerminalSize::default(),
            replies: ReplyFilter::default(),
            said_farewell: false,
        })
    }

    /// Accepts what it introduced itself with.
    pub(crate) fn welcome(&mut self, hello: Hello) {
        self.size = TerminalSize { rows: hello.rows, columns: hello.columns };
        self.hello = Some(hello);
    }

    /// Returns `true` if it shows the output.
    pub(crate) fn is_shown(&self) -> bool {
        self.hello.as_ref().is_some_and(|hello| hello.shows)
    }

    /// Returns `true` if a person may sit at its terminal, which answers queries.
    pub(crate) fn has_terminal(&self) -> bool {
        self.is_shown() && self.terminal.is_some()
    }

    pub(crate) fn may_type(&self) -> bool {
        self.hello.as_ref().is_some_and(|hello| !hello.read_only)
    }

    pub(crate) fn is_welcome(&self) -> bool {
        self.hello.is_some()
    }

    /// Returns the device number of its terminal.
    pub(crate) fn device(&self) -> Option<u64> {
        rustix::fs::fstat(&self.terminal.as_ref()?.file).ok().map(|found| found.st_rdev)
    }

    /// Receives what has arrived. Returns `false` if it is gone.
    pub(crate) fn receive(&mut self) -> bool {
        let mut buffer = [0; RECEIVE_BYTES];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC;
        match rustix::net::recvmsg(&self.stream, &mut [IoSliceMut::new(&mut buffer)], &mut control, flags) {
            Ok(received) => {
                for message in control.drain() {
                    if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                        let terminal = descriptors.last().filter(|file| rustix::termios::isatty(file));
                        self.terminal = terminal.map(|file| ViewerTerminal { file, modes: None });
                    }
                }
                self.frames.extend(buffer.get(..received.bytes).unwrap_or_default());
                received.bytes > 0
            }
            Err(Errno::INTR | Errno::AGAIN) => true,
            Err(_) => false,
        }
    }

    /// Returns the next frame.
    pub(crate) fn next(&mut self) -> io::Result<Option<ViewerFrame>> {
        self.frames.next_of_viewer()
    }

    /// Remembers the modes of its terminal, which it is about to change.
    pub(crate) fn take_terminal(&mut self) {
        if let Some(terminal) = &mut self.terminal {
            terminal.modes = tcgetattr(&terminal.file).ok();
        }
    }

    /// Takes note that it has restored the modes.
    pub(crate) fn release_terminal(&mut self) {
        if let Some(terminal) = &mut self.terminal {
            terminal.modes = None;
        }
    }

    /// Takes note that it leaves by itself.
    pub(crate) fn farewell(&mut self) {
        self.said_farewell = true;
    }

    /// Queues a frame, and sends as much as possible.
    pub(crate) fn send(&mut self, frame: &OwnerFrame) -> bool {
        let Ok(bytes) = frame.encode() else { return true };
        self.push(bytes, false)
    }

    /// Queues an encoded frame of output of this length, unless it was left behind.
    pub(crate) fn send_output(&mut self, frame: &[u8], length: u64) -> bool {
        if !self.is_shown() {
            return true;
        }
        if let Some(missed) = &mut self.missed {
            *missed += length;
            return true;
        }
        self.push(frame.to_vec(), true)
    }

    fn push(&mut self, frame: Vec<u8>, is_output: bool) -> bool {
        self.waiting += frame.len();
        self.queue.push_back((frame, is_output));
        self.flush()
    }

    /// Sends as much as possible without waiting. Returns `false` if it is gone.
    pub(crate) fn flush(&mut self) -> bool {
        while let Some((frame, _)) = self.queue.front() {
            let rest = frame.get(self.sent..).unwrap_or_default();
            match rustix::net::send(&self.stream, rest, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(sent) => {
                    self.sent += sent;
                    self.slow_since = None;
                    if self.sent == frame.len() {
                        self.waiting -= self.sent;
                        self.sent = 0;
                        self.queue.pop_front();
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => return false,
            }
        }
        true
    }

    fn has_waiting(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Returns `true` if something is to be sent as soon as it reads: one that was left behind catches up then.
    pub(crate) fn has_to_send(&self) -> bool {
        self.has_waiting() || self.missed.is_some()
    }

    /// Returns the time until which the program waits for it, if it does.
    pub(crate) fn waited_for_until(&mut self, now: Instant) -> Option<Instant> {
        if self.missed.is_some() || self.waiting - self.sent <= MAX_WAITING {
            self.slow_since = None;
            return None;
        }
        Some(*self.slow_since.get_or_insert(now) + PATIENCE)
    }

    /// Leaves it behind: drops the output that waits.
    pub(crate) fn leave_behind(&mut self) {
        let (sent, mut first, mut dropped) = (self.sent, true, 0);
        self.queue.retain(|(frame, is_output)| {
            let is_begun = std::mem::take(&mut first) && sent > 0;
            let keep = is_begun || !is_output;
            if !keep {
                dropped += frame.len();
            }
            keep
        });
        self.waiting -= dropped;
        self.missed = Some(dropped as u64);
    }

    /// Returns the number of bytes that it has missed, if it was left behind. It no longer is.
    pub(crate) fn take_missed(&mut self) -> Option<u64> {
        self.missed.take()
    }

    /// Returns the number of bytes that it has missed, once it has read all that it was sent before.
    pub(crate) fn catch_up(&mut self) -> Option<u64> {
        if self.has_waiting() { None } else { self.missed.take() }
    }

    /// Restores its terminal and prints its notice, if it is gone without a farewell. `reset` are the bytes that undo what
    /// the program's output has changed.
    pub(crate) fn restore_terminal(&self, reset: &[u8], session: SessionId) {
        let Some(ViewerTerminal { file, modes: Some(modes) }) = &self.terminal else { return };
        if self.said_farewell {
            return;
        }
        let _ = tcsetattr(file, OptionalActions::Now, modes);
        // Reopened, to write without waiting: the flags of the description are shared with other processes.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let notice = self.hello.as_ref().map_or("", |hello| &hello.notice);
        let notice = notice.replace("@session", &session.to_string());
        let last = [reset, b"\r\n", notice.as_bytes(), b"\r\n"].concat();
        let _ = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(terminal) => rustix::io::write(terminal, &last),
            // The terminal of another user, as after `su`. One that is ready takes a few lines without waiting.
            Err(_) if is_writable(file) => rustix::io::write(file, &last),
            Err(_) => Ok(0),
        };
    }
}

impl AsFd for Viewer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn is_writable(file: &OwnedFd) -> bool {
    let no_wait = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut sources = [PollFd::new(file, PollFlags::OUT)];
    poll(&mut sources, Some(&no_wait)).is_ok()
        && sources.iter().all(|source| source.revents() == PollFlags::OUT)
}
