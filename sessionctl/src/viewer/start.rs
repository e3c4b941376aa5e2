//! The process that was typed, while another one owns the session: it starts the owner and is its first viewer.

use std::os::fd::AsFd as _;
use std::process::Child;

use rustix::process::Pid;
use sessionkit::runner::{ViewerConnection, ViewerOptions, close_inherited_descriptors};
use sessionkit::{ErrorCode, SessionId};
use tokio::signal::unix::SignalKind;

use super::plan::Plan;
use super::{View, ViewEnd, ViewOptions, notice};
use crate::config::OnHangup;
use crate::context::Context;
use crate::detach::{self, exit_code};
use crate::display::display;
use crate::error::{Failure, Result};
use crate::signals::{Signals, die_of_interrupt, exit_code_of_signal};

/// The exit code of a viewer that was left while its session runs on.
const LEFT: u8 = 125;

/// Starts an owner with the arguments of this process, and views the terminal of its program to the end.
pub(crate) async fn run(context: &Context, plan: Plan) -> Result<u8> {
    let Some(display) = display() else { return Err(Failure::invalid("there is no terminal to show it")) };
    let mut signals = Signals::catch()?;
    let (socket, mut owner) = detach::start_viewed(context)?;
    // The owner has them, for the program.
    close_inherited_descriptors();
    let notice = notice(context);
    let options = ViewerOptions { terminal: Some(display.as_fd()), read_only: false, notice: &notice };
    let mut first = Box::pin(ViewerConnection::first(socket, options));
    let connection = loop {
        tokio::select! {
            connection = &mut first => break connection,
            number = signals.next_stop() => {
                if number != SignalKind::hangup().as_raw_value() || plan.options.on_hangup == OnHangup::Interrupt {
                    // It gives up the start, or passes the signal on to a program that has just started.
                    send(&owner, number);
                } else if std::process::id() != 1 {
                    return Ok(die_of_hangup());
                }
            }
        }
    };
    drop(first);
    let connection = connection.map_err(|error| Failure::chain(error.code(), &error))?;
    let Some(connection) = connection else {
        // It has printed the reason.
        let status = owner.wait().map_err(|error| Failure::chain(ErrorCode::SpawnFailed, &error))?;
        return Ok(exit_code(status));
    };
    let session = connection.session();
    let options = ViewOptions {
        // The end of the first process of a container would kill all others.
        keys: (std::process::id() != 1).then_some(plan.options.detach_keys),
        read_only: false,
        on_hangup: plan.options.on_hangup,
        passes_signals: true,
    };
    let end = View::new(connection, display.as_fd(), options)?.run(Some(signals)).await;
    Ok(finish(context, end, session).await)
}

/// Sends a signal to the owner, a child of this process.
fn send(owner: &Child, number: i32) {
    let pid = i32::try_from(owner.id()).ok().and_then(Pid::from_raw);
    if let (Some(pid), Some(signal)) = (pid, rustix::process::Signal::from_named_raw(number)) {
        // An owner that has ended is waited for next.
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// Reports the end of a viewer. Returns the exit code.
pub(crate) async fn finish(context: &Context, end: ViewEnd, session: Option<SessionId>) -> u8 {
    let typed = session.map_or_else(|| "@last".to_owned(), |id| id.to_string());
    let runs_on = || {
        let text = match session {
            Some(id) => format!("session {id} runs on"),
            None => "the session runs on".to_owned(),
        };
        context.hint(&text, session.as_slice(), &["attach", &typed]);
    };
    match end {
        ViewEnd::Ended(end) => {
            if end.interrupted {
                die_of_interrupt();
            }
            end.exit_code
        }
        ViewEnd::Detached | ViewEnd::TerminalGone => {
            runs_on();
            LEFT
        }
        ViewEnd::Signalled(number) => {
            runs_on();
            if number == SignalKind::hangup().as_raw_value() {
                die_of_hangup()
            } else {
                exit_code_of_signal(number)
            }
        }
        ViewEnd::OwnerGone => {
            let ended = match session {
                Some(id) => ended(context, id).await.ok().flatten(),
                None => None,
            };
            if let Some(code) = ended {
                let text = "the session has ended, and this viewer was too slow to show its end";
                context.hint(text, session.as_slice(), &["logs", &typed]);
                return u8::try_from(code).unwrap_or(LEFT);
            }
            let text = "the process that owned the session is gone";
            context.hint(text, session.as_slice(), &["why", &typed]);
            LEFT
        }
    }
}

/// Ends this process as any program at a terminal that is closed.
fn die_of_hangup() -> u8 {
    let number = SignalKind::hangup().as_raw_value();
    let _ = signal_hook::low_level::emulate_default_handler(number);
    exit_code_of_signal(number)
}

/// Returns the exit code of a session that has ended.
async fn ended(context: &Context, id: SessionId) -> Result<Option<i32>> {
    let store = context.open().await?;
    let code = sessionkit::runner::exit_code(&store.manager().get_head(id).await?);
    store.manager().shutdown().await?;
    Ok(code)
}
