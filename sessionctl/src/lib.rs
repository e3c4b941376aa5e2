//! `sessionctl`: runs programs as durable sessions and manages them. No daemon, no setup.
//!
//! The command is this library's [`main`]. A program of your own that registers a backend first is a `sessionctl` for
//! stores of that backend, too; `examples/own-backend` has one.
//!
//! ```no_run
//! use std::process::ExitCode;
//! use std::sync::Arc;
//! use sessionkit::backend::{Backend, MemoryStorage};
//!
//! fn main() -> ExitCode {
//!     // Here: the storage behind `mine:PATH`.
//!     sessionkit::register("mine", async |url| Ok(Backend::new(Arc::new(MemoryStorage::new()))))
//!         .expect("the scheme is free");
//!     sessionctl::main()
//! }
//! ```
//!
//! `verb` has one file for each verb, `render` the output for people, `json` the output for programs, and `error` the
//! reports of failures.

mod advice;
mod allocator;
mod approval;
mod args;
mod attachable_terminals;
mod config;
mod context;
mod detach;
mod detach_keys;
mod display;
mod error;
mod follow;
mod foreground;
mod hints;
mod ids;
mod job;
mod job_signals;
mod json;
mod permission;
mod plain_file;
mod python;
mod quoting;
mod render;
mod reproduction;
mod rerun;
mod session_worktree;
mod signal_mask;
mod signals;
mod similar;
mod status;
mod step_summary;
mod store_trust;
mod system_limits;
mod term;
mod terminal;
mod unknown_owner;
mod verb;
mod verbose;
mod viewer;
mod waits;
mod worktree;
mod worktree_state;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::FromArgMatches as _;
use clap::error::ErrorKind;
use sessionkit::text::visible;

use crate::args::{Cli, Global, Verb};
use crate::context::Context;
use crate::error::{ExitCodes, Failure};

/// Runs the command with the arguments of this process, and returns its exit code. Call it in `main`, after nothing but
/// [`sessionkit::register`]: this process may be a supervisor or a detached owner, which must not do anything else.
#[must_use]
pub fn main() -> ExitCode {
    // Does not return in a supervisor process.
    sessionkit::runner::supervise_main();
    let program = std::env::args_os().next();
    let mut args = std::env::args_os().collect();
    let caller = match detach::Caller::find(&mut args) {
        Ok(caller) => caller,
        Err(error) => {
            eprintln!("`{}` is internal and cannot be called directly: {error}", detach::VERB);
            return ExitCode::from(2);
        }
    };
    if let (None, Some(step)) = (&caller, args::StepCli::find(&args)) {
        // Thousands of them are replayed: without the definitions of all verbs, and without a runtime.
        return match verb::step::run(&step) {
            Ok(code) => ExitCode::from(code),
            Err(failure) => {
                let context = Context::new(&Global::plain(), program, None);
                ExitCode::from(error::print(&failure, "step", ExitCodes::Child, &context))
            }
        };
    }
    let parsed =
        args::command().try_get_matches_from(args).and_then(|matches| Cli::from_arg_matches(&matches));
    let Cli { global, verb } = match parsed {
        Ok(cli) => cli,
        Err(error) => return usage_error(&error, program),
    };
    if verb.moves_logs() {
        allocator::bound_memory();
    }
    if verb.runs_here() && caller.is_none() {
        // Before any thread exists that could receive these signals.
        signal_mask::block();
    }
    let context = Context::new(&global, program, caller).quiet(verb.is_quiet());
    let print = |failure: &Failure, exit_codes| error::print(failure, verb.name(), exit_codes, &context);
    let runtime = system_limits::catch(|| tokio::runtime::Builder::new_current_thread().enable_all().build())
        .and_then(|runtime| runtime.map_err(|error| system_limits::runtime_failure(&error)));
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(failure) => return ExitCode::from(print(&failure, verb.exit_codes())),
    };
    let code = system_limits::catch(|| runtime.block_on(dispatch(&verb, &context)))
        .and_then(|result| result)
        .unwrap_or_else(|failure| print(&failure, verb.exit_codes()));
    // Does not wait for threads that are still reading: everything that matters is on disk.
    runtime.shutdown_background();
    ExitCode::from(code)
}

