//! The decision about the use of a name by an `each`, and the texts about its items.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;

use session_core::limits::STEP_TEXT_BYTES;
use session_core::text::{escape_bytes, visible};
use session_core::{ErrorCode, ItemIdentity, Session, SessionEvent, StepIdentity};

use super::request::EachRequest;
use crate::attempt::{Attempt, cut};
use crate::decisions::OnChange;
use crate::error::StepError;
use crate::fingerprint::Fingerprint;
use crate::items::{EachStart, EachStatus};
use crate::start;

/// Vanished items that a report names.
const NAMED: usize = 10;

/// Returns an item as people read it.
pub(super) fn name_of(identity: &ItemIdentity) -> String {
    let text = visible(&escape_bytes(OsStr::from_bytes(&identity.arg))).into_owned();
    let text = cut(&text, 256);
    if identity.n == 1 { text } else { format!("{text} ({}. of that name)", identity.n) }
}

/// Returns the number of items that the input does not have, and the names of the first ones.
pub(super) fn vanished(status: &EachStatus, input: &[u64]) -> (usize, Vec<String>) {
    let input: HashSet<u64> = input.iter().copied().collect();
    let vanished = status.items().filter(|(number, _)| !input.contains(number));
    let mut names: Vec<_> = vanished.map(|(number, item)| (number, name_of(&item.identity))).collect();
    names.sort_unstable();
    (names.len(), names.into_iter().take(NAMED).map(|(_, name)| name).collect())
}

/// An `each` whose start is recorded.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) each: StepIdentity,
    /// The revision of its start.
    pub(super) start: u64,
    /// The number of times that its recorded ends were given up on purpose.
    pub(super) reruns: u64,
    /// `true` if they were given up now.
    pub(super) has_changed: bool,
}

/// The reservation of a name until its use is handed on.
struct Reserved {
    attempt: Arc<Attempt>,
    each: StepIdentity,
    fingerprint: Fingerprint,
    /// The revision of its start; 0 until it is recorded.
    start: u64,
    is_handed_on: bool,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if !self.is_handed_on {
            release(&self.attempt, &self.each, Some(self.fingerprint.clone()));
        }
    }
}

/// Frees the name of an `each`. `unkept` is the fingerprint of a use that the next one continues.
pub(super) fn release(attempt: &Attempt, each: &StepIdentity, unkept: Option<Fingerprint>) {
    let mut state = attempt.state();
    state.each_names.close(each);
    if state.workflow.eaches.get(each).is_none() {
        // Given up before it was recorded: it used no number.
        state.each_names.unused(each);
    } else {
        state.each_names.used(each, unkept);
    }
    drop(state);
    attempt.notify_names();
}

/// Decides what an `each` does, and records its start, which survives power loss on return.
pub(super) async fn start(
    attempt: &Arc<Attempt>,
    session: &Session,
    request: &EachRequest,
) -> Result<Started, StepError> {
    attempt.load(session).await?;
    let EachRequest { name, key, .. } = request;
    match key {
        Some(key) => StepIdentity::keyed(name, key).check()?,
        None => StepIdentity::nth(name, 1).check()?,
    }
    attempt.wait_for_name(|state| &state.each_names, name, key.as_deref()).await;
    let planned = plan(attempt, request);
    let (each, reruns, done) = match planned {
        Ok(planned) => planned,
        Err(error) => return Err(attempt.record_refusal(session, name, error).await),
    };
    // From here on, dropping this future frees the name.
    let reserved = Reserved {
        attempt: Arc::clone(attempt),
        each: each.clone(),
        fingerprint: request.fingerprint.clone(),
        start: 0,
        is_handed_on: false,
    };
    let before = attempt.state().workflow.eaches.get(&each).map_or(0, |known| known.reruns);
    let command = request.command.as_deref().map(|text| cut(text, STEP_TEXT_BYTES));
    let fingerprint = request.fingerprint.as_str().to_owned();
    let started = SessionEvent::EachStarted {
        step: each.clone(),
        fingerprint: fingerprint.clone(),
        reruns,
        done,
        command: command.clone(),
    };
    let (at, of) = (session.clock().now(), session.attempt());
    let mut reserved = start::start(session, reserved, started, move |reserved: &mut Reserved, revision| {
        let start = EachStart { revision, at, attempt: of, fingerprint: &fingerprint, reruns };
        let mut state = reserved.attempt.state();
        state.workflow.eaches.get_mut(&reserved.each).started(&start, command.as_deref());
        state.workflow.eaches.record_start(&reserved.each, revision);
        drop(state);
        reserved.start = revision;
    })
    .await?;
    reserved.is_handed_on = true;
    Ok(Started { each, start: reserved.start, reruns, has_changed: reruns > before })
}

/// Decides on the use of the name, and reserves it. Returns the identity, the number of times that recorded ends were given up,
/// and the number of recorded ends.
fn plan(attempt: &Attempt, request: &EachRequest) -> Result<(StepIdentity, u64, u64), StepError> {
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
