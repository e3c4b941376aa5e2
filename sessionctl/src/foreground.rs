//! Runs the program of a session that this process owns: forwards signals, shows its output, and returns its exit code.
//!
//! The process is either in the foreground of its caller, or a detached owner in the background.

use sessionkit::log::{OwnerLoss, PauseReason};
use sessionkit::runner::{
    BackgroundProcess, ChildState, Command, Ended, Forwarding, PreparedCommand, RunError, RunReport, Runner,
    Running, STOPPED_FROM_TERMINAL, Stdin, TerminalEnd, close_inherited_descriptors,
};
use sessionkit::{
    Head, Session, SessionError, SessionId, SessionManager, SessionState, Store, text::visible,
};
use tokio::signal::unix::SignalKind;

use crate::context::Context;
use crate::detach::Caller;
use crate::error::{self, ExitCodes, Failure, Result};
use crate::job::Job;
use crate::job_signals::JobSignal;
use crate::signals::{Signals, die_of_interrupt, exit_code_of_signal};
use crate::step_summary::StepSummary;
use crate::verb::print_session;
use crate::viewer::{Plan, Viewers};

/// Background processes that are named in one line.
const MAX_NAMES: usize = 5;

/// Configures stdin and output forwarding for a foreground or detached run.
pub(crate) fn command(command: Command, context: &Context) -> Command {
    // An owner whose caller views the terminal has what its caller had.
    let here = context.caller.as_ref().is_none_or(Caller::is_viewer);
    let json = context.term.json;
    let command = command.umask(context.umask.as_raw_mode());
    let command = command.stdin(if here { Stdin::Inherit } else { Stdin::Null });
    command.pass_on(if here && !json { Forwarding::Inherit } else { Forwarding::Nothing })
}

/// Runs the program of a session that this process owns to its end, and returns its exit code.
pub(crate) async fn run(
    context: &Context,
    store: &Store,
    runner: &Runner,
    session: Session,
    command: PreparedCommand,
    signals: Signals,
    plan: Plan,
) -> Result<u8> {
    let mut viewers = Viewers::new(plan);
    let runner = viewers.connect(context, context.term.intercept_output(runner))?;
    let ran = Box::pin(run_viewed(context, store, &runner, session, command, signals, &mut viewers)).await;
    let Ran { code, interrupted } = match ran {
        Ok(ran) => ran,
        // Only the viewers can print it.
        Err(failure) if context.term.has_viewers() => {
            let code = error::print(&failure, "run", ExitCodes::Child, context);
            Ran { code, interrupted: false }
        }
        Err(failure) => {
            viewers.end(TerminalEnd::new(125, false)).await;
            return Err(failure);
        }
    };
    viewers.end(TerminalEnd::new(code, interrupted)).await;
    if interrupted {
        die_of_interrupt();
    }
    Ok(code)
}

/// The end of a program that was run.
#[derive(Debug, Clone, Copy)]
struct Ran {
    code: u8,
    /// `true` if SIGINT ended it while it had the terminal.
    interrupted: bool,
}

async fn run_viewed(
    context: &Context,
    store: &Store,
    runner: &Runner,
    session: Session,
    command: PreparedCommand,
    mut signals: Signals,
    viewers: &mut Viewers,
) -> Result<Ran> {
    let id = session.id();
    // A detached owner has no controlling terminal, hence no job control. That of a terminal is the viewer's.
    let has_job = context.caller.is_none() && !viewers.have_terminal();
    let mut job = match has_job.then(Job::new).transpose() {
        Ok(job) => job,
        Err(error) => {
            store.manager().shutdown().await?;
            return Err(error);
        }
    };
    let report = match start(context, runner, session, command, &mut signals, &mut job).await {
        Ok(Ok(running)) => {
            // The program has them: a copy here would keep its pipes open and its locks held.
            close_inherited_descriptors();
            viewers.begin(context, &running);
            if let Some(caller) = &context.caller
                && !caller.is_viewer()
            {
                let announced = announce(context, &**store.manager(), id).await;
                caller.detach(
                    announced
                        .unwrap_or_else(|failure| error::print(&failure, "run", ExitCodes::Child, context)),
                );
            }
            let progress = running.session().progress().watch();
            let has_bar = context.caller.is_none() && !context.is_quiet() && !viewers.have_terminal();
            let wait = wait(context, running, signals, &mut job);
            // A detached owner has no viewer for progress, and a program with a terminal shows its own.
            if has_bar { context.term.with_progress(progress, wait).await } else { wait.await }
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
            return Ok(Ran { code: exit_code_of_signal(number), interrupted: false });
        }
    };
    // Restores the terminal before anything more is printed.
    let had_terminal = job.as_ref().is_some_and(Job::program_has_terminal) || viewers.have_terminal();
    drop(job);
    // Retires the owner, so that no files of it are left to clean up.
    let shut = store.manager().shutdown().await;
    let report = report.map_err(|error| Failure::from(error).about(id))?;
    shut?;
    let code = finish(context, store, &report, id).await?;
    let by_interrupt = report.ended == Some(Ended::Signalled(SignalKind::interrupt().as_raw_value()));
    Ok(Ran { code, interrupted: had_terminal && by_interrupt })
}

