//! How a tree is brought to its end: asked, given time, killed, and given up on. Time comes in from outside.

use std::time::{Duration, Instant};

/// How often the killing is repeated, for those that were born meanwhile.
const KILL_INTERVAL: Duration = Duration::from_millis(10);
/// After so long, the processes that are still there are named as escaped.
const REPORT_ESCAPED_AFTER: Duration = Duration::from_millis(800);
/// How often the killing is repeated after that.
const SLOW_KILL_INTERVAL: Duration = Duration::from_secs(1);
/// After so many rounds, processes are stopped before they are killed.
const ROUNDS_BEFORE_FREEZE: u32 = 5;

/// What is to be done to the tree now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Continue it and ask it to end.
    Terminate,
    /// Kill whatever is there.
    Kill {
        /// Stop them all first.
        freeze: bool,
    },
    /// Name those that are still there, then kill on.
    ReportEscaped,
}

/// Where the end is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Termination {
    /// Nobody wants it.
    NotRequested,
    /// It was asked to end.
    GracePeriod {
        /// When it is killed.
        until: Instant,
    },
    /// It is being killed.
    Killing {
        /// Since when.
        since: Instant,
        /// When next.
        next: Instant,
        /// How often.
        rounds: u32,
        /// Whether those that are left were named.
        reported: bool,
    },
}

impl Termination {
    /// Somebody wants the end, with this much time for the tree to come to it by itself. A second wish can only
    /// shorten the first.
    pub(crate) fn request(&mut self, now: Instant, grace: Duration) -> Option<Action> {
        let until = now + grace;
        match *self {
            Self::NotRequested | Self::GracePeriod { .. } if grace.is_zero() => Some(self.kill(now)),
            Self::NotRequested => {
                *self = Self::GracePeriod { until };
                Some(Action::Terminate)
            }
            Self::GracePeriod { until: before } => {
                *self = Self::GracePeriod { until: before.min(until) };
                None
            }
            Self::Killing { .. } => None,
        }
    }

    /// What the time that has passed makes necessary.
    pub(crate) fn tick(&mut self, now: Instant) -> Option<Action> {
        match *self {
            Self::GracePeriod { until } if now >= until => Some(self.kill(now)),
            Self::Killing { since, next, reported, .. } if now >= next => {
                let late = now.duration_since(since) >= REPORT_ESCAPED_AFTER;
                if late && !reported {
                    *self = Self::Killing { since, next: now, rounds: ROUNDS_BEFORE_FREEZE, reported: true };
                    return Some(Action::ReportEscaped);
                }
                Some(self.kill(now))
            }
            Self::NotRequested | Self::GracePeriod { .. } | Self::Killing { .. } => None,
        }
    }

    /// How long nothing has to be done.
    pub(crate) fn next_action_in(&self, now: Instant) -> Option<Duration> {
        match self {
            Self::NotRequested => None,
            Self::GracePeriod { until } => Some(until.saturating_duration_since(now)),
            Self::Killing { next, .. } => Some(next.saturating_duration_since(now)),
        }
    }

    /// Whether the last act was the first attempt to kill.
    pub(crate) fn is_first_kill(&self) -> bool {
        matches!(self, Self::Killing { rounds: 0, .. })
    }

    fn kill(&mut self, now: Instant) -> Action {
        let (since, rounds, reported) = match *self {
            Self::Killing { since, rounds, reported, .. } => (since, rounds.saturating_add(1), reported),
            Self::NotRequested | Self::GracePeriod { .. } => (now, 0, false),
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
        assert_eq!(termination.tick(start), None);
        assert_eq!(termination.next_action_in(start), None);
        assert_eq!(termination.request(start, 5 * SECOND), Some(Action::Terminate));
        assert_eq!(termination.next_action_in(start), Some(5 * SECOND));
        assert_eq!(termination.tick(start + 4 * SECOND), None);
        let mut now = start + 5 * SECOND;
        assert_eq!(termination.tick(now), Some(Action::Kill { freeze: false }));
        let mut actions = Vec::new();
        while now < start + 5 * SECOND + REPORT_ESCAPED_AFTER {
            now += termination.next_action_in(now).unwrap();
            actions.extend(termination.tick(now));
        }
        assert!(actions.contains(&Action::Kill { freeze: true }));
        assert_eq!(actions.iter().filter(|action| **action == Action::ReportEscaped).count(), 1);
        assert_eq!(actions.last(), Some(&Action::ReportEscaped));
        assert!(actions.len() < 200, "{}", actions.len());
        assert_eq!(termination.tick(now), Some(Action::Kill { freeze: true }), "killing goes on");
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
}
