//! The state of a run: what has been requested of the program, what has happened to it, and what follows from that.

use std::time::Duration;

use session_core::Stop;
use tokio::time::Instant;

use crate::child_state::LocalRequest;
use crate::linger::Linger;
use crate::outcome::EndReason;
use crate::stops::SharedStops;
use crate::supervisor::messages::{BackgroundProcess, Ended, Escaped, Spare};

/// Time after a stop signal in which background processes are not waited for.
const STOP_WINDOW: Duration = Duration::from_secs(10);

/// The state of the run so far.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts of a run")]
pub(crate) struct RunState {
    pub(crate) phase: Phase,
    pub(crate) tree: TreeState,
    /// The request of the owner's process that is not fulfilled yet.
    pub(crate) request: Option<LocalRequest>,
    /// `true` if the job of the viewer stops once the session is paused.
    pub(crate) suspends_viewer: bool,
    /// `true` if a key of the program's terminal has paused the session.
    pub(crate) is_paused_by_terminal: bool,
    /// The reason why the program is being ended, if it is.
    pub(crate) end_reason: Option<EndReason>,
    /// `true` once the supervisor was ordered to end the tree.
    pub(crate) end_is_ordered: bool,
    /// The end of the first process, and the time that it took.
    pub(crate) ended: Option<(Ended, Duration)>,
    /// `true` once the log holds the end of the first process.
    pub(crate) end_is_recorded: bool,
    /// The wait after the end of the first process.
    pub(crate) linger: Option<Linger>,
    /// The stop signals that came through the owner.
    pub(crate) stops: SharedStops,
    /// The stop that led to the end of the program, so that it is not the result of the session.
    pub(crate) stop: Option<Stop>,
    /// `true` if the program had the terminal of this process when it ended.
    pub(crate) was_in_foreground: bool,
    /// The time at which it is decided whether a stop led to the end of the program, while that is open.
    pub(crate) judge_at: Option<Instant>,
    /// The time at which the end of the program is recorded, unless the session has ended by then.
    pub(crate) record_at: Option<Instant>,
    /// The pipes that are closed because their readers are gone.
    pub(crate) readers_gone: [bool; 2],
    pub(crate) escaped: Vec<Escaped>,
    pub(crate) left_running: Vec<BackgroundProcess>,
    pub(crate) ended_background: Vec<BackgroundProcess>,
    /// `true` once the supervisor has reported the end of the tree.
    pub(crate) tree_ended: bool,
    /// `true` while the program does nothing but wait for an answer or a wake-up time.
    is_waiting: bool,
    /// Time spent running before `running_since`, without waits.
    ran_for: Duration,
    /// Start of the current running period; `None` while it is paused.
    pub(crate) running_since: Option<Instant>,
    /// The time of the next attempt, if a requested change could not be written to the log.
    pub(crate) retry_at: Option<Instant>,
}

/// The phase of the run.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// A supervisor holds the tree.
    #[default]
    Supervised,
    /// The tree has ended, and the rest of its output is read and delivered.
    Delivering,
    /// All output is delivered.
    Delivered,
}

/// The run state of the process tree.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TreeState {
    #[default]
    Running,
    Halting,
    Halted,
}

impl RunState {
    pub(crate) fn new(now: Instant, stops: SharedStops) -> Self {
        Self { running_since: Some(now), stops, ..Self::default() }
    }

    pub(crate) const fn is_fenced(&self) -> bool {
        matches!(self.end_reason, Some(EndReason::Fenced(_)))
    }

    /// Returns `true` if a stop signal was sent so recently that an end of the program may be its result.
    pub(crate) fn was_stopped(&self, now: Instant) -> bool {
        self.stops.lock().last_at().is_some_and(|at| now - at < STOP_WINDOW)
    }

    /// Takes note that the supervisor was ordered to end the tree. A program that has ended before keeps its own
    /// outcome.
    pub(crate) fn order_end(&mut self, end_reason: EndReason) {
        let keep = match &end_reason {
            EndReason::Cancelled { .. }
            | EndReason::Deadline(_)
            | EndReason::Stopped(_)
            | EndReason::Dropped => self.end_reason.is_some() || self.ended.is_some(),
            EndReason::Fenced(_) => false,
        };
        if !keep {
            self.end_reason = Some(end_reason);
        }
        self.end_is_ordered = true;
    }

    /// Returns the processes that an end for this reason leaves running.
    pub(crate) const fn spared_by(&self, end_reason: &EndReason, keep_background: bool) -> Spare {
        match (end_reason, keep_background, self.ended.is_some()) {
            (EndReason::Cancelled { .. } | EndReason::Deadline(_), false, _) => Spare::Nothing,
            (EndReason::Cancelled { .. } | EndReason::Deadline(_), true, false) => Spare::Background,
            (EndReason::Cancelled { .. } | EndReason::Deadline(_), true, true) => Spare::Everything,
            (EndReason::Stopped(_) | EndReason::Dropped | EndReason::Fenced(_), ..) => Spare::OwnSession,
        }
    }

    /// Returns the time of the next step of the wait after the end of the first process.
    pub(crate) fn linger_at(&self) -> Option<Instant> {
        let linger = self.linger.as_ref().filter(|_| self.phase == Phase::Supervised)?;
        linger.notify_at().into_iter().chain(linger.until()).min()
    }

    /// Returns the time at which the attempt reaches its limit. The time of pauses and waits is not counted.
    pub(crate) fn deadline(&self, limit: Option<Duration>) -> Option<Instant> {
        let is_counted = !self.is_waiting && self.end_reason.is_none() && !self.end_is_ordered;
        let running_since = self.running_since.filter(|_| is_counted)?;
        running_since.checked_add(limit?.saturating_sub(self.ran_for))
    }

    /// Takes note that the program begins or ends to wait.
    pub(crate) fn set_waiting(&mut self, is_waiting: bool) {
        if self.is_waiting == is_waiting {
            return;
        }
        if self.running_since.is_some() {
            self.stop_clock();
            self.running_since = Some(Instant::now());
        }
        self.is_waiting = is_waiting;
    }

    pub(crate) fn stop_clock(&mut self) {
        if let Some(running_since) = self.running_since.take()
            && !self.is_waiting
        {
            self.ran_for += running_since.elapsed();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_deadline_counts_all_periods_of_running() {
        let mut state = RunState::new(Instant::now(), SharedStops::default());
        for _ in 0..2 {
            state.running_since = Instant::now().checked_sub(10 * SECOND);
            state.stop_clock();
            assert_eq!(state.deadline(Some(60 * SECOND)), None, "paused");
        }
        state.running_since = Some(Instant::now());
        state.set_waiting(true);
        state.running_since = Instant::now().checked_sub(100 * SECOND);
        assert_eq!(state.deadline(Some(60 * SECOND)), None, "waiting");
        state.set_waiting(false);
        let now = Instant::now();
        state.running_since = Some(now);
        assert!(state.deadline(Some(60 * SECOND)).unwrap() <= now + 40 * SECOND);
    }
}
