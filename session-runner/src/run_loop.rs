//! The main loop of a session with its program, from the start of both to the final event. It applies requests in the
//! log to the program, and records in the log what happens to the program.

use std::time::Duration;

use serde_json::json;
use session_core::{Durability, Head, PauseReason, Result, Session, SessionError, SessionLock, SessionState};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use crate::child_state::{ChildState, LocalRequest};
use crate::command::Command;
use crate::exit::signal_name;
use crate::outcome::{EndReason, Outcome, RunReport};
use crate::output::capture::Capture;
use crate::report::osc::TerminalProgress;
use crate::report::socket::ReportSocket;
use crate::supervisor::client::{Orders, Reports, Supervised};
use crate::supervisor::leftovers;
use crate::supervisor::messages::{Ended, Escaped, ORPHAN_GRACE, Report};

/// Delay between a failed attempt to write to the log and the next one.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// A session with its running program.
#[derive(Debug)]
pub(crate) struct RunLoop {
    pub(crate) session: Session,
    pub(crate) pid: u32,
    pub(crate) orders: Orders,
    reports: Reports,
    pub(crate) capture: Capture,
    pub(crate) child_state: watch::Sender<ChildState>,
    socket: ReportSocket,
    lock: Option<SessionLock>,
    command: String,
    grace: Duration,
    started: Instant,
    state: RunState,
}

/// The state of the run so far.
#[derive(Debug, Default)]
struct RunState {
    tree: TreeState,
    /// The request of the owner's process that is not fulfilled yet.
    request: Option<LocalRequest>,
    /// The reason why the tree is being ended, if it is.
    end_reason: Option<EndReason>,
    ended: Option<Ended>,
    escaped: Vec<Escaped>,
    /// `true` once the supervisor has reported that no process is left.
    tree_empty: bool,
    /// Time spent running before `running_since`.
    ran_for: Duration,
    /// Start of the current running period; `None` while it is paused.
    running_since: Option<Instant>,
    /// The time of the next attempt, if a requested change could not be written to the log.
    retry_at: Option<Instant>,
}

/// The run state of the process tree.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum TreeState {
    #[default]
    Running,
    Halting,
    Halted,
}

impl RunLoop {
    pub(crate) fn new(
        session: Session,
        command: &Command,
        supervised: Supervised,
        capture: Capture,
        socket: ReportSocket,
        lock: Option<SessionLock>,
    ) -> Self {
        let Supervised { pid, orders, reports } = supervised;
        let started = Instant::now();
        let state = RunState { running_since: Some(started), ..RunState::default() };
        let (command, grace) = (command.to_string(), command.grace);
        let child_state = watch::Sender::default();
        Self {
            session,
            pid,
            orders,
            reports,
            capture,
            child_state,
            socket,
            lock,
            command,
            grace,
            started,
            state,
        }
    }

