//! A program in the foreground: signals go to it, its output comes from it, and its exit code is ours. Or, where
//! somebody started this process for that, in the background of everybody.

use sessionkit::runner::{ChildState, Command, Ended, Forwarding, RunReport, Runner, Running, Stdin};
use sessionkit::{Session, SessionError, SessionId, SessionManager, SessionState, Store, text::visible};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::context::Context;
use crate::error::{Failure, Result};
use crate::job::Job;
use crate::job_signals::JobSignal;
use crate::verb::print_session;

/// Signals that mean the program, and come to whoever runs it.
const FORWARDED: [SignalKind; 3] = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];

/// What of a program's input and output belongs to the foreground.
pub(crate) fn command(command: Command, context: &Context) -> Command {
    let (here, json) = (context.caller.is_none(), context.term.json);
    let command = command.stdin(if here { Stdin::Inherit } else { Stdin::Null });
    command.pass_on(if here && !json { Forwarding::Inherit } else { Forwarding::Nothing })
}

/// Signals that came since this was made.
pub(crate) struct Signals([Signal; 3]);

impl Signals {
    /// From now on these signals do not end this process.
    pub(crate) fn catch() -> Result<Self> {
        let [interrupt, terminate, hangup] = FORWARDED.map(signal);
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
    let runner = context.term.intercept_output(runner);
    // Whoever left its terminal is nobody's job.
    let job = if context.caller.is_none() { Job::new().map(Some) } else { Ok(None) };
    let mut job = match job {
        Ok(job) => job,
        Err(error) => {
            store.manager().shutdown().await?;
            return Err(error);
        }
    };
    let report = match start(context, runner.run(session, command), &mut signals, &mut job).await {
        Ok(Ok(running)) => {
            if let Some(caller) = &context.caller {
                let announced = announce(context, &**store.manager(), id).await;
                caller.detach(announced.unwrap_or_else(|failure| {
                    crate::error::print(&failure, "run", crate::error::ExitCodes::Child, context)
                }));
            }
            let progress = running.session().progress().watch();
            let wait = wait(context, running, signals, &mut job);
            // Nobody looks on where nobody waits.
            if context.caller.is_some() {
                wait.await
            } else {
                context.term.with_progress(progress, wait).await
            }
        }
        Ok(Err(error)) => {
            let shut = store.manager().shutdown().await;
            if context.term.json {
                print_session(context, &**store.manager(), id).await?;
            }
            shut?;
            return Err(error.into());
        }
        Err(number) => {
            store.manager().shutdown().await?;
            let text = "interrupted before the program was started";
            context.hint(text, &[id], &["resume", &id.to_string()]);
            return Ok(exit_code_of_signal(number));
        }
    };
    // Whatever is told from here on is told on a terminal that is as it was.
    let had_terminal = job.as_ref().is_some_and(Job::program_has_terminal);
    drop(job);
    // Retires the owner: nothing is left for anybody to clean up.
    let shut = store.manager().shutdown().await;
    let report = report.map_err(|error| Failure::from(error).about(id))?;
    shut?;
    let code = finish(context, store, &report, id).await?;
    if had_terminal && report.ended == Some(Ended::Signalled(SignalKind::interrupt().as_raw_value())) {
        die_of_interrupt();
    }
    Ok(code)
}

/// Starts a program. What is not there yet cannot be told of signals: whoever waits for the end of a former run gives
/// up then, for another time, with the number of the signal.
async fn start<T>(
    context: &Context,
    started: impl Future<Output = T>,
    signals: &mut Signals,
    job: &mut Option<Job>,
) -> std::result::Result<T, i32> {
    let mut started = Box::pin(started);
    loop {
        tokio::select! {
            started = &mut started => return Ok(started),
            number = signals.next() => return Err(number),
            () = caller_disconnected(context) => return Err(SignalKind::hangup().as_raw_value()),
            signal = next_job_signal(job) => job.iter_mut().for_each(|job| job.handle_before_start(signal)),
        }
    }
}

async fn wait(
    context: &Context,
    mut running: Running,
    mut signals: Signals,
    job: &mut Option<Job>,
) -> std::result::Result<RunReport, SessionError> {
    let mut child_state = running.standing();
    if let Some(job) = job {
        job.program_started(&running).await;
    }
    loop {
        tokio::select! {
            report = running.wait() => return report,
            number = signals.next() => running.signal(number).await,
            Ok(()) = child_state.changed() => if let Some(job) = job {
                let child_state = *child_state.borrow_and_update();
                let paused_by_others = child_state == ChildState::Paused && !job.is_stopping();
                job.handle_child_state(child_state, &running).await;
                if paused_by_others {
                    let id = running.id();
                    context.hint("session paused by request", &[id], &["resume", &id.to_string()]);
                }
            },
            signal = next_job_signal(job) => if let Some(job) = job {
                job.handle(signal, &running).await;
            },
        }
    }
}

async fn next_job_signal(job: &mut Option<Job>) -> JobSignal {
    match job {
        Some(job) => job.next().await,
        None => std::future::pending().await,
    }
}

async fn caller_disconnected(context: &Context) {
    match &context.caller {
        Some(caller) => caller.disconnected().await,
        None => std::future::pending().await,
    }
}

/// Says on stdout which session runs now, to whoever started it and does not wait for its end.
pub(crate) async fn announce(context: &Context, manager: &dyn SessionManager, id: SessionId) -> Result<u8> {
    if context.term.json {
        print_session(context, manager, id).await?;
    } else {
        context.term.print(&format!("{id}\n"))?;
    }
    Ok(0)
}

/// Ends this process as the key that ended the program would have ended it, had it been in the terminal's foreground
/// itself. Its job hears of it as it would have then, and a shell's loop or script ends, too.
fn die_of_interrupt() {
    let _ = rustix::process::kill_current_process_group(rustix::process::Signal::INT);
    // To a shell it is the same code, if it does not work.
    let _ = signal_hook::low_level::emulate_default_handler(SignalKind::interrupt().as_raw_value());
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

fn exit_code_of_signal(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(125)
}
