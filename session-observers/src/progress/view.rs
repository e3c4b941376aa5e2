//! What is said of a session's progress, as texts that can be shown.

use std::time::Duration;

use indicatif::FormattedDuration;
use session_core::text::visible;
use session_core::{SessionProgress, SessionState, format_progress};

/// One look at a session's progress.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct View(SessionProgress);

/// Whether anything was reported. That a session is completed says that it is at 100 %, and nobody reported it.
pub(super) fn is_reported(progress: &SessionProgress) -> bool {
    let percent = progress.percent.is_some() && !matches!(progress.state, SessionState::Completed { .. });
    percent
        || progress.step.is_some()
        || progress.phase.is_some()
        || progress.completed_steps.is_some()
        || progress.total_steps.is_some()
}

impl View {
    pub(super) fn new(progress: &SessionProgress) -> Self {
        Self(progress.clone())
    }

    /// Whole percent, cut and not rounded: 100 is only what is whole.
    pub(super) fn percent(&self) -> Option<u64> {
        let percent = self.0.percent?;
        Some(
            (1..=100_u32).take_while(|whole| f64::from(*whole) <= percent).map(u64::from).last().unwrap_or(0),
        )
    }

    /// Steps and the time left, or the state of what does not run. Ends with a blank, unless it is empty.
    pub(super) fn numbers(&self) -> String {
        let SessionProgress { state, completed_steps, total_steps, eta_seconds, .. } = &self.0;
        let steps = match (completed_steps, total_steps) {
            (None, None) => None,
            (done, None) => Some(format!("{}/? ", done.unwrap_or(0))),
            (done, Some(total)) => Some(format!("{}/{total} ", done.unwrap_or(0))),
        };
        let end = match (state, eta_seconds) {
            (SessionState::Running { .. }, Some(eta)) => {
                Some(format!("ETA {} ", FormattedDuration(Duration::from_secs(*eta))))
            }
            (SessionState::Running { .. }, None) => None,
            (state, _) => Some(format!("{} ", state.name())),
        };
        [steps, end].into_iter().flatten().collect()
    }

    /// What is being done.
    pub(super) fn text(&self) -> String {
        let part = |text: &Option<String>| visible(text.as_deref().unwrap_or_default().trim()).into_owned();
        match (part(&self.0.step), part(&self.0.phase)) {
            (step, phase) if phase.is_empty() => step,
            (step, phase) if step.is_empty() => format!("({phase})"),
            (step, phase) => format!("{step} ({phase})"),
        }
    }

    /// All of it on one line.
    pub(super) fn line(&self, columns: usize) -> String {
        format_progress(&self.0, columns)
    }

    /// Whether it is to be seen that something is done, though nobody says how much.
    pub(super) fn spins(&self) -> bool {
        self.0.percent.is_none() && matches!(self.0.state, SessionState::Running { .. })
    }

    pub(super) fn is_final(&self) -> bool {
        self.0.state.is_final()
    }
}
