//! The protocol between owner and supervisor: one JSON value per line, over a socket pair. Descriptors are sent with
//! the first order, so that no other program that the owner starts at the same time can inherit them.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::cmsg_space;
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Maximum bytes of an order: the kernel's limit for arguments and environment together, times the up to four bytes
/// that JSON needs for one.
const LINE_BYTES: usize = 16 * 1024 * 1024;
/// Bytes that a slow owner may leave unread before reports are dropped.
const UNREAD_BYTES: usize = 64 * 1024;
/// Maximum descriptors that come with the first order.
const DESCRIPTORS: usize = 8;

/// Time that the rest of a tree has to end by itself once its owner, or the program, is gone.
pub(crate) const ORPHAN_GRACE: Duration = Duration::from_secs(1);

/// The name of a supervisor that only discards the output of processes that stay. Within the tree of another supervisor
/// it is left running like them.
pub(crate) const STAYING: &std::ffi::CStr = c"session-discard";

/// An order of the owner.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Order {
    /// Run this program; only valid as the first order. Its stdin, stdout and stderr come with it, then the read ends of
    /// its outputs, the slave of its terminal and the lock that is held until the tree has ended, as far as there are any.
    Start(Box<Start>),
    /// Send a signal to the program: to its group or to its first process, by the kind of the signal.
    Signal {
        /// Its number.
        signal: i32,
    },
    /// Stop the whole tree.
    Halt,
    /// Continue the whole tree.
    Continue,
    /// Continue the processes of the program's group that are stopped. Causes no report.
    Wake,
    /// End the tree, except for processes that are spared.
    End {
        /// The grace period in milliseconds; 0 kills immediately.
        grace_ms: u64,
        /// The processes that are left running.
        spare: Spare,
    },
    /// Close the read end of an output, because its reader is gone: the program meets EPIPE.
    CloseOutput {
        /// The place of its stream.
        place: usize,
    },
    /// Leave a process and its descendants alone from now on: it owns a session of its own.
    Exclude {
        /// Its id.
        pid: u32,
        /// Its start time, in clock ticks since boot.
        start_time: u64,
    },
}

/// The processes that the end of a tree leaves running. Never the first process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Spare {
    /// None.
    Nothing,
    /// Those in a session of their own.
    OwnSession,
    /// Those in a session of their own, and those that ignore HUP though the tree began without that.
    Background,
    /// All that are left once the first process has ended.
    Everything,
}

/// The program to run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Start {
    /// The program and its arguments.
    pub(crate) argv: Vec<OsString>,
    /// Its working directory.
    pub(crate) cwd: OsString,
    /// Variables that are set, or removed where there is no value. All others are inherited.
    pub(crate) env: Vec<(OsString, Option<OsString>)>,
    /// `true` to start it in a session of its own, without the owner's terminal.
    pub(crate) own_session: bool,
    /// The places of the streams whose read ends come with the order.
    pub(crate) outputs: Vec<usize>,
    /// `true` if it has a terminal of its own, whose session the supervisor leads.
    pub(crate) terminal: bool,
    /// Signals that it ignores besides those that the supervisor ignores.
    pub(crate) ignored: Vec<i32>,
    /// Signals that are blocked in it.
    pub(crate) blocked: Vec<i32>,
    /// Its umask, unless it is that of the supervisor.
    pub(crate) umask: Option<u32>,
    /// The grace period of the rest of the tree once the owner or the program itself is gone.
    pub(crate) orphan_grace_ms: u64,
    /// The owner's socket, whose file is removed once the tree has ended.
    pub(crate) socket: Option<OsString>,
}

/// A report of the supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Report {
    /// The program runs.
    Started {
        /// Its process, and its process group.
        pid: u32,
        /// Its start time, in clock ticks since boot.
        start_time: u64,
    },
    /// The program could not be started. The last report.
    NotStarted {
        /// The step that failed.
        step: Step,
        /// The error of the system.
        errno: i32,
    },
    /// The program was stopped by a signal other than an ordered halt.
    Stopped {
        /// Its number.
        signal: i32,
    },
    /// The program runs again.
    Continued,
    /// The whole tree is stopped, as ordered.
    Halted,
    /// A signal was sent to the tree.
    Signalled {
        /// Its number.
        signal: i32,
    },
    /// The program has ended.
    Ended {
        /// Its exit code or signal.
        status: Ended,
        /// The other processes of its tree.
        background: Vec<Background>,
    },
    /// The processes that are left after the program has changed.
    Background {
        /// The processes.
        processes: Vec<Background>,
    },
    /// Background processes are being ended.
    Ending {
        /// The topmost processes of their trees.
        processes: Vec<BackgroundProcess>,
    },
    /// Processes could not be ended in time.
    Escaped {
        /// The processes.
        processes: Vec<Escaped>,
    },
    /// No process is left. The last report.
    Empty,
    /// Only processes are left that are to stay. The last report.
    Left {
        /// The topmost processes of their trees.
        processes: Vec<BackgroundProcess>,
    },
}

