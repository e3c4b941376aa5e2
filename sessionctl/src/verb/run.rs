//! `run`: runs a program as a session, in the foreground or with a detached owner.

use std::ffi::OsStr;
use std::path::{Component, Path};

use sessionkit::backend::blocking;
use sessionkit::log::{FailureCause, WorktreeConfig};
use sessionkit::runner::{Command, SESSION_VARIABLE};
use sessionkit::workflow::{Decisions, Inheritance, Steps};
use sessionkit::worktree::{self as trees, Slug, WorktreeError};
use sessionkit::{SessionConfig, SessionId, Store};

use crate::args::{Run, WorktreeOptions};
use crate::config::Config;
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::foreground;
use crate::signals::Signals;
use crate::viewer::{self, Plan, Viewing};
use crate::worktree::{self, Worktree};
use crate::{approval, detach, hints, python, session_worktree};

pub(crate) async fn run(args: &Run, context: &Context) -> Result<u8> {
    if context.caller.is_none() && args.worktree.worktree.is_some() {
        // A question needs the terminal of the person, which the owner may not have.
        let wanted = repository(&args.worktree)?;
        set_up(&args.worktree, &wanted).await?;
        programs(&args.worktree, &wanted).await?;
    }
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
    let on_ask = args.on_ask.as_ref().unwrap_or(&config.on_ask.value);
    let command = if on_ask.is_empty() { command } else { command.on_ask(on_ask) };
    let command = plan.apply(foreground::command(command, context));
    let steps = StepPlan::default();
    let config = session_config(args, program, &store, context).await?;
    create_and_run(context, &store, config, command, steps, Signals::catch()?, plan).await
}

/// The steps of a new session: those that it takes over, and the decisions about them.
#[derive(Default)]
pub(crate) struct StepPlan {
    pub(crate) decisions: Decisions,
    pub(crate) inheritance: Option<Inheritance>,
}

/// Creates a session for a command, and runs it to its end.
pub(crate) async fn create_and_run(
    context: &Context,
    store: &Store,
    config: SessionConfig,
    command: Command,
    steps: StepPlan,
    signals: Signals,
    plan: Plan,
) -> Result<u8> {
    let (manager, runner) = (store.manager(), store.runner()?);
    let command = command.prepare();
    let records = steps.inheritance.as_ref().map_or(0, Inheritance::records);
    let id = match runner.create_inheriting(config, command.command(), records).await {
        Ok(id) => id,
        Err(error) => {
            // Retires the owner, so that no files of it are left.
            manager.shutdown().await?;
            return Err(error.into());
        }
    };
    plan.hint_start(context, id, "started");
    hints::report_crashed(context, store, Some(id)).await?;
    if let Some(inheritance) = &steps.inheritance {
        take_over(context, store, id, inheritance).await?;
    }
    let session = manager.start_session(id).await?;
    Steps::of(&session).decide(steps.decisions);
    Box::pin(foreground::run(context, store, &runner, session, command, signals, plan)).await
}

/// Appends the steps of the session that this one retries. If that fails, the session has failed, too.
async fn take_over(context: &Context, store: &Store, id: SessionId, inheritance: &Inheritance) -> Result<()> {
    let manager = store.manager();
    if let Err(error) = inheritance.append(&**manager, id).await {
        let message = format!("could not take over the steps of the session that it retries: {error}");
        let failed = sessionkit::Failure::new(FailureCause::Spawn, message);
        if let Err(error) = manager.fail_session(id, failed).await {
            tracing::warn!(session = %id, %error, "could not record that the session failed");
        }
        return Err(Failure::from(error).about(id));
    }
    if inheritance.completed() > 0 {
        let continues =
            inheritance.next().map_or_else(String::new, |step| format!(", continues at `{step}`"));
        let text = format!("takes over {} recorded steps{continues}", inheritance.completed());
        context.hint(&text, &[id], &["steps", &id.to_string()]);
    }
    Ok(())
}

