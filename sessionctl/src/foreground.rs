//! Runs the program of a session that this process owns: forwards signals, shows its output, and returns its exit code.
//!
//! The process is either in the foreground of its caller, or a detached owner in the background.

use sessionkit::runner::{
    BackgroundProcess, ChildState, Command, Ended, Forwarding, RunReport, Runner, Running, Stdin,
};
use sessionkit::{Session, SessionError, SessionId, SessionManager, SessionState, Store, text::visible};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::context::Context;
use crate::error::{Failure, Result};
use crate::job::Job;
use crate::job_signals::JobSignal;
use crate::verb::print_session;

/// Signals that are forwarded to the program.
const FORWARDED: [SignalKind; 3] = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];

/// Background processes that are named in one line.
const MAX_NAMES: usize = 5;

/// Configures stdin and output forwarding for a foreground or detached run.
pub(crate) fn command(command: Command, context: &Context) -> Command {
    let (here, json) = (context.caller.is_none(), context.term.json);
    let command = command.stdin(if here { Stdin::Inherit } else { Stdin::Null });
    command.pass_on(if here && !json { Forwarding::Inherit } else { Forwarding::Nothing })
}

/// Receiver of the forwarded signals.
pub(crate) struct Signals([Signal; 3]);

impl Signals {
    /// Starts receiving these signals; they no longer end this process.
    pub(crate) fn catch() -> Result<Self> {
        let [interrupt, terminate, hangup] = FORWARDED.map(signal);
        let failed =
            |error: std::io::Error| Failure::chain(sessionkit::ErrorCode::StorageUnavailable, &error);
        Ok(Self([interrupt.map_err(failed)?, terminate.map_err(failed)?, hangup.map_err(failed)?]))
    }

    /// Returns the number of the next signal.
    pub(crate) async fn next(&mut self) -> i32 {
        let Self([interrupt, terminate, hangup]) = self;
        tokio::select! {
            _ = interrupt.recv() => SignalKind::interrupt().as_raw_value(),
            _ = terminate.recv() => SignalKind::terminate().as_raw_value(),
            _ = hangup.recv() => SignalKind::hangup().as_raw_value(),
        }
    }
}

/// Runs the program of a session that this process owns to its end, and returns its exit code.
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
    // A detached owner has no controlling terminal, hence no job control.
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
            // A detached owner has no viewer for progress.
            if context.caller.is_some() || context.is_quiet() {
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
            let text = "interrupted before the program started";
            context.hint(text, &[id], &["resume", &id.to_string()]);
            return Ok(exit_code_of_signal(number));
        }
    };
    // Restores the terminal before anything more is printed.
    let had_terminal = job.as_ref().is_some_and(Job::program_has_terminal);
    drop(job);
    // Retires the owner, so that no files of it are left to clean up.
    let shut = store.manager().shutdown().await;
    let report = report.map_err(|error| Failure::from(error).about(id))?;
    shut?;
    let code = finish(context, store, &report, id).await?;
    if had_terminal && report.ended == Some(Ended::Signalled(SignalKind::interrupt().as_raw_value())) {
        die_of_interrupt();
    }
    Ok(code)
}

/// Starts a program. There is no program yet that a signal could go to: the start, which may wait for the end of an
/// earlier run, is abandoned, and the number of the signal is returned as an error.
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
    let (mut child_state, mut lingering) = (running.child_state(), running.lingering());
    if let Some(job) = job {
        job.program_started(&running).await;
    }
    loop {
        tokio::select! {
            report = running.wait() => return report,
            number = signals.next() => running.signal(number).await,
            Ok(()) = lingering.changed() => {
                let waited_for = lingering.borrow_and_update().clone();
                if let Some(processes) = waited_for {
                    hint_wait(context, running.id(), &processes);
                }
            }
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

/// Prints the session that is now running to stdout, for a caller that does not wait for its end.
pub(crate) async fn announce(context: &Context, manager: &dyn SessionManager, id: SessionId) -> Result<u8> {
    if context.term.json {
        print_session(context, manager, id).await?;
    } else {
        context.term.print(&format!("{id}\n"))?;
    }
    Ok(0)
}

/// Ends this process and its group by SIGINT, as Ctrl-C would have done had they been in the terminal's foreground
/// instead of the program. Without this, a shell loop or script around the command would continue.
fn die_of_interrupt() {
    let _ = rustix::process::kill_current_process_group(rustix::process::Signal::INT);
    // If the signal does not end this process, a shell sees the same exit code.
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
    let again = ["run", "--keep-background", "--", "CMD"];
    if !report.ended_background.is_empty() {
        let text = format!("ended background processes: {}", named(&report.ended_background));
        context.hint(&text, &[id], &again);
    }
    if !report.left_running.is_empty() {
        let text = format!("left running: {}", named(&report.left_running));
        context.hint(&text, &[id], &["why", &typed]);
    }
    for process in &report.escaped {
        let text = format!("process {} ({}) could not be ended", process.pid, visible(&process.name));
        context.hint(&text, &[id], &["show", &typed]);
    }
    Ok(u8::try_from(report.exit_code()).unwrap_or(125))
}

/// Prints what is waited for after the program has ended.
fn hint_wait(context: &Context, id: SessionId, processes: &[BackgroundProcess]) {
    let text = if processes.is_empty() {
        "the program has ended; waiting for its output, which a process outside of its tree holds (Ctrl-C ends the wait)"
            .to_owned()
    } else {
        format!("the program has ended; waiting for {} (Ctrl-C ends the wait)", named(processes))
    };
    context.hint(&text, &[id], &["run", "--keep-background", "--", "CMD"]);
}

/// Names some processes, and the number of the others.
fn named(processes: &[BackgroundProcess]) -> String {
    let name = |process: &BackgroundProcess| format!("{} (pid {})", visible(&process.name), process.pid);
    let mut names: Vec<String> = processes.iter().take(MAX_NAMES).map(name).collect();
    if processes.len() > MAX_NAMES {
        names.push(format!("{} more", processes.len() - MAX_NAMES));
    }
    names.join(", ")
}

fn exit_code_of_signal(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(125)
}
