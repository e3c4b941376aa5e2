//! The status of a session: its state for people, combined with the liveness of the owner. One word, shown and accepted
//! everywhere.

use sessionkit::log::{FailureCause, Owner, OwnerLoss, PauseReason};
use sessionkit::manager::Liveness;
use sessionkit::{Head, SessionFilter, SessionState, StateName};

/// The status of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Status {
    /// Created by a process that may live, and not started yet.
    Created,
    /// Waits for a process that starts it.
    Queued,
    /// Run by a living owner.
    Running,
    /// Its owner lives, and is stopped by a signal.
    Stalled,
    /// Does nothing but wait for an answer or a wake-up time.
    Waiting,
    /// Paused on request or at a limit.
    Paused,
    /// Its owner, or its creator before the first start, died.
    Crashed,
    /// TERM, HUP or a shutdown reached its owner, or its work was dropped.
    Interrupted,
    /// A person ended the attempt.
    Stopped,
    /// Ended successfully.
    Completed,
    /// Ended with a failure.
    Failed,
    /// Ended by its deadline.
    TimedOut,
    /// Ended on request.
    Cancelled,
    /// Not paused and not ended; nothing proves its owner, or its creator before the first start, alive or dead.
    Unknown,
    /// Cannot be read.
    Unreadable,
}

const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const CYAN: &str = "36";

impl Status {
    /// Every status.
    pub(crate) const ALL: [Self; 15] = [
        Self::Created,
        Self::Queued,
        Self::Running,
        Self::Stalled,
        Self::Waiting,
        Self::Paused,
        Self::Crashed,
        Self::Interrupted,
        Self::Stopped,
        Self::Completed,
        Self::Failed,
        Self::TimedOut,
        Self::Cancelled,
        Self::Unknown,
        Self::Unreadable,
    ];

    /// Returns the word.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Stalled => "stalled",
            Self::Waiting => "waiting",
            Self::Paused => "paused",
            Self::Crashed => "crashed",
            Self::Interrupted => "interrupted",
            Self::Stopped => "stopped",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::TimedOut => "timed-out",
            Self::Cancelled => "cancelled",
            Self::Unknown => "unknown",
            Self::Unreadable => "unreadable",
        }
    }

    /// Returns the status that a word names.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == word)
    }

    /// Returns the colour as an SGR code.
    pub(crate) const fn sgr(self) -> &'static str {
        match self {
            Self::Created | Self::Queued | Self::Running => CYAN,
            Self::Stalled
            | Self::Waiting
            | Self::Paused
            | Self::Interrupted
            | Self::Stopped
            | Self::Cancelled
            | Self::Unknown => YELLOW,
            Self::Crashed | Self::Failed | Self::TimedOut | Self::Unreadable => RED,
            Self::Completed => GREEN,
        }
    }

    /// Returns `true` if the session has lost its owner and is not paused: a paused one waits for a person.
    pub(crate) const fn is_lost(self) -> bool {
        matches!(self, Self::Crashed | Self::Interrupted | Self::Stopped)
    }

    /// Returns the states in the log of sessions that may have this status.
    pub(crate) const fn states(self) -> &'static [StateName] {
        match self {
            Self::Created | Self::Queued => &[StateName::Created],
            Self::Running | Self::Stalled => &[StateName::Running],
            Self::Paused => &[StateName::Paused],
            Self::Crashed => &[StateName::Created, StateName::Running, StateName::Paused],
            Self::Waiting | Self::Interrupted | Self::Stopped => &[StateName::Running, StateName::Paused],
            Self::Completed => &[StateName::Completed],
            Self::Failed | Self::TimedOut => &[StateName::Failed],
            Self::Cancelled => &[StateName::Cancelled],
            Self::Unknown => &[StateName::Created, StateName::Running],
            Self::Unreadable => &[],
        }
    }

    /// Returns a filter that matches all sessions with one of these statuses, and possibly others.
    pub(crate) fn filter(statuses: &[Self]) -> SessionFilter {
        let states = statuses.iter().flat_map(|status| status.states());
        states.fold(SessionFilter::all(), |filter, state| {
            if filter.states.contains(state) { filter } else { filter.state(*state) }
        })
    }
}

impl From<OwnerLoss> for Status {
    fn from(loss: OwnerLoss) -> Self {
        match loss {
            OwnerLoss::Crashed => Self::Crashed,
            OwnerLoss::Stopped => Self::Stopped,
            OwnerLoss::Interrupted | OwnerLoss::Dropped | _ => Self::Interrupted,
        }
    }
}

/// Returns the status of a session. `liveness` is that of its owner, or of its creator before the first start.
pub(crate) fn status(head: &Head, liveness: Option<&Liveness>) -> Status {
    match (head.state(), liveness) {
        (SessionState::Created, Some(Liveness::Dead { .. })) => Status::Crashed,
        (SessionState::Running { .. }, Some(Liveness::Dead { evidence })) => {
            head.lifecycle.loss_by(evidence).into()
        }
        (SessionState::Created | SessionState::Running { .. }, Some(Liveness::Unknown { .. })) => {
            Status::Unknown
        }
        (SessionState::Created, _) if head.creator.is_none() => Status::Queued,
        (SessionState::Created, _) => Status::Created,
        // One that waits does nothing either way.
        (SessionState::Running { .. }, _) if head.is_waiting() => Status::Waiting,
        (SessionState::Running { .. }, _) if head.lifecycle.owner.as_ref().is_some_and(is_stopped) => {
            Status::Stalled
        }
        (SessionState::Running { .. }, _) => Status::Running,
        // A paused session stays paused when it loses its owner.
        (SessionState::Paused { reason }, _) => match reason {
            PauseReason::Interrupted(interruption) => {
                interruption.kind.map_or(Status::Interrupted, Status::from)
            }
            PauseReason::AwaitingInput(_) => Status::Waiting,
            PauseReason::Requested(_) | PauseReason::Limit(_) | _ => Status::Paused,
        },
        (SessionState::Completed { .. }, _) => Status::Completed,
        (SessionState::Failed { error }, _) if error.cause == FailureCause::Timeout => Status::TimedOut,
        (SessionState::Failed { .. }, _) => Status::Failed,
        (SessionState::Cancelled { .. }, _) => Status::Cancelled,
    }
}

/// Returns the pending request that the owner has not acted on yet: `cancel`, `pause` or `resume`.
pub(crate) fn pending_request(head: &Head) -> Option<&'static str> {
    let requests = &head.lifecycle.requests;
    let is_running = matches!(head.state(), SessionState::Running { .. });
    let is_paused = matches!(head.state(), SessionState::Paused { .. });
    if (is_running || is_paused) && requests.cancel.is_some() {
        Some("cancel")
    } else if is_running && requests.pause.is_some() {
        Some("pause")
    } else if is_paused && requests.resume.is_some() {
        Some("resume")
    } else {
        None
    }
}

/// Returns `true` if a live owner on this machine is stopped by a signal and so does not respond until it is continued.
/// The owner's lock is held, so its process id has not been reused in its own namespace.
fn is_stopped(owner: &Owner) -> bool {
    let place = |owner: &Owner| (owner.boot.clone(), owner.pid_namespace);
    if sessionkit::backend::this_process().map_or(true, |me| place(&me) != place(owner)) {
        return false;
    }
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", owner.pid)).unwrap_or_default();
    // The program's name is in parentheses and may contain anything; the state is the letter after it.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_is_one_word_that_is_understood() {
        for status in Status::ALL {
            assert!(status.name().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'));
            assert_eq!(Status::parse(status.name()), Some(status));
        }
    }
}
