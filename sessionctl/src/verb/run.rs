//! `run`: a program as a session, in the foreground or by an owner of its own.

use std::ffi::OsString;

use sessionkit::SessionConfig;
use sessionkit::runner::{Command, SESSION_VARIABLE};

use crate::args::Run;
use crate::context::Context;
use crate::fail::{Failure, Result};
use crate::foreground::{self, Signals};
use crate::{detach, hints};

pub(crate) async fn run(args: &Run, context: &Context) -> Result<u8> {
    if args.detach && context.caller.is_none() {
        return detach::start();
    }
    let store = context.open().await?;
    let manager = store.manager();
    let runner = store.runner()?;
    let words = args.command.iter().map(text).collect::<Result<Vec<String>>>()?;
    let (program, arguments) = words.split_first().ok_or_else(|| Failure::invalid("no program is named"))?;
    let command = foreground::command(Command::new(program).args(arguments), context);
    let signals = Signals::catch()?;
    let id = match runner.create(config(args), &command).await {
        Ok(id) => id,
        Err(error) => {
            // Whoever could not begin leaves nothing behind.
            manager.shutdown().await?;
            return Err(error.into());
        }
    };
    let place = if args.detach { "in the background" } else { "here" };
    context.hint(&format!("session {id} runs {place}"), &[id], &["logs", &id.to_string()]);
    hints::crashed(context, &**manager, Some(id)).await?;
    let session = manager.start_session(id).await?;
    foreground::run(context, &store, &runner, session, command, signals).await
}

fn config(args: &Run) -> SessionConfig {
    let mut config = SessionConfig::new("command");
    config.name.clone_from(&args.name);
    config.labels = args.labels.iter().cloned().collect();
    // Whoever runs inside a session belongs to it.
    config.parent = std::env::var(SESSION_VARIABLE).ok().and_then(|id| id.parse().ok());
    config
}

/// The log is text, and what it does not hold could not be run again.
fn text(word: &OsString) -> Result<String> {
    word.to_str().map(ToOwned::to_owned).ok_or_else(|| {
        Failure::invalid(format!("`{}` is not UTF-8, as what a log keeps has to be", word.to_string_lossy()))
    })
}
