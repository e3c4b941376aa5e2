//! A program in the foreground: signals go to it, its output comes from it, and its exit code is ours.

use sessionkit::runner::{Command, PassOn, RunReport, Runner, Running, Stdin};
use sessionkit::{Session, SessionError, SessionId, SessionState, Store, text::visible};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::context::Context;
use crate::fail::{Failure, Result};
use crate::verb::print_session;

/// Signals that mean the program, and come to whoever runs it.
const PASSED_ON: [SignalKind; 3] = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];

/// What of a program's input and output belongs to the foreground.
pub(crate) fn command(command: Command, context: &Context) -> Command {
    let command = command.pass_on(if context.term.json { PassOn::Nothing } else { PassOn::Inherit });
    // A program that is not in the terminal's foreground group is stopped when it reads from there.
    let stdin = rustix::termios::isatty(std::io::stdin());
    command.stdin(if stdin { Stdin::Null } else { Stdin::Inherit })
}

/// Signals that came since this was made.
pub(crate) struct Signals([Signal; 3]);

impl Signals {
    /// From now on these signals do not end this process.
    pub(crate) fn catch() -> Result<Self> {
        let [interrupt, terminate, hangup] = PASSED_ON.map(signal);
        let failed =
            |error: std::io::Error| Failure::chain(sessionkit::ErrorCode::StorageUnavailable, &error);
        Ok(Self([interrupt.map_err(failed)?, terminate.map_err(failed)?, hangup.map_err(failed)?]))
    }

    /// The number of the next one.
    pub(crate) async fn next(&mut self) -> i32 {
        let Self([interrupt, terminate, hangup]) = self;
        tokio::select! {
            _ = interrupt.recv() => SignalKind::interrupt().as_raw_value(),
            _ = terminate.recv() => SignalKind::terminate().as_raw_value(),
            _ = hangup.recv() => SignalKind::hangup().as_raw_value(),
        }
    }
}

/// Runs a program under a session that is owned here, to its end, and returns its exit code.
pub(crate) async fn run(
    context: &Context,
    store: &Store,
    runner: &Runner,
    session: Session,
    command: Command,
    mut signals: Signals,
) -> Result<u8> {
    let id = session.id();
    let runner = context.term.beside(runner);
    let report = match tokio::select! {
        started = runner.run(session, command) => started,
        // What is not there yet cannot be told: whoever waits for the end of a former run gives up, for another time.
        number = signals.next() => {
            store.manager().shutdown().await?;
            let text = "interrupted before the program was started";
            context.hint(text, &[id], &["resume", &id.to_string()]);
            return Ok(exit_by(number));
        }
    } {
        Ok(running) => {
            let progress = running.session().progress().watch();
            context.term.with_progress(progress, wait(running, signals)).await
        }
        Err(error) => {
            let shut = store.manager().shutdown().await;
            if context.term.json {
                print_session(context, &**store.manager(), id).await?;
            }
            shut?;
            return Err(error.into());
        }
    };
    // Retires the owner: nothing is left for anybody to clean up.
    let shut = store.manager().shutdown().await;
    let report = report.map_err(|error| Failure::from(error).about(id))?;
    shut?;
    finish(context, store, &report, id).await
}

async fn wait(mut running: Running, mut signals: Signals) -> std::result::Result<RunReport, SessionError> {
    loop {
        let number = tokio::select! {
            report = running.wait() => return report,
            number = signals.next() => number,
        };
        running.signal(number).await;
    }
}

async fn finish(context: &Context, store: &Store, report: &RunReport, id: SessionId) -> Result<u8> {
    let typed = id.to_string();
    if context.term.json {
        print_session(context, &**store.manager(), id).await?;
    } else {
        match report.head.state() {
            SessionState::Failed { error } => {
                context.hint(
                    &format!("session failed: {}", visible(&error.message)),
                    &[id],
                    &["show", &typed],
                );
            }
            SessionState::Cancelled { reason } => {
                context.hint(&format!("session cancelled: {}", visible(reason)), &[id], &["show", &typed]);
            }
            SessionState::Created
            | SessionState::Running { .. }
            | SessionState::Paused { .. }
            | SessionState::Completed { .. } => {}
        }
    }
    for process in &report.escaped {
        let text = format!("process {} ({}) could not be ended", process.pid, visible(&process.name));
        context.hint(&text, &[id], &["show", &typed]);
    }
    Ok(u8::try_from(report.exit_code()).unwrap_or(125))
}

fn exit_by(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(125)
}
