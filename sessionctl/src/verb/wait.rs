//! `wait`: waits until sessions end or reach another status.

use std::time::Duration;

use sessionkit::log::{OwnerLoss, PauseReason};
use sessionkit::manager::Liveness;
use sessionkit::runner::{TIMED_OUT, exit_code};
use sessionkit::{ErrorCode, Head, SessionId, SessionManager, SessionState};
use tokio::time::Instant;

use crate::advice::advise;
use crate::args::Wait;
use crate::attachable_terminals::AttachableTerminals;
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::render::short;
use crate::status::{Status, status};
use crate::unknown_owner::{DECLARE_DEAD, UNKNOWN_OWNER};
use crate::waits::open_questions;
use crate::{hints, ids, json};

/// Interval of checks that the owner is alive, and of the status that depends on it.
const LIVENESS_CHECK: Duration = Duration::from_millis(500);

pub(crate) async fn run(args: &Wait, context: &Context) -> Result<u8> {
    let store = context.open().await?;
    let manager = &**store.manager();
    let mut ids = Vec::new();
    for id in &args.ids {
        ids.push(ids::resolve(context, manager, id, ids::Purpose::Use).await?);
    }
    let deadline = args.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let (mut code, mut sessions) = (0, Vec::new());
    // One after the other, since all have to be awaited.
    for id in ids {
        let (head, status) = wait_for_one(context, manager, id, args.status, deadline).await?;
        code = if code == 0 { exit_code_for(&head, status, args.status)? } else { code };
        if context.term.json {
            let session =
                manager.restore_session(id).await.map_err(|error| Failure::from(error).about(id))?;
            let liveness = super::liveness(manager, id).await;
            // Looked for again: the wait may have been long.
            let terminals = AttachableTerminals::default();
            sessions.push(json::Session::new(session, liveness.as_ref(), &terminals, super::now()));
        } else {
            context.term.print(&format!("{id}  {}\n", status.name()))?;
        }
    }
    if context.term.json {
        context.term.print(&json::array(&sessions))?;
    }
    hints::report_crashed(context, &store, None).await?;
    Ok(code)
}

async fn wait_for_one(
    context: &Context,
    manager: &dyn SessionManager,
    id: SessionId,
    wanted: Option<Status>,
    deadline: Option<Instant>,
) -> Result<(Head, Status)> {
    let typed = id.to_string();
    let failed = |error| Failure::from(error).about(id);
    let mut reached = manager.wait_for(id, wanted.map_or(&[][..], Status::states));
    let mut liveness_check = tokio::time::interval(LIVENESS_CHECK);
    let (mut hinted, mut last_question) = (false, 0);
    loop {
        tokio::select! {
            biased;
            head = &mut reached => {
                let head = head.map_err(failed)?;
                let (status, _) = super::status_of(manager, &head).await;
                if head.state().is_final() || wanted == Some(status) {
                    return Ok((head, status));
                }
                // The rest of the status depends on processes, or on a reason, and is checked at intervals.
                reached = manager.wait_for(id, &[]);
            }
            () = sleep_until(deadline) => {
                let head = manager.get_head(id).await.map_err(failed)?;
                let text = format!("timed out: session {id} is {}", super::status_of(manager, &head).await.0.name());
                let exit = u8::try_from(TIMED_OUT).unwrap_or(u8::MAX);
                return Err(Failure::new(ErrorCode::Timeout, text).about(id).with_exit_code(exit).next(&["why", &typed]));
            }
            _ = liveness_check.tick() => {
                if let Some(wanted) = wanted
                    && let Ok(head) = manager.get_head(id).await
                    && !head.state().is_final()
                    && super::status_of(manager, &head).await.0 == wanted
                {
                    return Ok((head, wanted));
                }
                hint_question(context, manager, id, &mut last_question).await;
                let Some(lost) = loss_of_owner(manager, id, wanted).await else { continue };
                if lost.unknown {
                    if !hinted {
                        hinted = true;
                        context.hint(&lost.text, &[id], &DECLARE_DEAD);
                    }
                    continue;
                }
                let advice = advise(manager, id).await;
                let text = advice.append_to(&lost.text);
                match lost.code {
                    Some(code) => return Err(Failure::new(code, text).about(id).next(&advice.next())),
                    None if !hinted => {
                        hinted = true;
                        context.hint(&text, &[id], &advice.next());
                    }
                    None => {}
                }
            }
        }
    }
}

