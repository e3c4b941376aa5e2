//! `attach`: returns to the terminal of a running session.

use std::os::fd::AsFd as _;

use sessionkit::runner::{AttachError, SESSION_VARIABLE, ViewerConnection, ViewerOptions};
use sessionkit::{ErrorCode, SessionId, SessionManager, SessionState};

use crate::args::Attach;
use crate::config::Config;
use crate::context::Context;
use crate::display::display;
use crate::error::{Failure, Result};
use crate::ids;
use crate::signals::{Signals, exit_code_of_signal};
use crate::viewer::{View, ViewOptions, finish, notice};

pub(crate) async fn run(args: &Attach, context: &Context) -> Result<u8> {
    let config = Config::load()?;
    let store = context.open().await?;
    let manager = &**store.manager();
    let id = ids::resolve(context, manager, &args.id, ids::Purpose::Use).await?;
    refuse_inside(manager, id).await?;
    let Some(display) = display() else {
        return Err(Failure::invalid("standard output is no terminal").next(&["logs", &id.to_string()]));
    };
    let notice = notice(context);
    let mut signals = Signals::catch()?;
    let viewer =
        ViewerOptions { terminal: Some(display.as_fd()), read_only: args.read_only, notice: &notice };
    let connection = tokio::select! {
        connection = ViewerConnection::attach(id, viewer) => connection.map_err(|error| failure(id, &error))?,
        // An owner that is stopped does not answer.
        number = signals.next_stop() => return Ok(exit_code_of_signal(number)),
    };
    if let Ok(SessionState::Paused { .. }) = manager.get_state(id).await {
        context.hint("session paused", &[id], &["resume", &id.to_string()]);
    }
    // The owner writes to the store; this process only views.
    manager.shutdown().await?;
    drop(store);
    let options = ViewOptions {
        keys: Some(args.detach_keys.clone()),
        read_only: args.read_only,
        on_hangup: config.on_hangup.value,
        passes_signals: false,
    };
    let end = View::new(connection, display.as_fd(), options)?.run(Some(signals)).await;
    Ok(finish(context, end, Some(id)).await)
}

/// Creates the failure of an attempt to reach the terminal of a session.
pub(crate) fn failure(id: SessionId, error: &AttachError) -> Failure {
    Failure::chain(error.code(), error).about(id).next(&["why", &id.to_string()])
}

/// Refuses a session inside which this command runs: what it shows would be shown in it again, without end.
async fn refuse_inside(manager: &dyn SessionManager, id: SessionId) -> Result<()> {
    let inner = std::env::var(SESSION_VARIABLE).ok().and_then(|text| text.parse::<SessionId>().ok());
    let mut next = inner;
    // A chain of parents is as long as sessions are nested.
    for _ in 0..64 {
        let Some(session) = next else { return Ok(()) };
        if session == id {
            let text = format!("this command runs inside session {id}");
            return Err(Failure::new(ErrorCode::IllegalTransition, text).about(id));
        }
        next = manager.get_head(session).await.ok().and_then(|head| head.parent);
    }
    Ok(())
}
