//! Random legal next events of a session.

use session_core::{Head, SessionEvent, SessionState};
use session_storage_file::fault::Rng;

use super::logs;

/// Chooses the size of a note: mostly small.
pub(crate) fn note_size(rng: &mut Rng) -> usize {
    match rng.below(8) {
        0 => rng.below(6000),
        1 => rng.below(600),
        _ => rng.below(60),
    }
}

/// Chooses legal next events of this session for this owner; `None` once it has ended.
pub(crate) fn next_events(rng: &mut Rng, head: &Head, owner: u64) -> Option<Vec<SessionEvent>> {
    let lifecycle = &head.lifecycle;
    let unowned = lifecycle.owner.is_none();
    Some(match head.state() {
        SessionState::Created => match rng.below(6) {
            0 => vec![logs::note(note_size(rng))],
            1 => vec![logs::cancel_requested(), logs::cancelled()],
            2 => vec![logs::failed()],
            _ => vec![logs::started(owner)],
        },
        SessionState::Running { .. } => match rng.below(12) {
            0 => vec![logs::paused()],
            1 => vec![logs::completed(head)],
            2 => vec![logs::interrupted()],
            3 => vec![logs::interrupted(), logs::resumed(owner)],
            4 => vec![logs::interrupted(), logs::resumed(owner), logs::note(note_size(rng))],
            5 => vec![logs::checkpoint(lifecycle.iteration)],
            6 => vec![logs::cancel_requested()],
            7 | 8 => vec![logs::progress(head.samples + 1)],
            9 => (0..3).map(|_| logs::note(note_size(rng))).collect(),
            _ => vec![logs::note(note_size(rng))],
        },
        SessionState::Paused { .. } => match rng.below(4) {
            0 => vec![logs::cancel_requested(), logs::cancelled()],
            1 => vec![logs::note(note_size(rng))],
            _ if unowned => vec![logs::resumed(owner)],
            _ => vec![logs::interrupted(), logs::resumed(owner)],
        },
        SessionState::Completed { .. } | SessionState::Failed { .. } | SessionState::Cancelled { .. } => {
            return None;
        }
    })
}

/// Returns `true` if these events end the session.
pub(crate) fn ends(next_events: &[SessionEvent]) -> bool {
    next_events.iter().any(|event| {
        matches!(
            event,
            SessionEvent::Completed { .. } | SessionEvent::Failed { .. } | SessionEvent::Cancelled { .. }
        )
    })
}
