//! `retry`: runs the command of an ended session as a new session.

use sessionkit::ErrorCode;
use sessionkit::runner::Command;

use super::no_program;
use super::run::{create_and_run, parent};
use crate::args::Retry;
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::foreground::{self, Signals};
use crate::ids;

pub(crate) async fn run(args: &Retry, context: &Context) -> Result<u8> {
    let store = context.open().await?;
    let manager = &**store.manager();
    let id = ids::resolve(context, manager, &args.id, ids::Purpose::Use).await?;
    let ended = manager.restore_session(id).await.map_err(|error| Failure::from(error).about(id))?;
    if !ended.state.is_final() {
        let text = format!("session {id} is {}: only an ended session can be retried", ended.state.name());
        return Err(Failure::new(ErrorCode::IllegalTransition, text)
            .about(id)
            .next(&["why", &id.to_string()]));
    }
    let command = ended.origin.as_ref().and_then(Command::from_origin);
    let Some(command) = command else { return Err(no_program(manager, &ended).await) };
    let mut config = ended.config.retry_of(id);
    config.parent = parent();
    // The idempotency key belongs to the ended session.
    (config.idempotency_key, config.retries, config.queued) = (None, 0, false);
    let command = foreground::command(command, context);
    create_and_run(context, &store, config, command, Signals::catch()?).await
}
