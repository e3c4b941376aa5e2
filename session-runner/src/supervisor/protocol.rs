//! What owner and supervisor say to each other: one JSON value a line, over a socket pair. Descriptors travel with
//! the first order, so that no other program that the owner starts at the same time can inherit them.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::cmsg_space;
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The largest order: the kernel takes no more for arguments and environment together, and JSON writes a byte as
/// up to four.
const LINE_BYTES: usize = 16 * 1024 * 1024;
/// What a slow owner may leave unread.
const UNREAD_BYTES: usize = 64 * 1024;
/// Descriptors that come with the first order.
const DESCRIPTORS: usize = 4;

/// What the owner wants.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Order {
    /// The first order, and only that: run this program. With it come its stdin, stdout and stderr, and, if there is
    /// one, the lock that is held until the tree is empty.
    Start(Box<Start>),
    /// Send a signal to the program's group.
    Signal {
        /// Its number.
        signal: i32,
    },
    /// Stop the whole tree.
    Halt,
    /// Continue the whole tree.
    Continue,
    /// Continue the program's group, should anybody in it have been stopped. Not worth a report.
    Wake,
    /// End the whole tree.
    End {
        /// How long it may take to end by itself; 0 kills at once.
        grace_ms: u64,
    },
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
    /// Whether it is cut off from the owner's terminal.
    pub(crate) own_session: bool,
    /// How long what is left of the tree may take once the owner or the program itself is gone.
    pub(crate) orphan_grace_ms: u64,
    /// A file that is of no use once the tree is empty.
    pub(crate) tidy: Option<OsString>,
}

/// What the supervisor has to say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Report {
    /// The program runs.
    Started {
        /// Its process, and its process group.
        pid: u32,
        /// When it started, in clock ticks since the boot.
        start_time: u64,
    },
    /// It could not be started. Nothing else follows.
    NotStarted {
        /// What failed.
        step: Step,
        /// What the system said.
        errno: i32,
    },
    /// The program was stopped by a signal, and not because a halt was ordered.
    Stopped {
        /// Its number.
        signal: i32,
    },
    /// The program runs again.
    Continued,
    /// The whole tree stands still, as was ordered.
    Halted,
    /// A signal was sent to the tree.
    Signalled {
        /// Its number.
        signal: i32,
    },
    /// The program has ended.
    Ended {
        /// How.
        status: Ended,
    },
    /// These could not be ended in time.
    Escaped {
        /// Who.
        processes: Vec<Escaped>,
    },
    /// No process is left. Nothing else follows.
    Empty,
}

/// What was done when a start failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Step {
    /// Getting ready.
    Prepare,
    /// Entering the working directory.
    Directory,
    /// Executing the program.
    Execute,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// By itself, with this code.
    Exited(i32),
    /// By the signal of this number.
    Signalled(i32),
}

/// A process that could not be ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Escaped {
    /// Its id.
    pub pid: u32,
    /// The name of its program, as far as the system keeps it.
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

/// One value as a line.
pub(crate) fn encode(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

/// Lines, and descriptors, as they come in.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    bytes: VecDeque<u8>,
    descriptors: Vec<OwnedFd>,
}

impl Inbox {
    /// Takes what has come. `false` once the other side is gone and nothing more will come.
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

    /// The next whole line.
    pub(crate) fn next<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
        let line: Vec<u8> = self.bytes.drain(..=end).collect();
        Ok(Some(serde_json::from_slice(&line)?))
    }

    pub(crate) fn take_descriptors(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.descriptors)
    }
}

/// Lines on their way to an owner who may be slow, stopped or gone: nothing here ever waits.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    bytes: VecDeque<u8>,
}

impl Outbox {
    /// Adds a report. An owner who reads nothing misses the stops and continuations beyond a limit, which anybody can
    /// cause without end; the few others are always kept.
    pub(crate) fn push(&mut self, report: &Report) {
        let may_be_missed = matches!(report, Report::Stopped { .. } | Report::Continued);
        if may_be_missed && self.bytes.len() > UNREAD_BYTES {
            return;
        }
        if let Ok(line) = encode(report) {
            self.bytes.extend(line);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Sends what can be sent at once. `false` once nobody is there to read it.
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
