//! Signals of this process that are meant for the program that it runs or views.

use nix::sys::signal::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::error::{Failure, Result};

/// Signals that are forwarded to the program. Not those that report a fault of the process that gets them, nor those
/// that stop and continue it, which job control handles.
const FORWARDED: [Signal; 14] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGVTALRM,
    Signal::SIGPROF,
    Signal::SIGIO,
    Signal::SIGURG,
    Signal::SIGWINCH,
    Signal::SIGPWR,
    Signal::SIGSTKFLT,
];
/// Signals that end a start.
const STOPS: [Signal; 4] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];
/// Signals in the queue between their arrival and their forwarding.
const QUEUE: usize = 64;

/// Receiver of the forwarded signals.
pub(crate) struct Signals {
    receiver: mpsc::Receiver<i32>,
    /// Signals that came before there was a program.
    early: Vec<i32>,
}

impl Signals {
    /// Starts receiving these signals; they no longer end this process. A signal that was ignored when this process was
    /// started stays ignored, as `nohup` requires.
    pub(crate) fn catch() -> Result<Self> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        for number in FORWARDED.map(|signal| signal as i32) {
            if session_inherit::is_ignored(number) {
                continue;
            }
            let mut caught = signal(SignalKind::from_raw(number))
                .map_err(|error| Failure::chain(sessionkit::ErrorCode::StorageUnavailable, &error))?;
            let sender = sender.clone();
            tokio::spawn(async move {
                while caught.recv().await.is_some() && sender.send(number).await.is_ok() {}
            });
        }
        Ok(Self { receiver, early: Vec::new() })
    }

    /// Returns `true` for a signal that ends a start, and a viewer that passes none on.
    pub(crate) fn is_stop(number: i32) -> bool {
        STOPS.iter().any(|stop| *stop as i32 == number)
    }

    /// Returns the number of the next signal.
    pub(crate) async fn next(&mut self) -> i32 {
        match self.early.pop() {
            Some(number) => number,
            None => self.receive().await,
        }
    }

    /// Returns the number of the next signal that asks this process to end; the others are kept for the program.
    pub(crate) async fn next_stop(&mut self) -> i32 {
        loop {
            let number = self.receive().await;
            if Self::is_stop(number) {
                return number;
            }
            self.early.insert(0, number);
        }
    }

    async fn receive(&mut self) -> i32 {
        match self.receiver.recv().await {
            Some(number) => number,
            // All of them are ignored.
            None => std::future::pending().await,
        }
    }
}

/// Ends this process and its group by SIGINT, as Ctrl-C would have done had they been in the terminal's foreground
/// instead of the program. Without this, a shell loop or script around the command would continue.
pub(crate) fn die_of_interrupt() {
    let _ = rustix::process::kill_current_process_group(rustix::process::Signal::INT);
    // If the signal does not end this process, a shell sees the same exit code.
    let _ = signal_hook::low_level::emulate_default_handler(SignalKind::interrupt().as_raw_value());
}

/// Returns the exit code of a command that a signal ended.
pub(crate) fn exit_code_of_signal(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(125)
}
