//! The signals of job control, which are blocked in a process that runs or views a program as a job of a shell.

use nix::sys::signal::{SigSet, Signal};

/// Blocks the signals of job control in this thread and in all threads that it starts from now on.
///
/// SIGTTOU is blocked, too, and never read: it stops a background process that writes to its terminal or changes it,
/// and a process that handed its terminal over is in the background.
pub(crate) fn block() {
    let _ = blocked_signals().thread_block();
}

/// Unblocks the signals of job control in this thread.
pub(crate) fn unblock() {
    let _ = blocked_signals().thread_unblock();
}

fn blocked_signals() -> SigSet {
    let mut signals = handled_signals();
    signals.add(Signal::SIGTTOU);
    signals
}

/// Returns the signals that are read from a descriptor.
pub(crate) fn handled_signals() -> SigSet {
    SigSet::from_iter([Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGCONT])
}
