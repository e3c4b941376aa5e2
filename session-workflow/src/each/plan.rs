//! The decision about the use of a name by an `each`, and the texts about its items.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use session_core::text::{escape_bytes, visible};
use session_core::{ErrorCode, ItemIdentity, StepIdentity};

use super::request::EachRequest;
use crate::attempt::{Attempt, cut};
use crate::decisions::OnChange;
use crate::error::StepError;

/// Returns an item as people read it.
pub(super) fn name_of(identity: &ItemIdentity) -> String {
    let text = visible(&escape_bytes(OsStr::from_bytes(&identity.arg))).into_owned();
    let text = cut(&text, 256);
    if identity.n == 1 { text } else { format!("{text} ({}. of that name)", identity.n) }
}

/// Decides on the use of the name, and reserves it. Returns the identity, the number of times that recorded ends were given up,
/// and the number of recorded ends.
pub(super) fn plan(attempt: &Attempt, request: &EachRequest) -> Result<(StepIdentity, u64, u64), StepError> {
    let EachRequest { name, key, fingerprint, .. } = request;
    let mut state = attempt.state();
    state.check_refusal()?;
    if state.each_names.taken(name, key.as_deref()).is_some() {
        return Err(state.refuse(ErrorCode::StepOpen, format!("`each {name}` is running already")));
    }
    let each = match key {
        Some(key) => StepIdentity::keyed(name, key),
        None => StepIdentity::nth(name, state.each_names.next_number(name, fingerprint)),
    };
    let (mut reruns, mut done) = (0, 0);
    if let Some(known) = state.workflow.eaches.get(&each) {
        (reruns, done) = (known.reruns, known.done());
        if done > 0 && known.fingerprint != fingerprint.as_str() {
            match state.decisions.for_changed(name).unwrap_or(request.on_change) {
                OnChange::Keep => {}
                OnChange::Rerun => (reruns, done) = (reruns + 1, 0),
                OnChange::Refuse => {
                    let [now, then] = [&request.command, &known.command]
                        .map(|command| command.as_deref().unwrap_or("other work").to_owned());
                    let message = format!(
                        "`each {each}` would run `{now}`, but its {done} recorded items are those of `{then}`"
                    );
                    return Err(state.refuse(ErrorCode::StepChanged, message));
                }
            }
        }
    }
    state.each_names.open(&each);
    Ok((each, reruns, done))
}
