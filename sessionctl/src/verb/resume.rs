//! `resume`: resumes a session. A live owner is asked to; otherwise this process becomes the owner.

use sessionkit::manager::Liveness;
use sessionkit::runner::exit_code;
use sessionkit::workflow::Steps;
use sessionkit::{ErrorCode, SessionError, SessionId, SessionManager, SessionState, StateName};

use super::no_program;
use super::owner_response::wait_for_owner;
use crate::args::Resume;
use crate::config::Config;
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::foreground;
use crate::reproduction::Reproduction;
use crate::signals::Signals;
use crate::viewer::{self, Plan, Viewing};
use crate::{detach, hints, ids, session_worktree, signal_mask};

pub(crate) async fn run(args: &Resume, context: &Context) -> Result<u8> {
    if args.detach && context.caller.is_none() {
        return detach::start(context);
    }
    let _terminal = args.terminals.resolve(&Config::load()?);
    let store = context.open_with(args.places.options()).await?;
    let manager = store.manager();
    let id = ids::resolve(context, &**manager, &args.id, ids::Purpose::Resume).await?;
    let failed = |error| Failure::from(error).about(id);
    let head = manager.get_head(id).await.map_err(failed)?;
    let liveness = manager.liveness(id).await.map_err(failed)?;
    if let (SessionState::Running { .. }, Some(owner), Some(Liveness::Unknown { .. })) =
        (head.state(), &head.lifecycle.owner, &liveness)
    {
        return Err(failed(SessionError::Owned { id, owner: Box::new(owner.clone()), proven: false }));
    }
    let owner_may_live = head.lifecycle.owner.is_some()
        && matches!(liveness, Some(Liveness::Alive | Liveness::Unknown { .. }));
    // For an ended session, the request is refused before anything is written.
    if owner_may_live || head.state().is_final() {
        return ask(context, &**manager, id).await;
    }
    if super::end_if_incomplete(&**manager, &head).await? {
        let text = format!(
            "session {id} has not taken over all steps of the session that it retries: it is failed now"
        );
        return Err(Failure::new(ErrorCode::IllegalTransition, text)
            .about(id)
            .next(&["retry", &id.to_string()]));
    }
    super::check_trust(store.url(), args.trust_store, &["resume", "--trust-store", &id.to_string()])?;
    let stored = manager.restore_session(id).await.map_err(failed)?;
    let reproduction = stored.origin.as_ref().and_then(|origin| Reproduction::new(origin, context));
    let Some(reproduction) = reproduction else { return Err(no_program(&**manager, &stored).await) };
    if args.strict_env
        && let Some(difference) = reproduction.differences.first()
    {
        let text = format!("session {id} cannot run as the first time: {difference}");
        return Err(Failure::new(ErrorCode::InvalidArgument, text)
            .about(id)
            .next(&["resume", &id.to_string()]));
    }
    session_worktree::made_worktree(&stored).await?;
    let recorded = stored.origin.as_ref().and_then(|origin| origin.terminal.as_deref());
    let mut plan = Plan::again(recorded, &args.terminals, args.detach, context)?;
    plan.use_last_size(&**manager, &stored).await?;
    if plan.viewing == Viewing::OtherOwner && context.caller.is_none() {
        // The owner opens it, and some stores are open in one process only.
        store.manager().shutdown().await?;
        drop(store);
        return Box::pin(viewer::run(context, plan)).await;
    }
    let signals = Signals::catch()?;
    let command = plan.apply(reproduction.command).prepare();
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
            let ended = matches!(error, SessionError::AlreadyCompleted { .. } | SessionError::Failed { .. });
            let ended = if ended { exit_code(&manager.get_head(id).await.map_err(failed)?) } else { None };
            manager.shutdown().await?;
            let Some(code) = ended else { return Err(failed(error)) };
            // Its owner had died after the program had ended.
            let text = format!("session {id} had ended with {code}, and was not run again");
            context.hint(&text, &[id], &["show", &id.to_string()]);
            return Ok(u8::try_from(code).unwrap_or(125));
        }
    };
    Steps::of(&session).decide(args.steps.decisions());
    plan.hint_start(context, id, &format!("resumed, attempt {}", session.attempt()));
    for difference in &reproduction.differences {
        context.hint(difference, &[id], &["show", &id.to_string()]);
    }
    hints::report_crashed(context, &store, Some(id)).await?;
    Box::pin(foreground::run(context, &store, &store.runner()?, session, command, signals, plan)).await
}

/// Requests the resume from the owner, and waits until it has responded.
async fn ask(context: &Context, manager: &dyn SessionManager, id: SessionId) -> Result<u8> {
    // No program runs in this process, so it can be stopped like any other.
    signal_mask::unblock();
    let failed = |error| Failure::from(error).about(id);
    manager.request_resume(id).await.map_err(failed)?;
    wait_for_owner(context, manager, id, &[StateName::Running]).await?;
    match context.caller {
        Some(_) => foreground::announce(context, manager, id).await,
        None => super::print_session(context, manager, id).await.map(|_| 0),
    }
}
