//! The status: how a session stands, in words for people. Unlike the state it knows whether the owner lives.

use sessionkit::{Head, Liveness, Owner, PauseReason, SessionState};

/// How a session stands, and the colour that belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Status {
    /// The words.
    pub(crate) words: &'static str,
    /// The colour as an SGR code; empty for none.
    pub(crate) sgr: &'static str,
}

const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const CYAN: &str = "36";

/// How a session stands. `liveness` is that of its owner, or of its creator before the first start.
pub(crate) fn status(head: &Head, liveness: Option<&Liveness>) -> Status {
    let requests = &head.lifecycle.requests;
    let cancelling = requests.cancel.is_some();
    let dead = matches!(liveness, Some(Liveness::Dead { .. }));
    let unknown = matches!(liveness, Some(Liveness::Unknown { .. }));
    let is = |words, sgr| Status { words, sgr };
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
        SessionState::Paused { reason } => is(
            match reason {
                PauseReason::AwaitingInput(_) => "paused: waiting for input",
                PauseReason::Interrupted(_) => "paused: interrupted",
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

/// Whether a process of this machine that lives was stopped by a signal: nobody answers until it is continued. The
/// owner's lock is held, so its process id is still its own.
fn is_stopped(owner: &Owner) -> bool {
    if sessionkit::this_process().map_or(true, |me| me.boot != owner.boot) {
        return false;
    }
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", owner.pid)).unwrap_or_default();
    // The program's name stands in parentheses and may hold anything; the state is the letter after it.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
}
