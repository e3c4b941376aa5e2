//! Runs the program of a session that this process owns: forwards signals, shows its output, and returns its exit code.
//!
//! The process is either in the foreground of its caller, or a detached owner in the background.

use nix::sys::signal::Signal;
use sessionkit::log::OwnerLoss;
use sessionkit::runner::{
    BackgroundProcess, ChildState, Command, Ended, Forwarding, RunReport, Runner, Running, Stdin,
    close_inherited_descriptors,
};
use sessionkit::{Session, SessionError, SessionId, SessionManager, SessionState, Store, text::visible};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::context::Context;
use crate::error::{Failure, Result};
use crate::job::Job;
use crate::job_signals::JobSignal;
use crate::verb::print_session;

/// Signals that are forwarded to the program. Not those that report a fault of the process that gets them, nor those
/// that stop and continue it, which job control handles.
const FORWARDED: [Signal; 14] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGVTALRM,
    Signal::SIGPROF,
    Signal::SIGIO,
    Signal::SIGURG,
    Signal::SIGWINCH,
    Signal::SIGPWR,
    Signal::SIGSTKFLT,
];
/// Signals that end a start.
const STOPS: [Signal; 4] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];
/// Signals in the queue between their arrival and their forwarding.
const QUEUE: usize = 64;

/// Background processes that are named in one line.
const MAX_NAMES: usize = 5;

/// Configures stdin and output forwarding for a foreground or detached run.
pub(crate) fn command(command: Command, context: &Context) -> Command {
    let (here, json) = (context.caller.is_none(), context.term.json);
    let command = command.umask(context.umask.as_raw_mode());
    let command = command.stdin(if here { Stdin::Inherit } else { Stdin::Null });
    command.pass_on(if here && !json { Forwarding::Inherit } else { Forwarding::Nothing })
}

/// Receiver of the forwarded signals.
pub(crate) struct Signals {
    receiver: mpsc::Receiver<i32>,
    /// Signals that came before there was a program.
    early: Vec<i32>,
}

impl Signals {
    /// Starts receiving these signals; they no longer end this process. A signal that was ignored when this process was
    /// started stays ignored, as `nohup` requires.
    pub(crate) fn catch() -> Result<Self> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        for number in FORWARDED.map(|signal| signal as i32) {
            if session_inherit::is_ignored(number) {
                continue;
            }
            let mut caught = signal(SignalKind::from_raw(number))
                .map_err(|error| Failure::chain(sessionkit::ErrorCode::StorageUnavailable, &error))?;
            let sender = sender.clone();
            tokio::spawn(async move {
                while caught.recv().await.is_some() && sender.send(number).await.is_ok() {}
            });
        }
        Ok(Self { receiver, early: Vec::new() })
    }

    /// Returns the number of the next signal.
    pub(crate) async fn next(&mut self) -> i32 {
        match self.early.pop() {
            Some(number) => number,
            None => self.receive().await,
        }
    }

    /// Returns the number of the next signal that asks this process to end; the others are kept for the program.
    async fn next_stop(&mut self) -> i32 {
        loop {
            let number = self.receive().await;
            if STOPS.iter().any(|stop| *stop as i32 == number) {
                return number;
            }
            self.early.insert(0, number);
        }
    }

    async fn receive(&mut self) -> i32 {
        match self.receiver.recv().await {
            Some(number) => number,
            // All of them are ignored.
            None => std::future::pending().await,
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
            // The program has them: a copy here would keep its pipes open and its locks held.
            close_inherited_descriptors();
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
            SessionState::Paused { .. } => {
                let how = match report.head.lifecycle.loss {
                    Some(OwnerLoss::Stopped) => "stopped",
                    _ => "interrupted",
                };
                context.hint(&format!("session {how}"), &[id], &["resume", &typed]);
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
