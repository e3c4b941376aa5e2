//! The signals by which a shell or a terminal stops this process, as one of its jobs, and makes it go on.
//!
//! They are blocked, and stop this process when it is ready for that: its program stands still by then. Their default
//! is left in place, for only the system knows whether there is a shell that could make a stopped process go on.

use std::io;

use nix::sys::signal::{SigSet, Signal, kill, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;
use tokio::io::unix::AsyncFd;

use crate::fail::{Failure, Result};

/// Why a job stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Somebody wants it to.
    Wanted,
    /// It wants to use the terminal, from the background.
    Reading,
}

impl Stop {
    /// Why a program stopped that was stopped by this signal.
    pub(crate) fn of(signal: i32) -> Self {
        match Signal::try_from(signal) {
            Ok(Signal::SIGTTIN | Signal::SIGTTOU) => Self::Reading,
            _ => Self::Wanted,
        }
    }

    const fn signal(self) -> Signal {
        match self {
            Self::Wanted => Signal::SIGTSTP,
            Self::Reading => Signal::SIGTTIN,
        }
    }
}

/// Who is to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whom {
    /// This process: the others heard of it as it did.
    Myself,
    /// All of the shell's job that this process is part of.
    Job,
}

/// What a shell or a terminal wants of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    Stop(Stop),
    Continue,
}

/// Holds these signals back, in this thread and in all that it starts from here on.
///
/// One is held back for good: what stops a background process for writing to its terminal, or for changing it. A
/// process that handed its terminal over is in the background.
pub(crate) fn hold() {
    let _ = held().thread_block();
}

/// Lets them through, to this thread.
pub(crate) fn release() {
    let _ = held().thread_unblock();
}

fn held() -> SigSet {
    let mut held = heard();
    held.add(Signal::SIGTTOU);
    held
}

fn heard() -> SigSet {
    SigSet::from_iter([Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGCONT])
}

/// These signals, as they come.
#[derive(Debug)]
pub(crate) struct Stops {
    signals: AsyncFd<SignalFd>,
    /// One that was read, and is not answered yet.
    next: Option<Word>,
}

impl Stops {
    pub(crate) fn catch() -> Result<Self> {
        hold();
        let signals =
            open().map_err(|error| Failure::chain(sessionkit::ErrorCode::StorageUnavailable, &error))?;
        Ok(Self { signals, next: None })
    }

    /// The next one. Dropping the future is harmless.
    pub(crate) async fn next(&mut self) -> Word {
        if let Some(next) = self.next.take() {
            return next;
        }
        loop {
            let Ok(mut ready) = self.signals.readable().await else { return std::future::pending().await };
            match read(self.signals.get_ref()) {
                Some(word) => return word,
                None => ready.clear_ready(),
            }
        }
    }

    /// Stops, if there is somebody who could make it go on; returns once that happened. Whether it was stopped.
    pub(crate) fn stop(&mut self, why: Stop, whom: Whom) -> bool {
        let signal = why.signal();
        let _ = match whom {
            Whom::Myself => raise(signal),
            Whom::Job => kill(Pid::from_raw(0), signal),
        };
        let this = SigSet::from(signal);
        // Here it stops.
        let _ = this.thread_unblock();
        let _ = this.thread_block();
        // A stop discards what came before it, so this one came after.
        match read(self.signals.get_ref()) {
            Some(Word::Continue) => true,
            other => {
                self.next = other;
                false
            }
        }
    }
}

#[expect(deprecated, reason = "its successor is unsafe, for descriptors that are not owned; this one is")]
fn open() -> io::Result<AsyncFd<SignalFd>> {
    AsyncFd::new(SignalFd::with_flags(&heard(), SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?)
}

fn read(signals: &SignalFd) -> Option<Word> {
    let signal = signals.read_signal().ok()??.ssi_signo;
    match i32::try_from(signal).ok().and_then(|signal| Signal::try_from(signal).ok())? {
        Signal::SIGCONT => Some(Word::Continue),
        Signal::SIGTTIN => Some(Word::Stop(Stop::Reading)),
        Signal::SIGTSTP | _ => Some(Word::Stop(Stop::Wanted)),
    }
}