    /// Runs to the end. `handle_dropped` completes when the caller drops its handle.
    pub(crate) async fn run(
        mut self,
        mut handle_dropped: oneshot::Receiver<()>,
        mut local_requests: watch::Receiver<Option<LocalRequest>>,
    ) -> Result<RunReport> {
        let session = self.session.clone();
        let mut view = session.watch();
        let mut progress = self.capture.progress();
        let (mut progress_ended, mut handle_held) = (false, true);
        let mut fenced = std::pin::pin!(session.fenced());
        self.reconcile(&session.head()).await;
        while self.state.escaped.is_empty() {
            let deadline = self.deadline();
            let retry_at = self.state.retry_at;
            tokio::select! {
                report = self.reports.next() => match report {
                    Some(report) => self.on_report(report).await,
                    None => break,
                },
                error = &mut fenced, if !self.is_fenced() => self.end(EndReason::Fenced(error), ORPHAN_GRACE).await,
                Ok(()) = view.changed(), if !self.is_fenced() => {
                    let head = view.borrow_and_update().clone();
                    self.reconcile(&head).await;
                }
                Ok(()) = local_requests.changed() => {
                    self.state.request.clone_from(&local_requests.borrow_and_update());
                    self.reconcile(&session.head()).await;
                }
                () = sleep_until(retry_at) => {
                    self.state.retry_at = None;
                    self.reconcile(&session.head()).await;
                }
                () = sleep_until(deadline) => {
                    let limit = Duration::from_millis(session.config().deadline_ms.unwrap_or(0));
                    self.end(EndReason::Deadline(limit), self.grace).await;
                }
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
        self.finish().await
    }

    const fn is_fenced(&self) -> bool {
        matches!(self.state.end_reason, Some(EndReason::Fenced(_)))
    }

    /// Reconciles the program with the requests in the log and of the owner's process.
    async fn reconcile(&mut self, head: &Head) {
        let (requests, state) = (&head.lifecycle.requests, head.state());
        if let Some(cancel) = &requests.cancel {
            let grace = if cancel.force { Duration::ZERO } else { self.grace };
            match &mut self.state.end_reason {
                None => self.cancel(cancel.reason.clone(), cancel.force).await,
                Some(EndReason::Cancelled { force, .. }) if cancel.force && !*force => {
                    *force = true;
                    self.orders.end(grace).await;
                }
                Some(_) => {}
            }
            return;
        }
        if self.state.ended.is_some() || self.state.end_reason.is_some() {
            return;
        }
        let paused = matches!(state, SessionState::Paused { .. });
        let (pause, resume) = match &self.state.request {
            Some(LocalRequest::Pause(_)) => (true, false),
            Some(LocalRequest::Resume) => (false, true),
            None => (false, false),
        };
        match self.state.tree {
            TreeState::Running if paused || requests.pause.is_some() || pause => {
                self.state.tree = TreeState::Halting;
                self.orders.halt().await;
            }
            TreeState::Halted if !paused => self.continue_tree().await,
            TreeState::Halted if requests.resume.is_some() || resume => {
                // The log first: an owner that lost the session must not continue the program.
                match self.session.resume().await {
                    Ok(_) => self.continue_tree().await,
                    Err(error) => self.retry_later("resume", &error),
                }
            }
            // The request asks for the current state: it is fulfilled.
            TreeState::Running | TreeState::Halted => self.state.request = None,
            TreeState::Halting => {}
        }
    }

    async fn cancel(&mut self, reason: String, force: bool) {
        if self.state.ended.is_some() {
            // A program that ended before the cancel was seen keeps its own outcome. A forced cancel still kills its
            // leftovers.
            if force {
                self.orders.end(Duration::ZERO).await;
            }
            return;
        }
        let grace = if force { Duration::ZERO } else { self.grace };
        self.end(EndReason::Cancelled { reason, force }, grace).await;
    }

    async fn end(&mut self, end_reason: EndReason, grace: Duration) {
        self.orders.end(grace).await;
        let keep = matches!(
            (&self.state.end_reason, &end_reason),
            (Some(_), EndReason::Dropped | EndReason::Deadline(_) | EndReason::Cancelled { .. })
        );
        if !keep {
            self.state.end_reason = Some(end_reason);
        }
        // Its supervisor continues it, and a program that cleans up may need its terminal.
        if self.state.tree == TreeState::Halted {
            self.state.tree = TreeState::Running;
            self.child_state.send_replace(ChildState::Running);
        }
    }

    async fn continue_tree(&mut self) {
        self.state.tree = TreeState::Running;
        self.state.request = None;
        self.state.running_since = Some(Instant::now());
        self.orders.resume().await;
        self.child_state.send_replace(ChildState::Running);
    }

    async fn on_report(&mut self, report: Report) {
        match report {
            Report::Halted => self.on_halted().await,
            Report::Signalled { signal } => {
                self.note("session.signal", json!({ "signal": signal, "name": signal_name(signal) })).await;
            }
            Report::Ended { status } => {
                self.state.ended = Some(status);
                self.state.stop_clock();
            }
            Report::Escaped { processes } => {
                self.note("session.escaped", json!({ "processes": processes })).await;
                self.state.escaped = processes;
            }
            Report::Empty => self.state.tree_empty = true,
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

    async fn on_halted(&mut self) {
        if self.state.tree != TreeState::Halting {
            return;
        }
        // A caller that is notified of the pause may write to the same terminal next.
        self.capture.wait_until_drained().await;
        let log_reason = self.session.head().lifecycle.requests.pause.map(|pause| pause.reason);
        let request = self.state.request.clone();
        let local_reason = match &request {
            Some(LocalRequest::Pause(reason)) => Some(reason.clone()),
            Some(LocalRequest::Resume) | None => None,
        };
        match self
            .session
            .pause(PauseReason::Requested(log_reason.or(local_reason).unwrap_or_default()))
            .await
        {
            Ok(_) => {
                self.state.stop_clock();
                self.state.tree = TreeState::Halted;
                self.child_state.send_replace(ChildState::Paused);
            }
            Err(error) => {
                self.continue_tree().await;
                self.state.request = request;
                self.retry_later("pause", &error);
            }
        }
    }

    fn retry_later(&mut self, action: &str, error: &SessionError) {
        tracing::warn!(session = %self.session.id(), %error, code = %error.code(), "could not {action}, will retry");
        self.state.retry_at = Some(Instant::now() + RETRY_DELAY);
    }

    /// Returns the time at which the attempt reaches its deadline. Paused time is not counted.
    fn deadline(&self) -> Option<Instant> {
        let limit = Duration::from_millis(self.session.config().deadline_ms?);
        let running_since = self
            .state
            .running_since
            .filter(|_| self.state.end_reason.is_none() && self.state.ended.is_none())?;
        running_since.checked_add(limit.saturating_sub(self.state.ran_for))
    }

    /// Records a note. A failure to do so is logged and does not end the program.
    async fn note(&self, kind: &str, data: serde_json::Value) {
        if self.is_fenced() {
            return;
        }
        if let Err(error) = self.session.note(kind, data, Durability::Buffered).await {
            tracing::warn!(session = %self.session.id(), %error, kind, "could not record a note");
        }
    }

    /// Reads the rest of the output once the tree is gone, and records the outcome in the log.
    async fn finish(mut self) -> Result<RunReport> {
        if !self.state.tree_empty && self.state.escaped.is_empty() {
            // The supervisor was killed: only this process can still end the tree.
            leftovers::kill(self.socket.path()).await;
        }
        let capture = self.capture;
        let captured = capture.finish().await;
        drop(self.socket);
        if let Some(held) = self.lock.take().and_then(|lock| lock.try_acquire().ok().flatten()) {
            held.release();
        }
        let outcome = Outcome {
            session: &self.session,
            command: &self.command,
            duration: self.started.elapsed(),
            captured: &captured,
            ended: self.state.ended,
            end_reason: self.state.end_reason.as_ref(),
        };
        outcome.write().await?;
        Ok(RunReport::new(
            self.session.head(),
            self.session.attempt(),
            self.state.ended,
            self.state.escaped,
            captured.bytes,
        ))
    }
}

impl RunState {
    fn stop_clock(&mut self) {
        if let Some(running_since) = self.running_since.take() {
            self.ran_for += running_since.elapsed();
        }
    }
}

async fn sleep_until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
