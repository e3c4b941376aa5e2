//! The termination of a tree as a state machine: TERM, grace period, hang-up of a terminal, KILL, and report of escaped
//! processes. The caller passes in the time.

use std::time::{Duration, Instant};

/// Interval between two kills, for processes that were forked meanwhile.
const KILL_INTERVAL: Duration = Duration::from_millis(10);
/// Time after which the processes that are left are reported as escaped.
const REPORT_ESCAPED_AFTER: Duration = Duration::from_millis(800);
/// Interval between two kills after that.
const SLOW_KILL_INTERVAL: Duration = Duration::from_secs(1);
/// Time after a hang-up in which a tree may end by itself.
const HANG_UP_GRACE: Duration = Duration::from_secs(1);
/// Number of kills after which processes are stopped before they are killed.
const ROUNDS_BEFORE_FREEZE: u32 = 5;

/// An action on the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Continue it and send TERM.
    Terminate,
    /// Send HUP and continue it: interactive shells ignore TERM.
    HangUp,
    /// Kill every process.
    Kill {
        /// Stop all processes first.
        freeze: bool,
    },
    /// Report the processes that are left, then continue killing.
    ReportEscaped,
}

/// The progress of a termination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Termination {
    /// Not requested.
    NotRequested,
    /// TERM was sent.
    GracePeriod {
        /// The time at which the tree is killed.
        until: Instant,
    },
    /// HUP was sent after the grace period.
    HungUp {
        /// The time at which the tree is killed.
        until: Instant,
    },
    /// The tree is being killed.
    Killing {
        /// The time of the first kill.
        since: Instant,
        /// The time of the next kill.
        next: Instant,
        /// The number of kills after the first one.
        rounds: u32,
        /// `true` once the escaped processes were reported.
        reported: bool,
    },
}

impl Termination {
    /// Requests the end, with this grace period for the tree to end by itself. A second request can only shorten the
    /// first.
    pub(crate) fn request(&mut self, now: Instant, grace: Duration) -> Option<Action> {
        let until = now + grace;
        match *self {
            Self::NotRequested | Self::GracePeriod { .. } | Self::HungUp { .. } if grace.is_zero() => {
                Some(self.kill(now))
            }
            Self::NotRequested => {
                *self = Self::GracePeriod { until };
                Some(Action::Terminate)
            }
            Self::GracePeriod { until: before } => {
                *self = Self::GracePeriod { until: before.min(until) };
                None
            }
            Self::HungUp { .. } | Self::Killing { .. } => None,
        }
    }

    /// Returns the action that is due, if one is.
    pub(crate) fn tick(&mut self, now: Instant, has_terminal: bool) -> Option<Action> {
        match *self {
            Self::GracePeriod { until } if now >= until && has_terminal => {
                *self = Self::HungUp { until: now + HANG_UP_GRACE };
                Some(Action::HangUp)
            }
            Self::GracePeriod { until } | Self::HungUp { until } if now >= until => Some(self.kill(now)),
            Self::Killing { since, next, reported, .. } if now >= next => {
                let late = now.duration_since(since) >= REPORT_ESCAPED_AFTER;
                if late && !reported {
                    *self = Self::Killing { since, next: now, rounds: ROUNDS_BEFORE_FREEZE, reported: true };
                    return Some(Action::ReportEscaped);
                }
                Some(self.kill(now))
            }
            Self::NotRequested | Self::GracePeriod { .. } | Self::HungUp { .. } | Self::Killing { .. } => {
                None
            }
        }
    }

    /// Returns the time until the next action, if one is planned.
    pub(crate) fn next_action_in(&self, now: Instant) -> Option<Duration> {
        match self {
            Self::NotRequested => None,
            Self::GracePeriod { until } | Self::HungUp { until } => {
                Some(until.saturating_duration_since(now))
            }
            Self::Killing { next, .. } => Some(next.saturating_duration_since(now)),
        }
    }

