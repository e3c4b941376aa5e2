//! Texts that display the progress of sessions.

use std::time::Duration;

use indicatif::FormattedDuration;
use session_core::text::{cut_columns, visible};
use session_core::{SessionProgress, SessionState, format_progress, format_sessions};

/// Maximum columns of the operation.
const OPERATION: usize = 24;
/// Maximum lines for several sessions.
const LINES: usize = 10;

/// A snapshot of the progress of one session, or of several.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum View {
    One(Box<SessionProgress>),
    Several(Vec<SessionProgress>),
}

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
    /// Creates a view of one session that names this operation.
    pub(super) fn one(progress: &SessionProgress, operation: &str) -> Self {
        let mut progress = Box::new(progress.clone());
        operation.clone_into(&mut progress.operation);
        Self::One(progress)
    }

    /// Returns the session, if it is only one.
    pub(super) fn session(&self) -> Option<&SessionProgress> {
        match self {
            Self::One(progress) => Some(progress),
            Self::Several(_) => None,
        }
    }

    /// Returns whole percent, rounded down, so that 100 means complete.
    pub(super) fn percent(&self) -> Option<u64> {
        self.session()?.whole_percent().map(u64::from)
    }

    /// Returns everything on one line, or on a line for each session.
    pub(super) fn text(&self, columns: usize) -> String {
        match self {
            Self::One(progress) => format_progress(progress, columns),
            Self::Several(sessions) => format_sessions(sessions, columns, LINES).join("\n"),
        }
    }

    /// Returns `true` if a spinner is shown: the session runs without a known percentage.
    pub(super) fn spins(&self) -> bool {
        self.session().is_some_and(|progress| {
            progress.percent.is_none() && matches!(progress.state, SessionState::Running { .. })
        })
    }

    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::One(progress) => progress.state.is_final(),
            Self::Several(sessions) => sessions.iter().all(|progress| progress.state.is_final()),
        }
    }
}

/// Returns the operation. Ends with a blank, unless it is empty.
pub(super) fn operation(progress: &SessionProgress) -> String {
    match &*visible(progress.operation.trim()) {
        "" => String::new(),
        operation => format!("{} ", cut_columns(operation, OPERATION)),
    }
}

/// Returns steps and the time left, or the state if it is not running. Ends with a blank, unless it is empty.
pub(super) fn numbers(progress: &SessionProgress) -> String {
    let SessionProgress { state, completed_steps, total_steps, eta_seconds, .. } = progress;
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
pub(super) fn step(progress: &SessionProgress) -> String {
    let part = |text: &Option<String>| visible(text.as_deref().unwrap_or_default().trim()).into_owned();
    match (part(&progress.step), part(&progress.phase)) {
        (step, phase) if phase.is_empty() => step,
        (step, phase) if step.is_empty() => format!("({phase})"),
        (step, phase) => format!("{step} ({phase})"),
    }
}
