//! How far a session is: the view of its log's fold that people and programs look at. What the work calls to report
//! is in `tracker`, the one-line bar in `format`.

mod format;
mod tracker;

#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::format::format_progress;
pub use self::tracker::ProgressTracker;

use crate::event::ProgressReport;
use crate::head::Head;
use crate::machine::SessionState;
use crate::time::Timestamp;

/// Reports that moved the work forward, below which no time left is estimated.
const SAMPLES: u64 = 3;

/// How far a session is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SessionProgress {
    /// The state.
    pub state: SessionState,
    /// Iterations done.
    pub iterations_completed: u64,
    /// Iterations at most, where there is such a limit.
    pub total_iterations: Option<u64>,
    /// Files changed, added up over the iterations.
    pub files_changed: u64,
    /// Commands that ran to their end.
    pub commands: u64,
    /// How much is done, 0 to 100. It follows the steps where both their numbers are known, else it is what was
    /// reported. 100 only if all steps are done, if 100 was reported, or if the session is completed.
    pub percent: Option<f64>,
    /// What is being done, or was done last.
    pub step: Option<String>,
    /// The part of the work that this is.
    pub phase: Option<String>,
    /// Steps done. More than `total_steps` where there were more to do than was thought.
    pub completed_steps: Option<u64>,
    /// Steps in all; `None` while that is not known. A total of 0 says nothing and is not known.
    pub total_steps: Option<u64>,
    /// Time left, in seconds: what was reported, else what the rate so far lets expect. `None` unless it is running,
    /// and before three reports moved it forward.
    pub eta_seconds: Option<u64>,
    /// Time spent running, over all attempts, in milliseconds.
    pub duration_ms: u64,
    /// Commands that ended with exit code 0, as a part of all, 0 to 1; `None` before the first.
    pub success_rate: Option<f64>,
    /// Lines added, added up over the iterations.
    pub lines_added: u64,
    /// Lines removed.
    pub lines_removed: u64,
    /// Commits made.
    pub commits: u64,
}

impl SessionProgress {
    /// What the fold of a log says at `now`.
    #[must_use]
    pub fn from_head(head: &Head, now: Timestamp) -> Self {
        Self::of(head, &head.progress, head.samples, now)
    }

    /// As [`from_head`](Self::from_head), with reports that the log does not have yet.
    fn of(head: &Head, reported: &ProgressReport, samples: u64, now: Timestamp) -> Self {
        let ran = head.ran(now);
        let total_steps = reported.total_steps.filter(|total| *total > 0);
        let steps = reported.completed_steps.zip(total_steps);
        let percent = match (head.state(), steps) {
            (SessionState::Completed { .. }, _) => Some(100.0),
            (_, Some((done, total))) => Some(ratio(done, total, 100)),
            (_, None) => reported.percent,
        };
        let eta = match head.state() {
            SessionState::Running { .. } => reported
                .eta
                .or_else(|| (samples >= SAMPLES).then(|| time_left(steps, reported.percent, ran)).flatten()),
            SessionState::Created
            | SessionState::Paused { .. }
            | SessionState::Completed { .. }
            | SessionState::Failed { .. }
            | SessionState::Cancelled { .. } => None,
        };
        let totals = &head.totals;
        let succeeded = totals.commands.saturating_sub(totals.commands_failed);
        Self {
            state: head.state().clone(),
            iterations_completed: head.lifecycle.iterations_completed,
            total_iterations: head.max_iterations,
            files_changed: totals.files_changed,
            commands: totals.commands,
            percent,
            step: reported.step.clone(),
            phase: reported.phase.clone(),
            completed_steps: reported.completed_steps,
            total_steps,
            eta_seconds: eta,
            duration_ms: u64::try_from(ran.as_millis()).unwrap_or(u64::MAX),
            success_rate: (totals.commands > 0).then(|| ratio(succeeded, totals.commands, 1)),
            lines_added: totals.lines_added,
            lines_removed: totals.lines_removed,
            commits: totals.commits,
        }
    }
}

/// `part / whole * scale`, at most `scale`, and that only if nothing is missing: cut, not rounded, to a millionth.
fn ratio(part: u64, whole: u64, scale: u32) -> f64 {
    const PARTS: u32 = 1_000_000;
    let parts = u128::from(part.min(whole)) * u128::from(PARTS * scale) / u128::from(whole.max(1));
    u32::try_from(parts).map_or(f64::from(scale), |parts| f64::from(parts) / f64::from(PARTS))
}

/// The time left at the rate so far, in whole seconds, rounded up.
fn time_left(steps: Option<(u64, u64)>, percent: Option<f64>, ran: Duration) -> Option<u64> {
    match (steps, percent) {
        (Some((0, _)), _) => None,
        (Some((done, total)), _) => {
            let left = u128::from(total.saturating_sub(done));
            let millis = ran.as_millis().saturating_mul(left) / u128::from(done);
            Some(u64::try_from(millis.div_ceil(1_000)).unwrap_or(u64::MAX))
        }
        (None, Some(percent)) if percent > 0.0 => {
            let left = ran.as_secs_f64() * (100.0 - percent) / percent;
            let left = Duration::try_from_secs_f64(left).ok()?;
            Some(left.as_secs() + u64::from(left.subsec_nanos() > 0))
        }
        (None, _) => None,
    }
}
