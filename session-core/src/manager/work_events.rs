//! The events that work appends directly.

use crate::error::{Result, SessionError};
use crate::event::{EventKind, ItemMoves, SessionEvent};
use crate::head::Head;
use crate::machine::{Lifecycle, SessionState};
use crate::reason::PauseReason;
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
        | EventKind::WorktreeIntended
        | EventKind::WorktreeMade
        | EventKind::Noted => Ok(()),
        EventKind::Created
        | EventKind::Inherited
        | EventKind::StepStarted
        | EventKind::StepValue
        | EventKind::StepCompleted
        | EventKind::StepFailed
        | EventKind::StepRefused
        | EventKind::EachStarted
        | EventKind::ItemsMoved
        | EventKind::ItemValue
        | EventKind::Asked
        | EventKind::Answered
        | EventKind::QuestionWithdrawn
        | EventKind::SleepStarted
        | EventKind::SleepEnded
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

/// Checks the kind of an event of a step.
pub(super) fn check_step_event(
    event: &SessionEvent,
    is_allowed: impl Fn(&SessionEvent) -> bool,
    problem: &str,
) -> Result<()> {
    if is_allowed(event) {
        return Ok(());
    }
    Err(SessionError::InvalidArgument { what: format!("`{}` {problem}", event.kind()) })
}

/// Returns `true` for the starts of steps, of an `each` and of sleeps.
pub(super) const fn starts_step(event: &SessionEvent) -> bool {
    matches!(event.kind(), EventKind::StepStarted | EventKind::EachStarted | EventKind::SleepStarted)
}

/// Returns `true` for the records at the end of a step, an item or a sleep: its value, its end, and a refusal.
pub(super) fn ends_step(event: &SessionEvent) -> bool {
    if let SessionEvent::ItemsMoved { moves } = event {
        return moves.begun.is_empty();
    }
    matches!(
        event.kind(),
        EventKind::StepValue
            | EventKind::StepCompleted
            | EventKind::StepFailed
            | EventKind::StepRefused
            | EventKind::ItemValue
            | EventKind::SleepEnded
    )
}

/// Returns `true` for questions, answers and withdrawals.
pub(super) const fn changes_questions(event: &SessionEvent) -> bool {
    matches!(event.kind(), EventKind::Asked | EventKind::Answered | EventKind::QuestionWithdrawn)
}

/// Checks items that begin: where they cannot, ends among them would be lost with them.
pub(super) fn check_begun(begun: &ItemMoves) -> Result<()> {
    let ItemMoves { each: _, total: _, done, failed, skipped, begun: _, too_long: _ } = begun;
    if done.is_empty() && failed.is_empty() && skipped.is_empty() {
        return Ok(());
    }
    Err(SessionError::InvalidArgument { what: "the items that begin end others".to_owned() })
}

/// Returns the events, with items that begin in the last one of the same `each`.
pub(super) fn merged(ended: &[SessionEvent], begun: Option<&ItemMoves>) -> Vec<SessionEvent> {
    let mut events = ended.to_vec();
    let says_something = |begun: &&ItemMoves| !begun.begun.is_empty() || begun.total.is_some();
    let Some(begun) = begun.filter(says_something) else { return events };
    match events.last_mut() {
        Some(SessionEvent::ItemsMoved { moves }) if moves.each == begun.each => {
            moves.total = begun.total.or(moves.total);
            moves.begun.clone_from(&begun.begun);
        }
        _ => events.push(SessionEvent::ItemsMoved { moves: begun.clone() }),
    }
    events
}

/// Returns `true` if items may begin: not while the session is paused, or about to be by its work, nor after a refusal. A
/// pending cancel comes before a pause, as where a step starts.
pub(super) fn items_may_begin(head: &Head, work_pauses: bool) -> bool {
    let Lifecycle { state, requests, step_refused, .. } = &head.lifecycle;
    let is_pausing = work_pauses && requests.pause.is_some() && requests.cancel.is_none();
    matches!(state, SessionState::Running { .. }) && !is_pausing && !step_refused
}

/// Returns the events to append for one that needs a running session, and `true` if it waits until the session is resumed.
pub(super) fn when_running(
    head: &Head,
    event: &SessionEvent,
    work_pauses: bool,
) -> (Vec<SessionEvent>, bool) {
    let requests = &head.lifecycle.requests;
    match (head.state(), &requests.pause, &requests.cancel) {
        (SessionState::Running { .. }, Some(pause), None) if work_pauses => {
            let reason = PauseReason::Requested(pause.reason.clone());
            (vec![SessionEvent::Paused { reason }], true)
        }
        (SessionState::Paused { .. }, ..) => (Vec::new(), true),
        _ => (vec![event.clone()], false),
    }
}
