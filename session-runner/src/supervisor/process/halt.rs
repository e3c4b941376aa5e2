//! The halt of a tree as a state machine. The caller passes in the time and the processes.

use std::time::{Duration, Instant};

use crate::procfs::Process;

/// Interval and timeout of checking that a tree has stopped.
pub(crate) const HALT_INTERVAL: Duration = Duration::from_millis(5);
const HALT_TIMEOUT: Duration = Duration::from_millis(500);

/// An ordered halt, if there is one.
#[derive(Debug, Default)]
pub(crate) struct Halt {
    is_ordered: bool,
    /// The deadline, and whether no process was running at the last check; `None` once the tree has stopped.
    check: Option<(Instant, bool)>,
}

/// The result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HaltCheck {
    /// The whole tree has stopped.
    Stopped,
    /// Processes that were forked while the signal was being sent have to be stopped.
    SignalAgain,
}

impl Halt {
    pub(crate) fn order(&mut self, now: Instant) {
        *self = Self { is_ordered: true, check: Some((now + HALT_TIMEOUT, false)) };
    }

    /// Forgets the order. Returns `true` if there was one.
    pub(crate) fn lift(&mut self) -> bool {
        std::mem::take(self).is_ordered
    }

    /// Returns `true` if a stop of the program is our own.
    pub(crate) const fn is_ordered(&self) -> bool {
        self.is_ordered
    }

    pub(crate) const fn is_checking(&self) -> bool {
        self.check.is_some()
    }

    /// Checks whether these processes, the whole tree, have stopped.
    ///
    /// A process that waits inside the kernel with the signal pending stops on its way out, so from the second check on
    /// it is treated as stopped. A shell whose child was stopped between `vfork` and `exec` waits in the kernel for as
    /// long as the halt lasts.
    pub(crate) fn check(&mut self, now: Instant, alive: &[Process]) -> Option<HaltCheck> {
        let (until, signalled) = self.check?;
        let all = |is_quiet: fn(&Process) -> bool| !alive.is_empty() && alive.iter().all(is_quiet);
        let quiet = all(|process| process.is_stopped() || process.is_in_kernel());
        if all(Process::is_stopped) || quiet && signalled || now >= until {
            self.check = None;
            Some(HaltCheck::Stopped)
        } else {
            self.check = Some((until, quiet));
            Some(HaltCheck::SignalAgain)
        }
    }
}
