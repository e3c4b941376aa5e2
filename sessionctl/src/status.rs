//! The status of a session: its state for people, combined with the liveness of the owner.

use sessionkit::log::{Owner, OwnerLoss, PauseReason};
use sessionkit::manager::Liveness;
use sessionkit::{Head, SessionState};

/// The status of a session, and its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Status {
    /// The text.
    pub(crate) text: &'static str,
    /// The colour as an SGR code; empty for none.
    pub(crate) sgr: &'static str,
}

const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const CYAN: &str = "36";

/// Returns the status of a session. `liveness` is that of its owner, or of its creator before the first start.
pub(crate) fn status(head: &Head, liveness: Option<&Liveness>) -> Status {
    let requests = &head.lifecycle.requests;
    let cancelling = requests.cancel.is_some();
    let dead = matches!(liveness, Some(Liveness::Dead { .. }));
    let unknown = matches!(liveness, Some(Liveness::Unknown { .. }));
    let is = |text, sgr| Status { text, sgr };
    match head.state() {
        SessionState::Created | SessionState::Running { .. } | SessionState::Paused { .. } if dead => {
            is("crashed", RED)
        }
        SessionState::Created if head.creator.is_none() => is("queued", CYAN),
        SessionState::Created => is("created", CYAN),
        SessionState::Running { .. } if unknown => is("running: owner unknown", YELLOW),
        SessionState::Running { .. } if head.lifecycle.owner.as_ref().is_some_and(is_stopped) => {
            is("running: stalled", YELLOW)
        }
        SessionState::Running { .. } if cancelling => is("running: cancelling", CYAN),
        SessionState::Running { .. } if requests.pause.is_some() => is("running: pausing", CYAN),
        SessionState::Running { .. } => is("running", CYAN),
        SessionState::Paused { .. } if cancelling => is("paused: cancelling", YELLOW),
        SessionState::Paused { .. } if requests.resume.is_some() => is("paused: resuming", YELLOW),
        SessionState::Paused { reason: PauseReason::Interrupted(interruption) } => match interruption.kind {
            Some(OwnerLoss::Crashed) => is("crashed", RED),
            Some(OwnerLoss::Stopped) => is("stopped", YELLOW),
            _ => is("interrupted", YELLOW),
        },
        SessionState::Paused { reason } => is(
            match reason {
                PauseReason::AwaitingInput(_) => "paused: waiting for input",
                PauseReason::Limit(_) => "paused: limit reached",
                PauseReason::Requested(_) | _ => "paused",
            },
            YELLOW,
        ),
        SessionState::Completed { .. } => is("completed", GREEN),
        SessionState::Failed { .. } => is("failed", RED),
        SessionState::Cancelled { .. } => is("cancelled", YELLOW),
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