/// A process of a tree whose first process has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Background {
    pub(crate) process: BackgroundProcess,
    pub(crate) kind: BackgroundKind,
    /// `true` if it holds an output open.
    pub(crate) holds_output: bool,
}

/// The way in which a background process is separate from its tree, the least separate first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum BackgroundKind {
    /// It is not.
    Attached,
    /// It ignores HUP though the tree began without that.
    IgnoresHangup,
    /// It has a session of its own.
    OwnSession,
}

impl BackgroundKind {
    /// Returns `true` if such a process is spared.
    pub(crate) fn is_spared(self, spare: Spare) -> bool {
        match self {
            Self::Attached => spare >= Spare::Everything,
            Self::IgnoresHangup => spare >= Spare::Background,
            Self::OwnSession => spare >= Spare::OwnSession,
        }
    }
}

/// A background process: one that was still running after its program had ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BackgroundProcess {
    /// Its id.
    pub pid: u32,
    /// Its start time, in clock ticks since boot, which together with the id identifies it.
    pub start_time: u64,
    /// The name of its program, as far as the system stores it.
    pub name: String,
}

impl BackgroundProcess {
    pub(crate) fn new(pid: u32, start_time: u64, name: String) -> Self {
        Self { pid, start_time, name }
    }
}

/// A step of starting the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Step {
    /// Preparation.
    Prepare,
    /// Entering the working directory.
    Directory,
    /// Leading the session of the terminal.
    Terminal,
    /// Executing the program.
    Execute,
}

/// The end of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// It exited with this code.
    Exited(i32),
    /// The signal with this number ended it.
    Signalled(i32),
}

/// A process that could not be ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Escaped {
    /// Its id.
    pub pid: u32,
    /// The name of its program, as far as the system stores it.
    pub name: String,
}

impl Escaped {
    pub(crate) fn new(pid: u32, name: String) -> Self {
        Self { pid, name }
    }
}

/// Sends the first order, with its descriptors.
pub(crate) fn send_start(socket: impl AsFd, start: Start, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let line = encode(&Order::Start(Box::new(start)))?;
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut rest = line.as_slice();
    while !rest.is_empty() {
        let sent = match rustix::net::sendmsg(
            socket.as_fd(),
            &[IoSlice::new(rest)],
            &mut control,
            SendFlags::NOSIGNAL,
        ) {
            Err(Errno::INTR) => continue,
            sent => sent?,
        };
        control.clear();
        rest = rest.get(sent..).unwrap_or_default();
    }
    Ok(())
}

/// Encodes a value as a line.
pub(crate) fn encode(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

/// A buffer of received lines and descriptors.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    bytes: VecDeque<u8>,
    descriptors: Vec<OwnedFd>,
}

impl Inbox {
    /// Receives available bytes. Returns `false` once the other side is gone.
    pub(crate) fn receive(&mut self, socket: impl AsFd) -> io::Result<bool> {
        let mut buffer = vec![0; 64 * 1024];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = rustix::net::recvmsg(
            socket.as_fd(),
            &mut [IoSliceMut::new(&mut buffer)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        );
        let bytes = match received {
            Ok(received) => received.bytes,
            Err(Errno::INTR | Errno::AGAIN) => return Ok(true),
            Err(Errno::CONNRESET) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.descriptors.extend(descriptors);
            }
        }
        self.bytes.extend(buffer.get(..bytes).unwrap_or_default());
        if self.bytes.len() > LINE_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(bytes > 0)
    }

    /// Returns the next complete line, parsed.
    pub(crate) fn next<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
        let line: Vec<u8> = self.bytes.drain(..=end).collect();
        Ok(Some(serde_json::from_slice(&line)?))
    }

    pub(crate) fn take_descriptors(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.descriptors)
    }
}

/// A buffer of lines to an owner that may be slow, stopped or gone. No method blocks.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    bytes: VecDeque<u8>,
}

impl Outbox {
    /// Adds a report. If the owner does not read, stops and continuations beyond a limit are dropped, because any
    /// process can cause an unlimited number of them; the few other reports are always kept.
    pub(crate) fn push(&mut self, report: &Report) {
        let may_be_dropped = matches!(report, Report::Stopped { .. } | Report::Continued);
        if may_be_dropped && self.bytes.len() > UNREAD_BYTES {
            return;
        }
        if let Ok(line) = encode(report) {
            self.bytes.extend(line);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Sends as much as possible without blocking. Returns `false` once the reader is gone.
    pub(crate) fn send(&mut self, socket: impl AsFd) -> bool {
        while !self.bytes.is_empty() {
            let (next, _) = self.bytes.as_slices();
            match rustix::net::send(socket.as_fd(), next, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(sent) => drop(self.bytes.drain(..sent)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return true,
                Err(_) => return false,
            }
        }
        true
    }
}
