//! The main loop of a session with its program, from the start of both to the final event. It applies requests in the
//! log to the program, and records in the log what happens to the program.

mod questions;
mod requests;
mod terminal;
mod waiting;

pub use self::questions::ASK_HOOK_FAILED;
use self::questions::{HookFailure, QuestionAnnouncer};
pub use self::terminal::{STOPPED_FROM_TERMINAL, TERMINAL_RESIZED};

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use session_core::backend::SessionLock;
use session_core::{Head, Result, Session, StopSource};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::ask_hook::AskHook;
use crate::child_state::{ChildState, LocalRequest};
use crate::command::Command;
use crate::exit::signal_name;
use crate::linger::Linger;
use crate::outcome::{EndReason, Outcome, RunReport};
use crate::output::capture::Capture;
use crate::report::osc::TerminalProgress;
use crate::report::socket::ReportSocket;
use crate::run_log::RunLog;
use crate::run_state::{Phase, RunState, TreeState};
use crate::stops::{SAME_STOP, SharedStops, is_in_foreground, is_result, may_be_stop};
use crate::supervisor::client::{Orders, Reports, Supervised};
use crate::supervisor::leftovers;
use crate::supervisor::messages::{Background, BackgroundProcess, Ended, ORPHAN_GRACE, Report};
use crate::terminal::handle::TerminalEvent;
use crate::workplace::Completion;

/// Delay between a failed attempt to write to the log and the next one.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Delay between the end of the program and its record, if the session has not ended by then.
const RECORD_DELAY: Duration = Duration::from_millis(200);

/// Turns of the runtime that a signal needs at most from the kernel to this loop, with some to spare.
const SETTLING_YIELDS: usize = 16;

/// A session with its running program.
#[derive(Debug)]
pub(crate) struct RunLoop {
    pub(crate) session: Session,
    pub(crate) pid: u32,
    pub(crate) orders: Orders,
    reports: Reports,
    pub(crate) capture: Capture,
    pub(crate) child_state: watch::Sender<ChildState>,
    /// The background processes that are waited for after the program has ended, once that takes long.
    pub(crate) lingering: watch::Sender<Option<Vec<BackgroundProcess>>>,
    socket: ReportSocket,
    lock: Option<SessionLock>,
    log: RunLog,
    command: Command,
    started: Instant,
    state: RunState,
    questions: QuestionAnnouncer,
    completion: Option<Arc<dyn Completion>>,
}

impl RunLoop {
    pub(crate) fn new(
        session: Session,
        command: &Command,
        supervised: Supervised,
        capture: Capture,
        socket: ReportSocket,
        lock: Option<SessionLock>,
        stops: SharedStops,
    ) -> Self {
        let Supervised { pid, orders, reports } = supervised;
        let started = Instant::now();
        let state = RunState::new(started, stops);
        let (log, command) = (RunLog::new(session.clone(), command.to_string()), command.clone());
        let questions = QuestionAnnouncer::new(session.clone(), capture.terminal().cloned());
        let (child_state, lingering) = (watch::Sender::default(), watch::Sender::default());
        Self {
            session,
            pid,
            orders,
            reports,
            capture,
            child_state,
            lingering,
            socket,
            lock,
            log,
            command,
            started,
            state,
            questions,
            completion: None,
        }
    }

    /// Sets the work that follows when the program has succeeded.
    pub(crate) fn with_completion(mut self, completion: Option<Arc<dyn Completion>>) -> Self {
        self.completion = completion;
        self
    }

    /// Sets the hook for questions.
    pub(crate) fn with_ask_hook(mut self, hook: Option<AskHook>) -> Self {
        self.questions.set_hook(hook);
        self
    }

