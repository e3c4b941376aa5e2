//! The end of a session's program, and the stop signals that reached its owner: what a session is after its owner is lost.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Lifecycle;
use crate::event::{EventKind, SessionEvent};
use crate::owner::{Evidence, OwnerLoss, Stop, StopSource};
use crate::reason::{Failure, FailureCause, SessionSummary};
use crate::time::Timestamp;

/// A stop signal that reached the owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StopRequest {
    /// The number of the signal.
    pub signal: i32,
    /// The time of its record.
    pub at: Timestamp,
}

/// The end of a session's own program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ProgramEnd {
    /// The exit code, unless a signal ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// The stop that led to this end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<Stop>,
    /// The time of its record.
    pub at: Timestamp,
}

impl ProgramEnd {
    /// The time between a signal to the owner and an end of the program by the same signal, within which one stop caused
    /// both.
    pub const SAME_STOP: Duration = Duration::from_secs(1);

    /// Returns `true` if the program died of this signal, or ended with the code that shells give for it.
    #[must_use]
    pub fn is_by(&self, signal: i32) -> bool {
        self.signal == Some(signal) || self.exit_code == signal.checked_add(128)
    }

    /// Returns the event that ends a session with this result, if no step was refused: see
    /// [`Lifecycle::ending_of_program`].
    fn ending(&self) -> SessionEvent {
        let error = match (self.exit_code, self.signal) {
            (Some(0), _) => return SessionEvent::Completed { summary: SessionSummary::new() },
            (Some(code), _) => {
                Failure::new(FailureCause::Work, format!("exited with code {code}")).exit_code(code)
            }
            (None, Some(signal)) => {
                Failure::new(FailureCause::Work, format!("ended by signal {signal}")).signal(signal)
            }
            (None, None) => Failure::new(FailureCause::Crash, "exit status unknown"),
        };
        SessionEvent::Failed { error }
    }
}

impl Lifecycle {
    /// Returns the end of the program in this attempt, if it is the result of the session: not that of a stop.
    #[must_use]
    pub fn result_of_program(&self) -> Option<&ProgramEnd> {
        self.program_end.as_ref().filter(|_| self.stop_of_program().is_none())
    }

    /// Returns the event that ends the session with the result of its program, if there is one. After a refused step the
    /// session fails, whatever the exit code.
    #[must_use]
    pub fn ending_of_program(&self) -> Option<SessionEvent> {
        let ending = self.result_of_program()?.ending();
        let refused = self.step_refused && ending.kind() == EventKind::Completed;
        Some(if refused { SessionEvent::Failed { error: step_refused() } } else { ending })
    }

    /// Returns `true` if the program of this attempt ended with exit code 0, not by a stop, and no step was refused.
    pub(super) fn program_succeeded(&self) -> bool {
        !self.step_refused && self.result_of_program().is_some_and(|end| end.exit_code == Some(0))
    }

    /// Returns how a session loses its owner, given the evidence: what was recorded before a death decides.
    #[must_use]
    pub fn loss_by(&self, evidence: &Evidence) -> OwnerLoss {
        match evidence {
            Evidence::Stopped(stop) => stop.loss(),
            Evidence::Shutdown => OwnerLoss::Interrupted,
            Evidence::Dropped => OwnerLoss::Dropped,
            Evidence::LockReleased
            | Evidence::ProcessGone
            | Evidence::Rebooted { .. }
            | Evidence::Forced { .. }
            | Evidence::Repaired => match (self.stop_of_program(), &self.stop_requested) {
                (Some(stop), _) => stop.loss(),
                (None, Some(_)) => OwnerLoss::Interrupted,
                (None, None) => OwnerLoss::Crashed,
            },
        }
    }

    /// Returns the stop that ended the program: as its owner recorded it, or judged by the signal that reached the owner at
    /// the same time.
    fn stop_of_program(&self) -> Option<Stop> {
        let end = self.program_end.as_ref()?;
        let same = |request: &StopRequest| {
            let between = end.at.since(request.at).max(request.at.since(end.at));
            end.is_by(request.signal) && between <= ProgramEnd::SAME_STOP
        };
        let requested = self.stop_requested.filter(same);
        end.stop.or(requested.map(|request| Stop { signal: request.signal, by: StopSource::Signal }))
    }
}

/// Returns the failure of a session whose work goes on to its end after a step was refused.
pub(crate) fn step_refused() -> Failure {
    Failure::new(FailureCause::Work, "a step was refused: its record has the reason")
}
