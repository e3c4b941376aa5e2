//! `run`: runs a program as a session, in the foreground or with a detached owner.

use sessionkit::runner::{Command, SESSION_VARIABLE};
use sessionkit::{SessionConfig, SessionId, Store};

use crate::args::Run;
use crate::config::Config;
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::foreground;
use crate::signals::Signals;
use crate::viewer::{self, Plan, Viewing};
use crate::worktree::{self, Worktree};
use crate::{detach, hints, python};

pub(crate) async fn run(args: &Run, context: &Context) -> Result<u8> {
    if args.detach && context.caller.is_none() {
        return detach::start(context);
    }
    let (program, arguments) =
        args.command.split_first().ok_or_else(|| Failure::invalid("no program given"))?;
    let config = Config::load()?;
    let plan = Plan::new(&args.terminals, args.detach, context)?;
    if plan.viewing == Viewing::OtherOwner && context.caller.is_none() {
        return Box::pin(viewer::run(context, plan)).await;
    }
    let store = context.open_with(args.places.options().name_after(program)).await?;
    let command = args
        .env
        .iter()
        .fold(Command::new(program).args(arguments), |command, (name, value)| command.env(name, value));
    let is_unbuffered = args.unbuffered || config.unbuffered.value;
    let command = if is_unbuffered { python::unbuffered(command, &args.env) } else { command };
    let command = args.grace.into_iter().fold(command, Command::grace);
    let command = args.ends.apply(command);
    let command = plan.apply(foreground::command(command, context));
    create_and_run(context, &store, session_config(args), command, Signals::catch()?, plan).await
}

/// Creates a session for a command, and runs it to its end.
pub(crate) async fn create_and_run(
    context: &Context,
    store: &Store,
    config: SessionConfig,
    command: Command,
    signals: Signals,
    plan: Plan,
) -> Result<u8> {
    let (manager, runner) = (store.manager(), store.runner()?);
    let command = command.prepare();
    let id = match runner.create(config, command.command()).await {
        Ok(id) => id,
        Err(error) => {
            // Retires the owner, so that no files of it are left.
            manager.shutdown().await?;
            return Err(error.into());
        }
    };
    plan.hint_start(context, id, "started");
    hints::report_crashed(context, store, Some(id)).await?;
    let session = manager.start_session(id).await?;
    Box::pin(foreground::run(context, store, &runner, session, command, signals, plan)).await
}

fn session_config(args: &Run) -> SessionConfig {
    let mut config = SessionConfig::new("command");
    config.name.clone_from(&args.name);
    config.labels = args.labels.iter().cloned().collect();
    config.recovery = args.recovery.map(Into::into);
    if let Some(limit) = args.timeout {
        config = config.deadline(limit);
    }
    config.parent = parent();
    match std::env::current_dir().ok().and_then(|directory| worktree::containing(&directory)) {
        Some(Worktree { name, path }) => {
            config.project_path(path).mode(sessionkit::log::ExecutionMode::Worktree { name })
        }
        None => config,
    }
}

/// Returns the session inside which this command runs: the parent of the sessions that it creates.
pub(crate) fn parent() -> Option<SessionId> {
    std::env::var(SESSION_VARIABLE).ok()?.parse().ok()
}
