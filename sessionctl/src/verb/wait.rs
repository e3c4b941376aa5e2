//! `wait`: waits until sessions end or reach another state.

use std::time::Duration;

use sessionkit::log::{OwnerLoss, PauseReason};
use sessionkit::manager::Liveness;
use sessionkit::runner::{TIMED_OUT, exit_code};
use sessionkit::{ErrorCode, Head, SessionId, SessionManager, SessionState, StateName};
use tokio::time::Instant;

use crate::advice::advise;
use crate::args::Wait;
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::unknown_owner::{DECLARE_DEAD, UNKNOWN_OWNER};
use crate::{hints, ids, json};

/// Interval of checks that the owner is alive.
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
        let head = wait_for_one(context, manager, id, args.state, deadline).await?;
        code = if code == 0 { exit_code_for(&head, args.state)? } else { code };
        if context.term.json {
            let session =
                manager.restore_session(id).await.map_err(|error| Failure::from(error).about(id))?;
            let liveness = super::liveness(manager, id).await;
            sessions.push(json::Session::new(session, liveness.as_ref(), super::now()));
        } else {
            context.term.print(&format!("{id}  {}\n", head.state().name()))?;
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
    state: Option<StateName>,
    deadline: Option<Instant>,
) -> Result<Head> {
    let typed = id.to_string();
    let mut reached = manager.wait_for(id, state.as_slice());
    let mut liveness_check = tokio::time::interval(LIVENESS_CHECK);
    let mut hinted = false;
    loop {
        tokio::select! {
            biased;
            head = &mut reached => return head.map_err(|error| Failure::from(error).about(id)),
            () = sleep_until(deadline) => {
                let state = manager.get_state(id).await.map_err(|error| Failure::from(error).about(id))?;
                let text = format!("timed out: session {id} is {}", state.name());
                let exit = u8::try_from(TIMED_OUT).unwrap_or(u8::MAX);
                return Err(Failure::new(ErrorCode::Timeout, text).about(id).with_exit_code(exit).next(&["why", &typed]));
            }
            _ = liveness_check.tick() => {
                let Some(lost) = loss_of_owner(manager, id, state).await else { continue };
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

/// The reason why a session that has not ended does not continue by itself.
struct Lost {
    text: String,
    /// The code to fail with; `None` if the session has not started and is waited for.
    code: Option<ErrorCode>,
    /// `true` if its owner may also be alive.
    unknown: bool,
}

/// Returns the reason why a session does not or may not continue by itself, unless its owner is alive or it is in the
/// wanted state.
async fn loss_of_owner(
    manager: &dyn SessionManager,
    id: SessionId,
    wanted: Option<StateName>,
) -> Option<Lost> {
    let liveness = super::liveness(manager, id).await;
    // Read after the liveness: an owner that has died appends nothing more.
    let head = manager.get_head(id).await.ok()?;
    if head.state().is_final() || wanted == Some(head.state().name()) {
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

/// Returns the exit code for a session that has ended or reached the wanted state.
fn exit_code_for(head: &Head, wanted: Option<StateName>) -> Result<u8> {
    let state = head.state().name();
    if wanted == Some(state) {
        return Ok(0);
    }
    let code = exit_code(head).and_then(|code| u8::try_from(code).ok()).unwrap_or(125);
    match wanted {
        // Success, but not the wanted state.
        Some(wanted) if code == 0 => {
            let text = format!("session {} is {state} and can no longer become {wanted}", head.id);
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
