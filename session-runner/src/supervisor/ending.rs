//! How a tree is brought to its end: asked, given time, killed, and given up on. Time comes in from outside.

use std::time::{Duration, Instant};

/// How often the killing is repeated, for those that were born meanwhile.
const AGAIN: Duration = Duration::from_millis(10);
/// After so long, the processes that are still there are named as escaped.
const GIVE_UP: Duration = Duration::from_millis(800);
/// How often the killing is repeated after that.
const AGAIN_LATER: Duration = Duration::from_secs(1);
/// After so many rounds, processes are stopped before they are killed.
const PATIENT_ROUNDS: u32 = 5;

/// What is to be done to the tree now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// Continue it and ask it to end.
    Ask,
    /// Kill whatever is there.
    Kill {
        /// Stop them all first.
        freeze: bool,
    },
    /// Name those that are still there, then kill on.
    NameEscaped,
}

/// Where the end is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Nobody wants it.
    Far,
    /// It was asked to end.
    Asked {
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
        named: bool,
    },
}

impl Ending {
    /// Somebody wants the end, with this much time for the tree to come to it by itself. A second wish can only
    /// shorten the first.
    pub(crate) fn wish(&mut self, now: Instant, grace: Duration) -> Option<Act> {
        let until = now + grace;
        match *self {
            Self::Far | Self::Asked { .. } if grace.is_zero() => Some(self.kill(now)),
            Self::Far => {
                *self = Self::Asked { until };
                Some(Act::Ask)
            }
            Self::Asked { until: before } => {
                *self = Self::Asked { until: before.min(until) };
                None
            }
            Self::Killing { .. } => None,
        }
    }

    /// What the time that has passed makes necessary.
    pub(crate) fn tick(&mut self, now: Instant) -> Option<Act> {
        match *self {
            Self::Asked { until } if now >= until => Some(self.kill(now)),
            Self::Killing { since, next, named, .. } if now >= next => {
                let late = now.duration_since(since) >= GIVE_UP;
                if late && !named {
                    *self = Self::Killing { since, next: now, rounds: PATIENT_ROUNDS, named: true };
                    return Some(Act::NameEscaped);
                }
                Some(self.kill(now))
            }
            Self::Far | Self::Asked { .. } | Self::Killing { .. } => None,
        }
    }

    /// How long nothing has to be done.
    pub(crate) fn rest(&self, now: Instant) -> Option<Duration> {
        match self {
            Self::Far => None,
            Self::Asked { until } => Some(until.saturating_duration_since(now)),
            Self::Killing { next, .. } => Some(next.saturating_duration_since(now)),
        }
    }

    /// Whether the last act was the first attempt to kill.
    pub(crate) fn is_first_kill(&self) -> bool {
        matches!(self, Self::Killing { rounds: 0, .. })
    }

    fn kill(&mut self, now: Instant) -> Act {
        let (since, rounds, named) = match *self {
            Self::Killing { since, rounds, named, .. } => (since, rounds.saturating_add(1), named),
            Self::Far | Self::Asked { .. } => (now, 0, false),
        };
        let next = now + if named { AGAIN_LATER } else { AGAIN };
        *self = Self::Killing { since, next, rounds, named };
        Act::Kill { freeze: rounds >= PATIENT_ROUNDS }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_tree_is_asked_then_killed_then_given_up_on() {
        let start = Instant::now();
        let mut ending = Ending::Far;
        assert_eq!(ending.tick(start), None);
        assert_eq!(ending.rest(start), None);
        assert_eq!(ending.wish(start, 5 * SECOND), Some(Act::Ask));
        assert_eq!(ending.rest(start), Some(5 * SECOND));
        assert_eq!(ending.tick(start + 4 * SECOND), None);
        let mut now = start + 5 * SECOND;
        assert_eq!(ending.tick(now), Some(Act::Kill { freeze: false }));
        let mut acts = Vec::new();
        while now < start + 5 * SECOND + GIVE_UP {
            now += ending.rest(now).unwrap();
            acts.extend(ending.tick(now));
        }
        assert!(acts.contains(&Act::Kill { freeze: true }));
        assert_eq!(acts.iter().filter(|act| **act == Act::NameEscaped).count(), 1);
        assert_eq!(acts.last(), Some(&Act::NameEscaped));
        assert!(acts.len() < 200, "{}", acts.len());
        assert_eq!(ending.tick(now), Some(Act::Kill { freeze: true }), "killing goes on");
        assert_eq!(ending.rest(now), Some(AGAIN_LATER));
    }

    #[test]
    fn a_second_wish_only_shortens_the_first() {
        let start = Instant::now();
        let mut ending = Ending::Far;
        ending.wish(start, 5 * SECOND);
        assert_eq!(ending.wish(start, 60 * SECOND), None);
        assert_eq!(ending.rest(start), Some(5 * SECOND));
        assert_eq!(ending.wish(start, SECOND), None);
        assert_eq!(ending.rest(start), Some(SECOND));
        assert_eq!(ending.wish(start, Duration::ZERO), Some(Act::Kill { freeze: false }));
        assert_eq!(ending.wish(start, Duration::ZERO), None);
    }

    #[test]
    fn no_grace_kills_at_once() {
        let mut ending = Ending::Far;
        assert_eq!(ending.wish(Instant::now(), Duration::ZERO), Some(Act::Kill { freeze: false }));
    }
}