/// Names the oldest open question of a session with a live owner, once, and the command that answers it.
async fn hint_question(context: &Context, manager: &dyn SessionManager, id: SessionId, last: &mut u64) {
    let Ok(head) = manager.get_head(id).await else { return };
    let newest = head.waits.oldest.first().map_or(0, |question| question.revision);
    if newest == *last || !matches!(head.state(), SessionState::Running { .. }) {
        return;
    }
    *last = newest;
    if let Ok(questions) = open_questions(manager, &head).await
        && let Some(question) = questions.first()
    {
        let text = format!("session {} {}", short(id), question.sentence());
        let words = question.answer(id);
        context.hint(&text, &[id], &words.iter().map(String::as_str).collect::<Vec<_>>());
    }
}

/// The reason why a session that has not ended does not continue by itself.
struct Lost {
    text: String,
    /// The code to fail with; `None` if the session has not started and is waited for.
    code: Option<ErrorCode>,
    /// `true` if its owner may also be alive.
    unknown: bool,
}

/// Returns the reason why a session does not or may not continue by itself, unless its owner is alive or it has the
/// wanted status.
async fn loss_of_owner(manager: &dyn SessionManager, id: SessionId, wanted: Option<Status>) -> Option<Lost> {
    let liveness = super::liveness(manager, id).await;
    // Read after the liveness: an owner that has died appends nothing more.
    let head = manager.get_head(id).await.ok()?;
    if head.state().is_final() || wanted == Some(status(&head, liveness.as_ref())) {
        // Reported next.
        return None;
    }
    let (loss, evidence) = match (liveness, head.responsible_process()) {
        (Some(Liveness::Dead { evidence }), Some(_)) => {
            (Some(head.lifecycle.loss_by(&evidence)), Some(evidence.to_string()))
        }
        (_, None) => (head.lifecycle.loss, interruption(&head)),
        (Some(Liveness::Unknown { .. }), Some(_)) => {
            let text = format!("waiting for session {id}, but {UNKNOWN_OWNER}");
            return Some(Lost { text, code: None, unknown: true });
        }
        _ => return None,
    };
    if matches!(head.state(), SessionState::Created) {
        let text = "it has no owner: nothing happens until it is started".to_owned();
        return Some(Lost { text, code: None, unknown: false });
    }
    let (code, how) = match loss? {
        OwnerLoss::Crashed => (ErrorCode::Crashed, "has crashed"),
        OwnerLoss::Stopped => (ErrorCode::Stopped, "was stopped by a person"),
        OwnerLoss::Interrupted | OwnerLoss::Dropped | _ => (ErrorCode::Interrupted, "was interrupted"),
    };
    let mut text = format!("session {id} {how} and will not continue by itself");
    if let Some(evidence) = evidence {
        text = format!("{text}: {evidence}");
    }
    Some(Lost { text, code: Some(code), unknown: false })
}

/// Returns the evidence of the loss of an owner, if the session paused for no other reason.
fn interruption(head: &Head) -> Option<String> {
    let SessionState::Paused { reason: PauseReason::Interrupted(interruption) } = head.state() else {
        return None;
    };
    Some(interruption.text.clone())
}

/// Returns the exit code for a session that has ended or reached the wanted status.
fn exit_code_for(head: &Head, status: Status, wanted: Option<Status>) -> Result<u8> {
    if wanted == Some(status) {
        return Ok(0);
    }
    let code = exit_code(head).and_then(|code| u8::try_from(code).ok()).unwrap_or(125);
    match wanted {
        // Success, but not the wanted status.
        Some(wanted) if code == 0 => {
            let (is, wanted) = (status.name(), wanted.name());
            let text = format!("session {} is {is} and can no longer become {wanted}", head.id);
            Err(Failure::new(ErrorCode::Conflict, text).about(head.id))
        }
        Some(_) | None => Ok(code),
    }
}

async fn sleep_until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
