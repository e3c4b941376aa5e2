//! The events that work appends directly.

use crate::error::{Result, SessionError};
use crate::event::{EventKind, SessionEvent};
use crate::storage::Durability;

/// Returns the durability with which an event of the work is acknowledged.
pub(super) const fn durability_of(event: &SessionEvent) -> Durability {
    if matches!(event, SessionEvent::ProgressReported { .. }) {
        Durability::Buffered
    } else {
        Durability::Flushed
    }
}

/// Checks that an event may be appended directly by the work. All others have methods of their own.
pub(super) fn check_work_event(kind: EventKind) -> Result<()> {
    match kind {
        EventKind::IterationStarted
        | EventKind::IterationCompleted
        | EventKind::CommandExecuted
        | EventKind::AnalysisCompleted
        | EventKind::CheckpointSaved
        | EventKind::ProgressReported
        | EventKind::Noted => Ok(()),
        EventKind::Created
        | EventKind::Inherited
        | EventKind::StepStarted
        | EventKind::StepValue
        | EventKind::StepCompleted
        | EventKind::StepFailed
        | EventKind::StepRefused
        | EventKind::Started
        | EventKind::PauseRequested
        | EventKind::ResumeRequested
        | EventKind::CancelRequested
        | EventKind::StopRequested
        | EventKind::InputProvided
        | EventKind::Paused
        | EventKind::Interrupted
        | EventKind::Resumed
        | EventKind::Completed
        | EventKind::Failed
        | EventKind::Cancelled => Err(SessionError::InvalidArgument {
            what: format!("`{kind}` cannot be recorded directly: use the method for it"),
        }),
    }
}

/// Returns `true` for the records of the end of a step: its value, its end, and a refusal.
pub(super) const fn ends_step(kind: EventKind) -> bool {
    matches!(
        kind,
        EventKind::StepValue | EventKind::StepCompleted | EventKind::StepFailed | EventKind::StepRefused
    )
}
