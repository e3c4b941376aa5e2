//! The table: what must be true after each way of ending or pausing.

use sessionkit::{ErrorCode, StateName};

use crate::work::Hold;
use crate::world::{By, Way};

/// The expected result of a case.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    /// The error of the call itself; `None` if it succeeds.
    pub(crate) call: Option<ErrorCode>,
    /// A part of the token's reason; `None` if the token is not cancelled.
    pub(crate) token: Option<&'static str>,
    /// `true` if the token is cancelled, and the state reached, before the call returns.
    pub(crate) immediate: bool,
    pub(crate) state: Option<StateName>,
    /// The error of the next call of the work.
    pub(crate) next: Option<ErrorCode>,
    pub(crate) fenced: Option<ErrorCode>,
    /// The outcome of `run`.
    pub(crate) result: Option<Result<StateName, ErrorCode>>,
}

/// Returns what must be true; `None` if there is no such case.
pub(crate) fn expected(way: Way, by: By, hold: Hold) -> Option<Expected> {
    use ErrorCode as E;
    let refused = |code| Some(Expected { call: Some(code), ..Expected::default() });
    match (way, by, hold) {
        // These have one caller each, and a closure that ends its session itself is tested with `run`.
        (Way::Deadline | Way::Remove | Way::Shutdown, By::OtherManager | By::OtherProcess, _)
        | (Way::Deadline | Way::Remove | Way::Takeover, By::Handle | By::OtherProcess, _)
        | (Way::Takeover, By::Id, _)
        | (Way::Shutdown | Way::Delete | Way::ForceCancel, By::Handle, _)
        | (_, By::Handle, Hold::Closure | Hold::Keyed | Hold::Dropped) => None,
        (_, By::Handle, _) if hold.is_program() => None,
        (_, _, Hold::Dropped) => dropped(way),
        // The owner is alive: the others can only request.
        (Way::Fail, By::OtherManager | By::OtherProcess, _) | (Way::Delete, ..) => refused(E::Conflict),
        (Way::Complete, By::OtherManager | By::OtherProcess, _) => refused(E::Fenced),
        (Way::Pause, ..) => Some(Expected::default()),
        (Way::Cancel, _, Hold::Closure | Hold::Keyed) => Some(Expected {
            token: Some("enough"),
            state: Some(StateName::Cancelled),
            result: Some(Ok(StateName::Cancelled)),
            ..Expected::default()
        }),
        _ => Some(ended(way, by, hold)),
    }
}

/// The session ended, or its ownership did.
fn ended(way: Way, by: By, hold: Hold) -> Expected {
    use ErrorCode as E;
    let (token, state, code) = match way {
        Way::Cancel | Way::ForceCancel => ("enough", Some(StateName::Cancelled), E::Cancelled),
        Way::Fail => ("broken", Some(StateName::Failed), E::WorkFailed),
        Way::Complete => ("completed", Some(StateName::Completed), E::IllegalTransition),
        Way::Deadline => ("still running", Some(StateName::Failed), E::Timeout),
        Way::Shutdown => ("shut down", Some(StateName::Paused), E::Closed),
        Way::Takeover => ("no longer owned", Some(StateName::Running), E::Fenced),
        Way::Remove => ("", None, E::NotFound),
        Way::Pause | Way::Delete => unreachable!("{way:?} ends nothing"),
    };
    let is_outcome = state.is_some_and(StateName::is_final);
    let outcome = if is_outcome { Ok(state.unwrap()) } else { Err(code) };
    let has_result = hold.has_result();
    Expected {
        call: None,
        token: Some(token),
        immediate: matches!(by, By::Handle | By::Id)
            && !matches!(way, Way::Deadline | Way::Remove)
            && !hold.is_program(),
        state,
        next: (!has_result).then_some(code),
        fenced: (!has_result && by != By::Handle).then_some(code),
        result: has_result.then_some(outcome),
    }
}

/// The dropped handle has interrupted the session before, which then is unowned.
fn dropped(way: Way) -> Option<Expected> {
    use ErrorCode as E;
    let (call, state) = match way {
        Way::Cancel | Way::ForceCancel => (None, Some(StateName::Cancelled)),
        Way::Fail => (None, Some(StateName::Failed)),
        Way::Delete => (None, None),
        Way::Shutdown => (None, Some(StateName::Paused)),
        Way::Complete => (Some(E::Fenced), Some(StateName::Paused)),
        Way::Pause => (Some(E::IllegalTransition), Some(StateName::Paused)),
        Way::Deadline | Way::Remove | Way::Takeover => return None,
    };
    Some(Expected { call, token: Some("its work was dropped"), state, ..Expected::default() })
}