/// Starts a program. The wait for the end of an earlier run is abandoned at a signal that asks this process to end, whose
/// number is returned as an error. Once the program is being started, such a signal is kept for it.
async fn start(
    context: &Context,
    runner: &Runner,
    session: Session,
    command: PreparedCommand,
    signals: &mut Signals,
    job: &mut Option<Job>,
) -> std::result::Result<std::result::Result<Running, RunError>, i32> {
    let id = session.id();
    let permit = match abandonable(context, signals, job, runner.permit(session)).await? {
        Ok(permit) => permit,
        Err(error) => return Ok(Err(error)),
    };
    for notice in permit.notices() {
        context.hint(notice, &[id], &["show", &id.to_string()]);
    }
    let set_up = runner.set_up(permit, command.command());
    let permit = match abandonable(context, signals, job, set_up).await? {
        Ok(permit) => permit,
        Err(error) => return Ok(Err(error)),
    };
    let mut started = Box::pin(runner.run_with(permit, command));
    loop {
        tokio::select! {
            started = &mut started => return Ok(started),
            signal = next_job_signal(job) => job.iter_mut().for_each(|job| job.handle_before_start(signal)),
        }
    }
}

/// Waits for a part of a start. A signal that asks this process to end, whose number is the error, abandons it.
async fn abandonable<T>(
    context: &Context,
    signals: &mut Signals,
    job: &mut Option<Job>,
    part: impl Future<Output = T>,
) -> std::result::Result<T, i32> {
    let mut part = std::pin::pin!(part);
    loop {
        tokio::select! {
            done = &mut part => return Ok(done),
            number = signals.next_stop() => return Err(number),
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
            Ok(()) = child_state.changed() => {
                let child_state = *child_state.borrow_and_update();
                let paused_here = job.as_ref().map_or_else(|| is_stopped_from_terminal(&running), Job::is_stopping);
                if let Some(job) = job {
                    job.handle_child_state(child_state, &running).await;
                }
                if child_state == ChildState::Paused && !paused_here {
                    let id = running.id();
                    context.hint_now("session paused by request", &[id], &["resume", &id.to_string()]);
                }
            }
            signal = next_job_signal(job) => if let Some(job) = job {
                job.handle(signal, &running).await;
            },
        }
    }
}

/// Returns `true` if the session is paused by a key of its program's terminal.
fn is_stopped_from_terminal(running: &Running) -> bool {
    let is_key = |reason: &PauseReason| matches!(reason, PauseReason::Requested(text) if text == STOPPED_FROM_TERMINAL);
    matches!(running.session().head().state(), SessionState::Paused { reason, .. } if is_key(reason))
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

async fn finish(context: &Context, store: &Store, report: &RunReport, id: SessionId) -> Result<u8> {
    let typed = id.to_string();
    if context.term.json {
        print_session(context, &**store.manager(), id).await?;
    } else {
        let steps = steps_after(store, &report.head).await;
        let continuation = steps.as_ref().and_then(StepSummary::continuation);
        let continuation = continuation.map(|text| format!("; {text}")).unwrap_or_default();
        match report.head.state() {
            SessionState::Failed { error } => {
                let eaches = steps.as_ref().map(StepSummary::failed_eaches).unwrap_or_default();
                let failed = format!("session failed: {}", visible(&error.message));
                let text = [vec![failed], eaches].concat().join("; ") + &continuation;
                // A refusal has named the decision that a retry needs.
                let refused = steps.as_ref().is_some_and(|steps| steps.decision().is_some());
                let next = match steps {
                    _ if refused => "why",
                    Some(_) => "retry",
                    None => "show",
                };
                context.hint(&text, &[id], &[next, &typed]);
            }
            SessionState::Cancelled { reason } => {
                context.hint(&format!("session cancelled: {}", visible(reason)), &[id], &["show", &typed]);
            }
            SessionState::Paused { .. } => {
                let how = match report.head.lifecycle.loss {
                    Some(OwnerLoss::Stopped) => "stopped",
                    _ => "interrupted",
                };
                context.hint(&format!("session {how}{continuation}"), &[id], &["resume", &typed]);
            }
            SessionState::Created | SessionState::Running { .. } | SessionState::Completed { .. } => {}
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

/// Reads the steps of a session that has failed, or can be resumed. They are only a help here: failures are logged.
async fn steps_after(store: &Store, head: &Head) -> Option<StepSummary> {
    let is_wanted = matches!(head.state(), SessionState::Failed { .. } | SessionState::Paused { .. });
    if !is_wanted {
        return None;
    }
    match StepSummary::read(&**store.manager(), head).await {
        Ok(steps) => steps,
        Err(error) => {
            tracing::debug!(session = %head.id, %error, "could not read the steps");
            None
        }
    }
}

/// Prints what is waited for after the program has ended.
fn hint_wait(context: &Context, id: SessionId, processes: &[BackgroundProcess]) {
    let text = if processes.is_empty() {
        "the program has ended; waiting for its output, which a process outside of its tree holds (Ctrl-C ends the wait)"
            .to_owned()
    } else {
        format!("the program has ended; waiting for {} (Ctrl-C ends the wait)", named(processes))
    };
    context.hint_now(&text, &[id], &["run", "--keep-background", "--", "CMD"]);
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
