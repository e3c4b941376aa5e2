//! The verbs, one file each. A verb resolves its arguments, calls a manager, prints, and returns its exit code.

pub(crate) mod answer;
pub(crate) mod answers;
pub(crate) mod ask;
pub(crate) mod attach;
pub(crate) mod cancel;
pub(crate) mod client;
pub(crate) mod config;
pub(crate) mod each;
pub(crate) mod events;
pub(crate) mod export;
pub(crate) mod gc;
pub(crate) mod import;
pub(crate) mod input;
mod legacy;
pub(crate) mod logs;
pub(crate) mod ls;
pub(crate) mod manual;
pub(crate) mod migrate;
mod owner_response;
pub(crate) mod pause;
pub(crate) mod recover;
pub(crate) mod report;
pub(crate) mod resume;
pub(crate) mod retry;
pub(crate) mod rm;
pub(crate) mod run;
pub(crate) mod show;
pub(crate) mod signal;
pub(crate) mod sleep;
pub(crate) mod step;
pub(crate) mod steps;
pub(crate) mod verify;
pub(crate) mod wait;
pub(crate) mod why;
pub(crate) mod worktree;

use sessionkit::log::{FailureCause, PersistedSession, Timestamp, WorkHistory};
use sessionkit::manager::{Clock as _, Liveness, SystemClock};
use sessionkit::runner::RunError;
use sessionkit::{ErrorCode, Head, SessionError, SessionId, SessionManager, Store, StoreUrl};

use crate::advice::advise_loaded;
use crate::attachable_terminals::AttachableTerminals;
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::session_worktree::{self, Disk};
use crate::status::{Status, status};
use crate::store_trust::strangers;
use crate::unknown_owner::{DECLARE_DEAD, UNKNOWN_OWNER};
use crate::{json, render, waits};

fn now() -> Timestamp {
    SystemClock.now()
}

/// Returns the liveness of the process responsible for a session. If it cannot be determined, it is unknown.
async fn liveness(manager: &dyn SessionManager, id: SessionId) -> Option<Liveness> {
    manager.liveness(id).await.unwrap_or(Some(Liveness::Unknown { last_seen: None }))
}

/// Returns the status of a session, and the liveness that it depends on.
pub(crate) async fn status_of(manager: &dyn SessionManager, head: &Head) -> (Status, Option<Liveness>) {
    let liveness = if head.state().is_final() { None } else { liveness(manager, head.id).await };
    (status(head, liveness.as_ref()), liveness)
}

/// Ends the leftover processes of a session whose owner and supervisor were both killed.
async fn end_leftovers(context: &Context, store: &Store, id: SessionId) -> Result<(), SessionError> {
    let ended = store.runner()?.end_leftovers(id).await?;
    if ended > 0 {
        context.hint(
            &format!("ended {ended} leftover processes of a previous run"),
            &[id],
            &["why", &id.to_string()],
        );
    }
    Ok(())
}

/// Checks that the commands that are recorded in a store may be run. `is_trusted` is the person's word for it, `next` the
/// command line with that word.
///
/// # Errors
/// `STORE_NOT_YOURS` if others can have written them.
fn check_trust(url: &StoreUrl, is_trusted: bool, next: &[&str]) -> Result<()> {
    match strangers(url).filter(|_| !is_trusted) {
        None => Ok(()),
        Some(strangers) => {
            let text = format!("the store {url} {strangers}: a command recorded in it is not run");
            Err(Failure::new(ErrorCode::StoreNotYours, text).next(next))
        }
    }
}

/// Ends a session whose creator died before it had taken over all steps: it can never start. Returns `true` if it is one.
async fn end_if_incomplete(manager: &dyn SessionManager, head: &Head) -> Result<bool> {
    let is_dead = matches!(liveness(manager, head.id).await, Some(Liveness::Dead { .. }));
    if head.lifecycle.to_inherit == 0 || head.state().is_final() || !is_dead {
        return Ok(false);
    }
    let message = "its creator died before it had taken over all steps of the session that it retries";
    let error = sessionkit::Failure::new(FailureCause::Crash, message);
    manager.fail_session(head.id, error).await.map_err(|error| Failure::from(error).about(head.id))?;
    Ok(true)
}

/// Creates the failure of running a session that was not created for a program.
async fn no_program(manager: &dyn SessionManager, session: &PersistedSession) -> Failure {
    let id = session.head.id;
    let error = RunError::NoProgram { id };
    let advice = advise_loaded(manager, session).await;
    Failure::new(error.code(), advice.append_to(&error.to_string())).about(id).next(&advice.next())
}

/// Prints one session.
pub(crate) async fn print_session(
    context: &Context,
    manager: &dyn SessionManager,
    id: SessionId,
) -> Result<PersistedSession> {
    print_session_with(context, manager, id, None, &AttachableTerminals::default()).await
}

/// Prints one session, with the work that its log documents by name.
pub(crate) async fn print_session_with(
    context: &Context,
    manager: &dyn SessionManager,
    id: SessionId,
    history: Option<WorkHistory>,
    terminals: &AttachableTerminals,
) -> Result<PersistedSession> {
    let session = manager.restore_session(id).await.map_err(|error| Failure::from(error).about(id))?;
    let liveness = liveness(manager, id).await;
    let status = status(&session.head, liveness.as_ref());
    let waits = waits::describe(manager, &session.head, status).await;
    let worktree = session_worktree::state(&session, Disk::Measure).await;
    let term = &context.term;
    if term.json {
        let json = json::Session::new(session.clone(), liveness.as_ref(), terminals, now());
        let session = json.with_history(history).with_worktree_state(worktree);
        term.print(&format!("{}\n", json::line(&session)))?;
    } else {
        let mut page =
            render::session(&session, liveness.as_ref(), terminals.viewed(&session.head), now(), term);
        if let Some(worktree) = worktree {
            page.push_str(&render::worktree(&session_worktree::sentence(&worktree, &session), term));
        }
        if let Some(waits) = waits {
            page.push_str(&render::waits(&waits, term));
        }
        if let Some(history) = history {
            page.push_str(&render::history(&session.head, &history, term));
        }
        term.print(&page)?;
    }
    if let (false, Some(Liveness::Unknown { .. })) = (session.state.is_final(), &liveness) {
        context.hint(&format!("session {}: {UNKNOWN_OWNER}", render::short(id)), &[id], &DECLARE_DEAD);
    }
    Ok(session)
}

/// Returns the requester of a change, for the log: user and process.
fn requester() -> String {
    let user =
        ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok().filter(|user| !user.is_empty()));
    let user = user.unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()));
    match sessionkit::backend::this_process() {
        Ok(me) => format!("{user}, {me}"),
        Err(_) => user,
    }
}