    /// Runs to the end. `handle_dropped` completes when the caller drops its handle.
    pub(crate) async fn run(
        mut self,
        mut handle_dropped: oneshot::Receiver<()>,
        mut local_requests: watch::Receiver<Option<LocalRequest>>,
        mut stop_signals: mpsc::UnboundedReceiver<i32>,
    ) -> Result<RunReport> {
        let session = self.session.clone();
        let mut view = session.watch();
        let (mut progress, mut activity) = (self.capture.progress(), self.capture.activity());
        let mut terminal_events = self.capture.take_terminal_events();
        let (mut progress_ended, mut handle_held) = (false, true);
        let mut fenced = std::pin::pin!(session.fenced());
        // The program may have asked before this loop began to watch.
        self.on_head(&session.head()).await;
        while self.state.phase != Phase::Delivered || self.state.judge_at.is_some() {
            let limit = session.config().deadline_ms.map(Duration::from_millis);
            let (deadline, retry_at) = (self.state.deadline(limit), self.state.retry_at);
            let (linger_at, judge_at) = (self.state.linger_at(), self.state.judge_at);
            let record_at = self.state.record_at;
            tokio::select! {
                report = self.reports.next(), if self.state.phase == Phase::Supervised => match report {
                    Some(report) => {
                        if matches!(report, Report::Ended { .. }) {
                            settle().await;
                        }
                        while let Ok(signal) = stop_signals.try_recv() {
                            self.on_stop_signal(signal).await;
                        }
                        // A key is noted before the program gets its signal.
                        while let Ok(event) = terminal_events.try_recv() {
                            self.on_terminal_event(event).await;
                        }
                        self.on_report(report).await;
                    }
                    None => self.tree_has_ended().await,
                },
                () = self.capture.ended(), if self.state.phase == Phase::Delivering => {
                    self.state.phase = Phase::Delivered;
                }
                error = &mut fenced, if !self.state.is_fenced() => self.end(EndReason::Fenced(error), ORPHAN_GRACE).await,
                Ok(()) = view.changed(), if !self.state.is_fenced() => {
                    let head = view.borrow_and_update().clone();
                    self.on_head(&head).await;
                }
                Ok(()) = local_requests.changed() => {
                    self.state.request.clone_from(&local_requests.borrow_and_update());
                    self.reconcile(&session.head()).await;
                }
                Some(failure) = self.questions.next_failure() => {
                    let HookFailure { question, problem } = failure;
                    let data = json!({ "question": question, "problem": problem });
                    self.log.note(&self.state, ASK_HOOK_FAILED, data).await;
                }
                Some(signal) = stop_signals.recv() => self.on_stop_signal(signal).await,
                Some(event) = terminal_events.recv() => self.on_terminal_event(event).await,
                Ok(()) = activity.changed() => {
                    let now = *activity.borrow_and_update();
                    self.on_activity(now).await;
                }
                () = sleep_until(retry_at) => {
                    self.state.retry_at = None;
                    self.reconcile(&session.head()).await;
                }
                () = sleep_until(deadline) => {
                    self.end(EndReason::Deadline(limit.unwrap_or_default()), self.command.grace).await;
                }
                () = sleep_until(linger_at) => self.on_linger_timer().await,
                () = sleep_until(judge_at) => self.judge(true),
                () = sleep_until(record_at) => self.record_end().await,
                changed = progress.changed(), if !progress_ended => match changed {
                    Ok(()) => {
                        if let Some(TerminalProgress::Percent(percent)) = *progress.borrow_and_update() {
                            // Refused after the end, which is harmless.
                            let _ = session.progress().set_percent(f64::from(percent));
                        }
                    }
                    Err(_) => progress_ended = true,
                },
                _ = &mut handle_dropped, if handle_held => {
                    handle_held = false;
                    self.end(EndReason::Dropped, ORPHAN_GRACE).await;
                }
            }
        }
        // The last size comes with the end of the output.
        while let Ok(event) = terminal_events.try_recv() {
            if let TerminalEvent::Resized(size) = event {
                self.record_size(size).await;
            }
        }
        self.finish().await
    }

    /// Takes note of what the log says now.
    async fn on_head(&mut self, head: &Head) {
        self.state.set_waiting(head.is_waiting());
        self.questions.announce(head);
        self.reconcile(head).await;
    }

    /// Ends the tree. A program that has ended before keeps its own outcome.
    async fn end(&mut self, end_reason: EndReason, grace: Duration) {
        // First: the end of a command is reported by its client as soon as it has ended.
        self.state.stops.lock().set_ending();
        self.orders.end(grace, self.state.spared_by(&end_reason, self.command.keep_background)).await;
        self.state.linger.iter_mut().for_each(Linger::set_over);
        self.capture.hurry();
        self.state.order_end(end_reason);
        // Its supervisor continues it, and a program that cleans up may need its terminal.
        if self.state.tree != TreeState::Running {
            self.state.tree = TreeState::Running;
            self.child_state.send_replace(ChildState::Running);
        }
    }

    async fn on_report(&mut self, report: Report) {
        match report {
            Report::Halted => self.on_halted().await,
            Report::Signalled { signal } => {
                let data = json!({ "signal": signal, "name": signal_name(signal) });
                self.log.note(&self.state, "session.signal", data).await;
            }
            Report::Ended { status, background } => self.first_process_has_ended(status, background).await,
            Report::Background { processes } => {
                self.state.linger.iter_mut().for_each(|linger| linger.set_background(processes.clone()));
            }
            Report::Ending { processes } => {
                self.log
                    .note(&self.state, "session.background_ended", json!({ "processes": processes }))
                    .await;
                self.state.ended_background.extend(processes);
            }
            Report::Escaped { processes } => {
                self.log.note(&self.state, "session.escaped", json!({ "processes": processes })).await;
                self.state.escaped = processes;
                if !self.state.escaped.is_empty() {
                    // They may live for any time, and so may their supervisor.
                    self.tree_has_ended().await;
                }
            }
            Report::Empty => self.state.tree_ended = true,
            Report::Left { processes } => {
                self.log.note(&self.state, "session.left_running", json!({ "processes": processes })).await;
                self.state.left_running = processes;
                self.state.tree_ended = true;
            }
            Report::Stopped { .. } if self.capture.terminal().is_some() => {
                self.pause_by_terminal().await;
            }
            Report::Stopped { signal } if self.state.tree == TreeState::Running => {
                self.child_state.send_replace(ChildState::Stopped { signal });
            }
            Report::Continued if self.state.tree == TreeState::Running => {
                self.child_state.send_replace(ChildState::Running);
            }
            Report::Started { .. }
            | Report::NotStarted { .. }
            | Report::Stopped { .. }
            | Report::Continued => {}
        }
    }