    pub(crate) fn is_requested(&self) -> bool {
        *self != Self::NotRequested
    }

    /// Returns `true` if the last action was the first kill.
    pub(crate) fn is_first_kill(&self) -> bool {
        matches!(self, Self::Killing { rounds: 0, .. })
    }

    fn kill(&mut self, now: Instant) -> Action {
        let (since, rounds, reported) = match *self {
            Self::Killing { since, rounds, reported, .. } => (since, rounds.saturating_add(1), reported),
            Self::NotRequested | Self::GracePeriod { .. } | Self::HungUp { .. } => (now, 0, false),
        };
        let next = now + if reported { SLOW_KILL_INTERVAL } else { KILL_INTERVAL };
        *self = Self::Killing { since, next, rounds, reported };
        Action::Kill { freeze: rounds >= ROUNDS_BEFORE_FREEZE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_tree_is_terminated_then_killed_then_reported() {
        let start = Instant::now();
        let mut termination = Termination::NotRequested;
        assert_eq!(termination.tick(start, false), None);
        assert_eq!(termination.next_action_in(start), None);
        assert_eq!(termination.request(start, 5 * SECOND), Some(Action::Terminate));
        assert_eq!(termination.next_action_in(start), Some(5 * SECOND));
        assert_eq!(termination.tick(start + 4 * SECOND, false), None);
        let mut now = start + 5 * SECOND;
        assert_eq!(termination.tick(now, false), Some(Action::Kill { freeze: false }));
        let mut actions = Vec::new();
        while now < start + 5 * SECOND + REPORT_ESCAPED_AFTER {
            now += termination.next_action_in(now).unwrap();
            actions.extend(termination.tick(now, false));
        }
        assert!(actions.contains(&Action::Kill { freeze: true }));
        assert_eq!(actions.iter().filter(|action| **action == Action::ReportEscaped).count(), 1);
        assert_eq!(actions.last(), Some(&Action::ReportEscaped));
        assert!(actions.len() < 200, "{}", actions.len());
        assert_eq!(termination.tick(now, false), Some(Action::Kill { freeze: true }), "killing continues");
        assert_eq!(termination.next_action_in(now), Some(SLOW_KILL_INTERVAL));
    }

    #[test]
    fn a_second_request_only_shortens_the_grace_period() {
        let start = Instant::now();
        let mut termination = Termination::NotRequested;
        termination.request(start, 5 * SECOND);
        assert_eq!(termination.request(start, 60 * SECOND), None);
        assert_eq!(termination.next_action_in(start), Some(5 * SECOND));
        assert_eq!(termination.request(start, SECOND), None);
        assert_eq!(termination.next_action_in(start), Some(SECOND));
        assert_eq!(termination.request(start, Duration::ZERO), Some(Action::Kill { freeze: false }));
        assert_eq!(termination.request(start, Duration::ZERO), None);
    }

    #[test]
    fn zero_grace_kills_immediately() {
        let mut termination = Termination::NotRequested;
        assert_eq!(termination.request(Instant::now(), Duration::ZERO), Some(Action::Kill { freeze: false }));
    }

    #[test]
    fn a_tree_with_a_terminal_is_hung_up_before_it_is_killed() {
        let start = Instant::now();
        let mut termination = Termination::NotRequested;
        termination.request(start, 5 * SECOND);
        assert_eq!(termination.tick(start + 5 * SECOND, true), Some(Action::HangUp));
        assert_eq!(termination.request(start + 5 * SECOND, SECOND), None);
        assert_eq!(termination.next_action_in(start + 5 * SECOND), Some(HANG_UP_GRACE));
        let mut forced = termination;
        assert_eq!(forced.request(start, Duration::ZERO), Some(Action::Kill { freeze: false }));
        let until = start + 5 * SECOND + HANG_UP_GRACE;
        assert_eq!(termination.tick(until, true), Some(Action::Kill { freeze: false }));
        assert!(termination.is_first_kill());
    }
}
