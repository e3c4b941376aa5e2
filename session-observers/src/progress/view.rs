//! Texts that display a session's progress.

use std::time::Duration;

use indicatif::FormattedDuration;
use session_core::text::{cut_columns, visible};
use session_core::{SessionProgress, SessionState, format_progress};

/// Maximum columns of the operation.
const OPERATION: usize = 24;

/// A snapshot of a session's progress.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct View(SessionProgress);

/// Returns `true` if anything was reported. The 100 % of a completed session may be derived, not reported.
pub(super) fn is_reported(progress: &SessionProgress) -> bool {
    let percent = progress.percent.is_some() && !matches!(progress.state, SessionState::Completed { .. });
    percent
        || progress.step.is_some()
        || progress.phase.is_some()
        || progress.completed_steps.is_some()
        || progress.total_steps.is_some()
}

impl View {
    /// Creates a view that names this operation.
    pub(super) fn new(progress: &SessionProgress, operation: &str) -> Self {
        let mut progress = progress.clone();
        operation.clone_into(&mut progress.operation);
        Self(progress)
    }

    /// Returns whole percent, rounded down, so that 100 means complete.
    pub(super) fn percent(&self) -> Option<u64> {
        self.0.whole_percent().map(u64::from)
    }

    /// Returns the operation. Ends with a blank, unless it is empty.
    pub(super) fn operation(&self) -> String {
        match &*visible(self.0.operation.trim()) {
            "" => String::new(),
            operation => format!("{} ", cut_columns(operation, OPERATION)),
        }
    }

    /// Returns steps and the time left, or the state if it is not running. Ends with a blank, unless it is empty.
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

    /// Returns the current step and phase.
    pub(super) fn text(&self) -> String {
        let part = |text: &Option<String>| visible(text.as_deref().unwrap_or_default().trim()).into_owned();
        match (part(&self.0.step), part(&self.0.phase)) {
            (step, phase) if phase.is_empty() => step,
            (step, phase) if step.is_empty() => format!("({phase})"),
            (step, phase) => format!("{step} ({phase})"),
        }
    }

    /// Returns everything on one line.
    pub(super) fn line(&self, columns: usize) -> String {
        format_progress(&self.0, columns)
    }

    /// Returns `true` if a spinner is shown: the session runs without a known percentage.
    pub(super) fn spins(&self) -> bool {
        self.0.percent.is_none() && matches!(self.0.state, SessionState::Running { .. })
    }

    pub(super) fn is_final(&self) -> bool {
        self.0.state.is_final()
    }
}