    /// Begins the wait for what the first process has left. This is the one place that learns of its end.
    async fn first_process_has_ended(&mut self, status: Ended, background: Vec<Background>) {
        let now = Instant::now();
        self.state.ended = Some((status, self.started.elapsed()));
        // The keys of a terminal of its own are known as they are typed.
        self.state.was_in_foreground = self.capture.terminal().is_none() && is_in_foreground(self.pid);
        self.state.record_at = now.checked_add(RECORD_DELAY);
        self.judge(false);
        let silence = if self.state.was_stopped(now) {
            self.command.silence().min(ORPHAN_GRACE)
        } else {
            self.command.silence()
        };
        let mut linger = Linger::new(now, silence, self.command.keep_background, background);
        linger.on_output(now, self.capture.activity().borrow().open > 0);
        let leaves = !linger.background().is_empty();
        if leaves {
            self.child_state.send_replace(ChildState::Ended);
        }
        self.state.linger = Some(linger);
        if self.state.end_is_ordered {
            self.state.linger = None;
        } else if leaves {
            self.record_end().await;
        }
    }

    /// Decides whether a stop led to the end of the program. If the same signal may still reach this process, it is decided
    /// then, or after a second: `now` is `true`.
    fn judge(&mut self, now: bool) {
        let Some((ended, took)) = self.state.ended else { return };
        let at = self.started + took;
        let cause = self.state.stops.lock().cause_of(ended, at, self.state.was_in_foreground);
        if cause.is_none() && !now && may_be_stop(ended) {
            self.state.judge_at = at.checked_add(SAME_STOP);
            return;
        }
        self.state.judge_at = None;
        self.state.stop = match self.state.end_reason {
            // Paused until then, so the end is not the program's own.
            Some(EndReason::Stopped(stop)) => Some(stop),
            _ => cause.filter(|stop| !is_result(*stop, ended, self.command.complete_on_term)),
        };
    }

    /// Records the end of the program, once it is known whether a stop led to it.
    async fn record_end(&mut self) {
        self.state.record_at = self.state.judge_at;
        if self.state.judge_at.is_none() && !self.state.end_is_recorded && !self.state.end_is_ordered {
            let bytes = self.capture.activity().borrow().bytes;
            self.state.end_is_recorded = self.log.record_end(&self.state, bytes).await;
        }
    }

    /// Takes note of a stop signal to the program. One that is paused is ended; after the end of the first process, the
    /// wait ends.
    async fn on_stop_signal(&mut self, signal: i32) {
        let first = self.state.stops.lock().add(signal, StopSource::Signal, Instant::now());
        if first && self.state.ended.is_none() && !self.state.is_fenced() {
            self.log.record_stop_request(signal).await;
        }
        if self.state.judge_at.is_some() {
            self.judge(false);
        }
        if self.state.ended.is_none() && self.state.tree != TreeState::Running {
            self.end_by_stop(signal).await;
        }
        self.hurry_after_end();
    }

    /// Reads and delivers the rest of the output, now that the supervisor is gone.
    async fn tree_has_ended(&mut self) {
        if !self.state.tree_ended && self.state.escaped.is_empty() {
            // The supervisor was killed: only this process can still end the tree.
            leftovers::kill(self.socket.path()).await;
        }
        self.state.stop_clock();
        self.state.phase = Phase::Delivering;
        self.capture.stop_reading();
        if self.state.ended.is_none()
            || self.state.was_stopped(Instant::now())
            || !self.state.escaped.is_empty()
        {
            self.capture.hurry();
        }
    }

    /// Records the outcome in the log.
    async fn finish(mut self) -> Result<RunReport> {
        let captured = self.capture.take();
        self.socket.close();
        if let Some(held) = self.lock.take().and_then(|lock| lock.try_acquire().ok().flatten()) {
            held.release();
        }
        let first_end = self.state.ended.map(|(ended, _)| ended);
        let outcome = Outcome {
            session: &self.session,
            executed: (!self.state.end_is_recorded)
                .then(|| self.log.executed(&self.state, captured.bytes))
                .flatten(),
            captured: &captured,
            ended: first_end,
            end_reason: self.state.end_reason.as_ref(),
            stop: self.state.stop,
            reader_is_gone: self.state.readers_gone.contains(&true),
            completion: self.completion.as_deref(),
        };
        outcome.write().await?;
        if self.session.head().state().is_final() {
            self.socket.forget_left();
        }
        Ok(RunReport {
            head: self.session.head(),
            attempt: self.session.attempt(),
            ended: first_end,
            escaped: self.state.escaped,
            left_running: self.state.left_running,
            ended_background: self.state.ended_background,
            output_bytes: captured.bytes,
        })
    }
}

/// Lets signals through that this process got before the program ended, so that they are known when that is judged: a
/// shutdown sends TERM to both.
async fn settle() {
    for _ in 0..SETTLING_YIELDS {
        tokio::task::yield_now().await;
    }
}

async fn sleep_until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
