//! `resume`: resumes a session. A live owner is asked to; otherwise this process becomes the owner.

use sessionkit::manager::Liveness;
use sessionkit::runner::Command;
use sessionkit::{SessionId, SessionManager, SessionState, StateName};

use super::no_program;
use super::owner_response::wait_for_owner;
use crate::args::Resume;
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::foreground::{self, Signals};
use crate::{detach, hints, ids, job_signals};

pub(crate) async fn run(args: &Resume, context: &Context) -> Result<u8> {
    if args.detach && context.caller.is_none() {
        return detach::start(context);
    }
    let store = context.open().await?;
    let manager = store.manager();
    let id = ids::resolve(context, &**manager, &args.id, ids::Purpose::Resume).await?;
    let failed = |error| Failure::from(error).about(id);
    let head = manager.get_head(id).await.map_err(failed)?;
    let owner_may_live = head.lifecycle.owner.is_some()
        && matches!(
            manager.liveness(id).await.map_err(failed)?,
            Some(Liveness::Alive | Liveness::Unknown { .. })
        );
    // For an ended session, the request is refused before anything is written.
    if owner_may_live || head.state().is_final() {
        return ask(context, &**manager, id).await;
    }
    let stored = manager.restore_session(id).await.map_err(failed)?;
    let command = stored.origin.as_ref().and_then(Command::from_origin);
    let Some(command) = command else { return Err(no_program(&**manager, &stored).await) };
    let signals = Signals::catch()?;
    let resumed = match stored.state {
        SessionState::Created => manager.start_session(id).await,
        SessionState::Running { .. }
        | SessionState::Paused { .. }
        | SessionState::Completed { .. }
        | SessionState::Failed { .. }
        | SessionState::Cancelled { .. } => manager.resume_session(id).await,
    };
    let session = match resumed {
        Ok(session) => session,
        Err(error) => {
            // Retires the owner lock: another process was faster.
            manager.shutdown().await?;
            return Err(failed(error));
        }
    };
    let command = foreground::command(command, context);
    let place = if args.detach { " in the background" } else { "" };
    let text = format!("session {id} resumed{place}, attempt {}", session.attempt());
    context.hint(&text, &[id], &["logs", &id.to_string()]);
    hints::report_crashed(context, &store, Some(id)).await?;
    Box::pin(foreground::run(context, &store, &store.runner()?, session, command, signals)).await
}

/// Requests the resume from the owner, and waits until it has responded.
async fn ask(context: &Context, manager: &dyn SessionManager, id: SessionId) -> Result<u8> {
    // No program runs in this process, so it can be stopped like any other.
    job_signals::unblock();
    let failed = |error| Failure::from(error).about(id);
    manager.request_resume(id).await.map_err(failed)?;
    wait_for_owner(context, manager, id, &[StateName::Running]).await?;
    match context.caller {
        Some(_) => foreground::announce(context, manager, id).await,
        None => super::print_session(context, manager, id).await.map(|_| 0),
    }
}
