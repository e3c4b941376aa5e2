//! The signals by which a shell or a terminal stops this process, as one of its jobs, and makes it go on.
//!
//! They are blocked, and stop this process when it is ready for that: its program stands still by then. Their default
//! is left in place, for only the system knows whether there is a shell that could make a stopped process go on.

use std::io;

use nix::sys::signal::{SigSet, Signal, kill, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;
use tokio::io::unix::AsyncFd;

use crate::error::{Failure, Result};

/// Why a job stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StopReason {
    /// Somebody wants it to.
    Requested,
    /// It wants to use the terminal, from the background.
    NeedsTerminal,
}

impl StopReason {
    /// Why a program stopped that was stopped by this signal.
    pub(crate) fn of(signal: i32) -> Self {
        match Signal::try_from(signal) {
            Ok(Signal::SIGTTIN | Signal::SIGTTOU) => Self::NeedsTerminal,
            _ => Self::Requested,
        }
    }

    const fn signal(self) -> Signal {
        match self {
            Self::Requested => Signal::SIGTSTP,
            Self::NeedsTerminal => Signal::SIGTTIN,
        }
    }
}

/// Who is to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StopTarget {
    /// This process: the others heard of it as it did.
    ThisProcess,
    /// All of the shell's job that this process is part of.
    Job,
}

/// What a shell or a terminal wants of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JobSignal {
    Stop(StopReason),
    Continue,
}

/// Holds these signals back, in this thread and in all that it starts from here on.
///
/// One is held back for good: what stops a background process for writing to its terminal, or for changing it. A
/// process that handed its terminal over is in the background.
pub(crate) fn block() {
    let _ = blocked_signals().thread_block();
}

/// Lets them through, to this thread.
pub(crate) fn unblock() {
    let _ = blocked_signals().thread_unblock();
}

fn blocked_signals() -> SigSet {
    let mut signals = handled_signals();
    signals.add(Signal::SIGTTOU);
    signals
}

fn handled_signals() -> SigSet {
    SigSet::from_iter([Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGCONT])
}

/// These signals, as they come.
#[derive(Debug)]
pub(crate) struct JobSignals {
    signals: AsyncFd<SignalFd>,
    /// One that was read, and is not answered yet.
    pending: Option<JobSignal>,
}

impl JobSignals {
    pub(crate) fn new() -> Result<Self> {
        block();
        let signals =
            open().map_err(|error| Failure::chain(sessionkit::ErrorCode::StorageUnavailable, &error))?;
        Ok(Self { signals, pending: None })
    }

    /// The next one. Dropping the future is harmless.
    pub(crate) async fn next(&mut self) -> JobSignal {
        if let Some(signal) = self.pending.take() {
            return signal;
        }
        loop {
            let Ok(mut ready) = self.signals.readable().await else { return std::future::pending().await };
            match read(self.signals.get_ref()) {
                Some(signal) => return signal,
                None => ready.clear_ready(),
            }
        }
    }

    /// Stops, if there is somebody who could make it go on; returns once that happened. Whether it was stopped.
    pub(crate) fn stop(&mut self, reason: StopReason, target: StopTarget) -> bool {
        let signal = reason.signal();
        let _ = match target {
            StopTarget::ThisProcess => raise(signal),
            StopTarget::Job => kill(Pid::from_raw(0), signal),
        };
        let this = SigSet::from(signal);
        // Here it stops.
        let _ = this.thread_unblock();
        let _ = this.thread_block();
        // A stop discards what came before it, so this one came after.
        match read(self.signals.get_ref()) {
            Some(JobSignal::Continue) => true,
            other => {
                self.pending = other;
                false
            }
        }
    }
}

#[expect(deprecated, reason = "its successor is unsafe, for descriptors that are not owned; this one is")]
fn open() -> io::Result<AsyncFd<SignalFd>> {
    AsyncFd::new(SignalFd::with_flags(&handled_signals(), SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?)
}

fn read(signals: &SignalFd) -> Option<JobSignal> {
    let signal = signals.read_signal().ok()??.ssi_signo;
    match i32::try_from(signal).ok().and_then(|signal| Signal::try_from(signal).ok())? {
        Signal::SIGCONT => Some(JobSignal::Continue),
        Signal::SIGTTIN => Some(JobSignal::Stop(StopReason::NeedsTerminal)),
        Signal::SIGTSTP | _ => Some(JobSignal::Stop(StopReason::Requested)),
    }
}
