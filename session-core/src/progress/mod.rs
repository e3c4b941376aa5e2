//! The progress of a session, as shown to people and programs. Reporting is in `tracker`, the lines of text in
//! `format`.

mod format;
mod tracker;

#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::format::{format_progress, format_sessions};
pub use self::tracker::ProgressTracker;

use crate::event::ProgressReport;
use crate::head::Head;
use crate::id::SessionId;
use crate::machine::SessionState;
use crate::time::Timestamp;

/// Minimum number of reports that advanced the work before the remaining time is estimated.
const SAMPLES: u64 = 3;

/// The progress of a session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SessionProgress {
    /// The session.
    pub id: SessionId,
    /// The name.
    pub name: String,
    /// The kind of work.
    pub operation: String,
    /// The time of creation.
    pub created_at: Timestamp,
    /// The state.
    pub state: SessionState,
    /// Iterations completed.
    pub iterations_completed: u64,
    /// The maximum number of iterations, if there is one.
    pub total_iterations: Option<u64>,
    /// Files changed, summed over the iterations.
    pub files_changed: u64,
    /// Commands that ran to their end.
    pub commands: u64,
    /// The share of the work that is done, 0 to 100: the larger of the reported percentage and the share of the steps
    /// that are done. 100 only if all steps are done, if 100 was reported, or if the session is completed. It decreases
    /// only if the total number of steps is raised, or set to unknown.
    pub percent: Option<f64>,
    /// The current step, or the last one. If nothing was reported, the durable step that was started last.
    pub step: Option<String>,
    /// The current phase.
    pub phase: Option<String>,
    /// The number of completed steps. It exceeds `total_steps` if there were more than expected. If nothing was reported,
    /// the number of durable steps with a recorded end.
    pub completed_steps: Option<u64>,
    /// The total number of steps; `None` if it is not known. A reported total of 0 means unknown.
    pub total_steps: Option<u64>,
    /// The remaining time in seconds: as reported, else estimated from the rate so far. `None` unless the session is
    /// running, and, without a reported time, before three reports have advanced the work.
    pub eta_seconds: Option<u64>,
    /// Time spent running, over all attempts, in milliseconds.
    pub duration_ms: u64,
    /// The share of commands that ended with exit code 0, from 0 to 1; `None` before the first command.
    pub success_rate: Option<f64>,
    /// Lines added, summed over the iterations.
    pub lines_added: u64,
    /// Lines removed.
    pub lines_removed: u64,
    /// Commits made.
    pub commits: u64,
}

impl SessionProgress {
    /// Computes the progress at `now` from a head.
    #[must_use]
    pub fn from_head(head: &Head, now: Timestamp) -> Self {
        Self::of(head, &head.progress, head.samples, now)
    }

