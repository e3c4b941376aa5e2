//! Signals that stop an each: no further item starts, and it ends after what runs.

use std::future::poll_fn;
use std::task::Poll;

use nix::sys::signal::Signal;
use tokio::signal::unix::{self, SignalKind};

/// Those that stop it. From a terminal, the commands get them, too.
const STOPS: [Signal; 4] = [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGHUP];
/// Those that are passed on: they may have reached this process alone.
const PASSED_ON: [Signal; 2] = [Signal::SIGTERM, Signal::SIGHUP];

/// The signals of stops that this process receives.
pub(super) struct Stops {
    received: Vec<(i32, unix::Signal)>,
}

impl Stops {
    /// Receives these signals from now on. Those that this process ignores stay ignored.
    pub(super) fn new() -> Self {
        let signals = STOPS.map(|signal| signal as i32).into_iter();
        let received = signals
            .filter(|signal| !session_inherit::is_ignored(*signal))
            .filter_map(|signal| Some((signal, unix::signal(SignalKind::from_raw(signal)).ok()?)));
        Self { received: received.collect() }
    }

    /// Returns the next signal. The future can be dropped without loss.
    pub(super) async fn next(&mut self) -> i32 {
        poll_fn(|context| {
            for (signal, received) in &mut self.received {
                if let Poll::Ready(Some(())) = received.poll_recv(context) {
                    return Poll::Ready(*signal);
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// Returns the signal to pass on to the commands, if it is one.
pub(super) fn passed_on(signal: i32) -> Option<Signal> {
    PASSED_ON.into_iter().find(|passed| *passed as i32 == signal)
}