async fn session_config(
    args: &Run,
    program: &OsStr,
    store: &Store,
    context: &Context,
) -> Result<SessionConfig> {
    let mut config = SessionConfig::new("command");
    config.name.clone_from(&args.name);
    config.labels = args.labels.iter().cloned().collect();
    config.recovery = args.recovery.map(Into::into);
    if let Some(limit) = args.timeout {
        config = config.deadline(limit);
    }
    config.parent = parent();
    if let Some(name) = &args.worktree.worktree {
        let given = args.name.as_deref().unwrap_or_default();
        let file = Path::new(program).file_name().unwrap_or_default().to_string_lossy();
        let name = [name.as_str(), given].into_iter().find(|name| !name.is_empty()).unwrap_or(&file);
        return with_worktree(config, name, &args.worktree, store, context).await;
    }
    Ok(match std::env::current_dir().ok().and_then(|directory| worktree::containing(&directory)) {
        Some(Worktree { name, path }) => {
            config.project_path(path).mode(sessionkit::log::ExecutionMode::Worktree { name })
        }
        None => config,
    })
}

/// Names the repository of a worktree.
fn repository(options: &WorktreeOptions) -> Result<WorktreeConfig> {
    let here = std::env::current_dir()
        .map_err(|error| Failure::invalid(format!("the current directory cannot be read: {error}")))?;
    Ok(WorktreeConfig::new(options.repo.as_ref().map_or_else(|| here.clone(), |repo| here.join(repo))))
}

/// Returns the command that prepares a worktree: the given one, else that of the repository, once it was approved.
async fn set_up(options: &WorktreeOptions, wanted: &WorktreeConfig) -> Result<Option<String>> {
    if options.no_setup || options.setup.is_some() {
        return Ok(options.setup.clone());
    }
    let worktrees = trees::repository(wanted).await?;
    approval::approved_setup(worktrees.repository().root(), options.yes)
}

/// Returns the settings of the repository that name programs for git, if there are any, and `true` if a person has approved them.
async fn programs(options: &WorktreeOptions, wanted: &WorktreeConfig) -> Result<Option<(String, bool)>> {
    let worktrees = trees::repository(wanted).await?;
    let root = worktrees.repository().root().to_owned();
    let settings = blocking(move || worktrees.unapproved_settings()).await?;
    if settings.is_empty() {
        return Ok(None);
    }
    let is_approved = approval::approved_programs(&root, &settings, options.yes)?;
    Ok(Some((settings, is_approved)))
}

/// Lets a session run in a worktree of its own: a new one, or the one of this name whose sessions have ended.
async fn with_worktree(
    config: SessionConfig,
    name: &str,
    options: &WorktreeOptions,
    store: &Store,
    context: &Context,
) -> Result<SessionConfig> {
    let mut wanted = repository(options)?;
    wanted.base = Some(options.base.clone()).filter(|base| base != "head");
    wanted.dir.clone_from(&options.dir);
    if options
        .dir
        .as_deref()
        .is_some_and(|dir| dir.components().any(|part| !matches!(part, Component::Normal(_))))
    {
        return Err(Failure::invalid("--in names no directory inside the worktree"));
    }
    let is_named = options.worktree.as_deref().is_some_and(|name| !name.is_empty());
    let name = if is_named { Slug::parse(name)? } else { Slug::from_text(name) };
    wanted.setup = set_up(options, &wanted).await?;
    wanted.programs = match programs(options, &wanted).await? {
        Some((_, false)) => {
            let text = "git runs no programs that only the repository's configuration names";
            context.hint(text, &[], &["run", "--worktree", "--yes", "--", "CMD"]);
            None
        }
        named => named.map(|(settings, _)| settings),
    };
    let worktrees = trees::repository(&wanted).await?;
    let root = worktrees.repository().root().to_owned();
    let existing = {
        let (worktrees, name) = (worktrees.clone(), name.clone());
        let is_it = move |tree: &trees::Worktree| tree.path().file_name() == Some(OsStr::new(name.as_str()));
        blocking(move || Ok::<_, WorktreeError>(worktrees.list()?.into_iter().find(is_it))).await?
    };
    let slug = match existing.filter(|_| is_named) {
        Some(tree) => {
            let mark = tree.record().mark;
            trees::joinable(&**store.manager(), &worktrees, &mark)
                .await
                .map_err(session_worktree::not_joinable)?;
            wanted.mark = Some(mark);
            name
        }
        None => trees::plan(name.as_str(), &wanted).await?.slug,
    };
    let mut config = config.project_path(root).worktree(slug.as_str(), wanted);
    config.options.auto_merge = options.auto_merge;
    config.name.get_or_insert_with(|| slug.to_string());
    Ok(config)
}

/// Returns the session inside which this command runs: the parent of the sessions that it creates.
pub(crate) fn parent() -> Option<SessionId> {
    std::env::var(SESSION_VARIABLE).ok()?.parse().ok()
}
