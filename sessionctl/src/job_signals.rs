//! Job control signals: SIGTSTP, SIGTTIN and SIGCONT, read from a descriptor.
//!
//! They are blocked, so that this process stops only after its program is paused. Their default action is kept: only
//! the kernel knows whether a shell exists that could continue a stopped process.

use std::io;

use nix::sys::signal::{SigSet, Signal, kill, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;
use tokio::io::unix::AsyncFd;

use crate::error::{Failure, Result};
use crate::signal_mask::{block, handled_signals};

/// The reason why a job stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StopReason {
    /// A stop key or signal.
    Requested,
    /// Access to the terminal from the background.
    NeedsTerminal,
}

impl StopReason {
    /// Returns the reason for which a program was stopped by this signal.
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

/// The processes to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StopTarget {
    /// Only this process: the other ones of its job got the signal, too.
    ThisProcess,
    /// All processes of the shell's job that this process is part of.
    Job,
}

/// A request of a shell or a terminal to this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JobSignal {
    Stop(StopReason),
    Continue,
}

/// Receiver of these signals.
#[derive(Debug)]
pub(crate) struct JobSignals {
    signals: AsyncFd<SignalFd>,
    /// A signal that was read and not returned yet.
    pending: Option<JobSignal>,
}

impl JobSignals {
    pub(crate) fn new() -> Result<Self> {
        block();
        let signals =
            open().map_err(|error| Failure::chain(sessionkit::ErrorCode::StorageUnavailable, &error))?;
        Ok(Self { signals, pending: None })
    }

    /// Returns the next signal. The future may be dropped.
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

    /// Stops the target, if the kernel finds a shell that could continue it, and returns after it was continued.
    /// Returns `true` if this process was stopped.
    pub(crate) fn stop(&mut self, reason: StopReason, target: StopTarget) -> bool {
        let signal = reason.signal();
        let _ = match target {
            StopTarget::ThisProcess => raise(signal),
            StopTarget::Job => kill(Pid::from_raw(0), signal),
        };
        let this = SigSet::from(signal);
        // The process stops here.
        let _ = this.thread_unblock();
        let _ = this.thread_block();
        // A stop discards a pending SIGCONT, so this one came after the stop.
        match read(self.signals.get_ref()) {
            Some(JobSignal::Continue) => true,
            other => {
                self.pending = other;
                false
            }
        }
    }
}

#[expect(
    deprecated,
    reason = "its successor is unsafe, for descriptors that are not owned; this one is owned"
)]
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