async fn dispatch(verb: &Verb, context: &Context) -> error::Result<u8> {
    if verb.runs_here() || context.caller.is_some() {
        system_limits::check()?;
    }
    match verb {
        Verb::Run(args) => Box::pin(verb::run::run(args, context)).await,
        Verb::Ls(args) => verb::ls::run(args, context).await,
        Verb::Show(args) => verb::show::run(args, context).await,
        Verb::Why(args) => Box::pin(verb::why::run(args, context)).await,
        Verb::Wait(args) => verb::wait::run(args, context).await,
        Verb::Attach(args) => verb::attach::run(args, context).await,
        Verb::Input(args) => verb::input::run(args, context).await,
        Verb::Signal(args) => verb::signal::run(args, context).await,
        Verb::Pause(args) => verb::pause::run(args, context).await,
        Verb::Retry(args) => Box::pin(verb::retry::run(args, context)).await,
        Verb::Gc(args) => verb::gc::run(args, context).await,
        Verb::Rm(args) => verb::rm::run(args, context).await,
        Verb::Export(args) => verb::export::run(args, context).await,
        Verb::Import(args) => verb::import::run(args, context).await,
        Verb::Migrate(args) => verb::migrate::run(args, context).await,
        Verb::Completions(args) => verb::manual::completions(args, context),
        Verb::Man(args) => verb::manual::pages(args, context),
        Verb::Events(args) => verb::events::run(args, context).await,
        Verb::Logs(args) => verb::logs::run(args, context).await,
        Verb::Cancel(args) => verb::cancel::run(args, context).await,
        Verb::Resume(args) => Box::pin(verb::resume::run(args, context)).await,
        Verb::Recover(args) => verb::recover::run(args, context).await,
        Verb::Verify(args) => verb::verify::run(args, context).await,
        Verb::Report(args) => verb::report::run(args, context).await,
        Verb::Step(args) => {
            context.restore_umask();
            verb::step::run(args)
        }
        Verb::Each(args) => {
            context.restore_umask();
            verb::each::run(args).await
        }
        Verb::Ask(args) => verb::ask::run(args),
        Verb::Sleep(args) => verb::sleep::run(args),
        Verb::Steps(args) => verb::steps::run(args, context).await,
        Verb::Answer(args) => verb::answer::run(args, context).await,
        Verb::Answers(args) => verb::answers::run(args, context).await,
        Verb::Worktree(action) => Box::pin(verb::worktree::run(action, context)).await,
        Verb::Config(action) => verb::config::run(action, context),
    }
}

/// Prints help and version to stdout as they are, and any other clap error to stderr with its text escaped: it repeats
/// arguments, which may contain control characters.
fn usage_error(error: &clap::Error, program: Option<OsString>) -> ExitCode {
    if let ErrorKind::DisplayHelp | ErrorKind::DisplayVersion = error.kind() {
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let text = error.render().to_string();
    // A caller that asked for JSON parses nothing else, however wrong the rest of its arguments is.
    if std::env::args_os().take_while(|arg| arg != "--").any(|arg| arg == "--json") {
        let text = text.trim().trim_start_matches("error: ");
        let message = text.split("\n\nUsage").next().unwrap_or(text);
        let failure = Failure::invalid(message).next(&["--help"]);
        let context = Context::new(&Global::json_only(), program, None);
        return ExitCode::from(error::print(&failure, "", ExitCodes::Own, &context));
    }
    let lines: Vec<_> = text.trim_end().lines().map(visible).collect();
    eprintln!("{}", lines.join("\n"));
    // Every other code is that of a step's command, or means that a script goes another way.
    let verb = std::env::args_os().nth(1);
    let is_inside =
        verb.is_some_and(|verb| ["step", "each", "ask", "sleep"].iter().any(|known| verb == *known));
    ExitCode::from(if is_inside { verb::client::TROUBLE } else { 2 })
}
