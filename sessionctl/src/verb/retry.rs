//! `retry`: runs the command of an ended session as a new session.

use sessionkit::ErrorCode;

use super::no_program;
use sessionkit::workflow::{Inheritance, TakeOver};

use super::run::{StepPlan, create_and_run, parent};
use crate::args::Retry;
use crate::config::Config;
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::reproduction::Reproduction;
use crate::signals::Signals;
use crate::viewer::{self, Plan, Viewing};
use crate::{ids, session_worktree};

pub(crate) async fn run(args: &Retry, context: &Context) -> Result<u8> {
    let _terminal = args.terminals.resolve(&Config::load()?);
    let store = context.open_with(args.places.options()).await?;
    let manager = &**store.manager();
    let id = ids::resolve(context, manager, &args.id, ids::Purpose::Use).await?;
    let failed = |error| Failure::from(error).about(id);
    let mut ended = manager.restore_session(id).await.map_err(failed)?;
    if super::end_if_incomplete(manager, &ended.head).await? {
        ended = manager.restore_session(id).await.map_err(failed)?;
    }
    if !ended.state.is_final() {
        let (status, _) = super::status_of(manager, &ended.head).await;
        let text = format!("session {id} is {}: only an ended session can be retried", status.name());
        return Err(Failure::new(ErrorCode::IllegalTransition, text)
            .about(id)
            .next(&["why", &id.to_string()]));
    }
    super::check_trust(store.url(), args.trust_store, &["retry", "--trust-store", &id.to_string()])?;
    let reproduction = ended.origin.as_ref().and_then(|origin| Reproduction::new(origin, context));
    let Some(Reproduction { command, differences }) = reproduction else {
        return Err(no_program(manager, &ended).await);
    };
    let recorded = ended.origin.as_ref().and_then(|origin| origin.terminal.as_deref());
    let mut plan = Plan::again(recorded, &args.terminals, false, context)?;
    plan.use_last_size(manager, &ended).await?;
    if plan.viewing == Viewing::OtherOwner && context.caller.is_none() {
        // The owner opens it, and some stores are open in one process only.
        store.manager().shutdown().await?;
        drop(store);
        return Box::pin(viewer::run(context, plan)).await;
    }
    let command = plan.apply(command);
    for difference in &differences {
        context.hint(difference, &[id], &["show", &id.to_string()]);
    }
    if !args.new_worktree {
        session_worktree::made_worktree(&ended).await?;
    }
    let mut config = ended.config.retry_of(id);
    if let Some(worktree) = &mut config.worktree {
        worktree.mark = ended.worktree.map(|made| made.mark).filter(|_| !args.new_worktree);
    }
    config.parent = parent();
    // The idempotency key belongs to the ended session.
    (config.idempotency_key, config.retries, config.queued, config.line) = (None, 0, false, None);
    let mut steps = StepPlan { decisions: args.steps.decisions(), inheritance: None };
    if !args.fresh {
        let take_over = args.from.clone().map_or(TakeOver::All, TakeOver::Before);
        let inheritance =
            Inheritance::of(manager, id, &take_over).await.map_err(|error| Failure::from(error).about(id))?;
        config = inheritance.config(config);
        steps.inheritance = Some(inheritance);
    }
    create_and_run(context, &store, config, command, steps, Signals::catch()?, plan).await
}