    /// Computes the progress at `now` from a head and from reports that the log may not have yet. Durable steps are the
    /// progress of a session that reports none.
    fn of(head: &Head, reported: &ProgressReport, samples: u64, now: Timestamp) -> Self {
        let ran = head.ran(now);
        let of_steps = of_steps(head, reported);
        let reported = of_steps.as_ref().unwrap_or(reported);
        let total_steps = reported.total_steps.filter(|total| *total > 0);
        let share = Share::of(reported);
        let percent = match head.state() {
            SessionState::Completed { .. } => Some(100.0),
            SessionState::Created
            | SessionState::Running { .. }
            | SessionState::Paused { .. }
            | SessionState::Failed { .. }
            | SessionState::Cancelled { .. } => share.map(Share::percent),
        };
        let eta = match head.state() {
            SessionState::Running { .. } => reported
                .eta
                // Items that were recorded before took no time of this session: there is no rate.
                .or_else(|| {
                    share
                        .filter(|_| samples >= SAMPLES && of_steps.is_none())
                        .and_then(|share| share.time_left(ran))
                }),
            SessionState::Created
            | SessionState::Paused { .. }
            | SessionState::Completed { .. }
            | SessionState::Failed { .. }
            | SessionState::Cancelled { .. } => None,
        };
        let totals = &head.totals;
        let succeeded = totals.commands.saturating_sub(totals.commands_failed);
        Self {
            id: head.id,
            name: head.name.clone(),
            operation: head.operation.clone(),
            created_at: head.created_at,
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

    /// Returns the percentage in whole numbers, rounded down, so that 100 means complete.
    #[must_use]
    pub fn whole_percent(&self) -> Option<u8> {
        let percent = self.percent?;
        Some((1..=100_u8).take_while(|whole| f64::from(*whole) <= percent).last().unwrap_or(0))
    }
}

/// Returns the progress of the durable work, if nothing was reported: of the newest `each` until its items are done, else of the
/// steps.
fn of_steps(head: &Head, reported: &ProgressReport) -> Option<ProgressReport> {
    if *reported != ProgressReport::default() {
        return None;
    }
    let (items, steps) = (&head.items, &head.steps);
    let is_done = items.total.is_some_and(|total| items.done >= total);
    if items.newest.is_some() && (!is_done || steps.newest.is_none()) {
        return Some(ProgressReport {
            // Items of earlier inputs are recorded, too.
            completed_steps: Some(items.total.map_or(items.done, |total| items.done.min(total))),
            total_steps: items.total,
            step: items.newest.clone(),
            ..ProgressReport::default()
        });
    }
    steps.newest.is_some().then(|| ProgressReport {
        completed_steps: Some(steps.completed),
        step: steps.newest.clone(),
        ..ProgressReport::default()
    })
}

/// The share of the work that is done, as the larger of the two measures that the work reports.
#[derive(Debug, Clone, Copy)]
enum Share {
    /// Completed steps, and their total, which is not 0.
    Steps(u64, u64),
    /// A percentage.
    Percent(f64),
}

impl Share {
    fn of(reported: &ProgressReport) -> Option<Self> {
        let total = reported.total_steps.filter(|total| *total > 0);
        let steps = reported.completed_steps.zip(total).map(|(done, total)| Self::Steps(done, total));
        let percent = reported.percent.map(Self::Percent);
        match (steps, percent) {
            // Equal shares: steps are exact.
            (Some(steps), Some(percent)) => {
                Some(if percent.percent() > steps.percent() { percent } else { steps })
            }
            (steps, percent) => steps.or(percent),
        }
    }

    fn percent(self) -> f64 {
        match self {
            Self::Steps(done, total) => ratio(done, total, 100),
            Self::Percent(percent) => percent,
        }
    }

    /// Returns the remaining time at the rate so far, in whole seconds, rounded up.
    fn time_left(self, ran: Duration) -> Option<u64> {
        match self {
            Self::Steps(0, _) => None,
            Self::Steps(done, total) => {
                let left = u128::from(total.saturating_sub(done));
                let millis = ran.as_millis().saturating_mul(left) / u128::from(done);
                Some(u64::try_from(millis.div_ceil(1_000)).unwrap_or(u64::MAX))
            }
            Self::Percent(percent) if percent > 0.0 => {
                let left = ran.as_secs_f64() * (100.0 - percent) / percent;
                let left = Duration::try_from_secs_f64(left).ok()?;
                Some(left.as_secs() + u64::from(left.subsec_nanos() > 0))
            }
            Self::Percent(_) => None,
        }
    }
}

/// Returns `part / whole * scale`, truncated to a millionth. It is `scale` only if `part` is at least `whole`.
fn ratio(part: u64, whole: u64, scale: u32) -> f64 {
    const PARTS: u32 = 1_000_000;
    let parts = u128::from(part.min(whole)) * u128::from(PARTS * scale) / u128::from(whole.max(1));
    u32::try_from(parts).map_or(f64::from(scale), |parts| f64::from(parts) / f64::from(PARTS))
}
