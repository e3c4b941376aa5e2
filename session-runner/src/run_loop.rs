//! A session with its program, from the moment both run to the ending in the log. What was asked for in the log is done
//! to the program; what becomes of the program goes to the log.

use std::time::Duration;

use serde_json::json;
use session_core::{
    Durability, ErrorCode, Head, PauseReason, ProgressReport, Result, Session, SessionError, SessionLock,
    SessionState, StorageError,
};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use crate::capture::Capture;
use crate::child_state::{ChildState, LocalRequest};
use crate::command::Command;
use crate::exit::signal_name;
use crate::osc::TerminalProgress;
use crate::outcome::{EndReason, Outcome};
use crate::running::RunReport;
use crate::socket::{Refusal, ReportSocket};
use crate::supervisor::protocol::{Ended, Escaped, Report};
use crate::supervisor_client::{ORPHAN_GRACE, Orders, Reports, Supervised};

/// How long after a failed attempt to write to the log the next one is made.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// A session with its program.
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

/// What is known of the run so far.
#[derive(Debug, Default)]
struct RunState {
    tree: TreeState,
    /// What the owner's process wants and does not have yet.
    request: Option<LocalRequest>,
    /// Why the tree is being ended, if it is.
    end_reason: Option<EndReason>,
    ended: Option<Ended>,
    escaped: Vec<Escaped>,
    /// Whether the supervisor saw the tree to its end.
    tree_empty: bool,
    /// Time spent running before `running_since`.
    ran_for: Duration,
    /// Since when it runs; `None` while it is paused.
    running_since: Option<Instant>,
    /// Something that was asked for could not be written to the log, and is tried again then.
    retry_at: Option<Instant>,
}

/// Whether the tree runs.
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

    /// Runs to the end. Once `handle_dropped` is closed, nobody is interested any more.
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
                            // After the end it is refused, and that is all.
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

    /// Brings the program to where the log says that it should be, and the log to where the program is.
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
                // First the log: somebody who lost the session must not let the program go on.
                match self.session.resume().await {
                    Ok(_) => self.continue_tree().await,
                    Err(error) => self.retry_later("resume", &error),
                }
            }
            // Whoever wants what is so already has it.
            TreeState::Running | TreeState::Halted => self.state.request = None,
            TreeState::Halting => {}
        }
    }

    async fn cancel(&mut self, reason: String, force: bool) {
        if self.state.ended.is_some() {
            // Work that finished before the cancel was seen has finished. What it left behind can still be hurried.
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
        // Its supervisor continues it, and a program that cleans up may want its terminal for that.
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
        // Whoever is told of the pause next may show something else where the output goes.
        self.capture.wait_until_drained().await;
        let asked = self.session.head().lifecycle.requests.pause.map(|pause| pause.reason);
        let request = self.state.request.clone();
        let wished = match &request {
            Some(LocalRequest::Pause(reason)) => Some(reason.clone()),
            Some(LocalRequest::Resume) | None => None,
        };
        match self.session.pause(PauseReason::Requested(asked.or(wished).unwrap_or_default())).await {
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

    fn retry_later(&mut self, what: &str, error: &SessionError) {
        tracing::warn!(session = %self.session.id(), %error, code = %error.code(), "could not {what}, will try again");
        self.state.retry_at = Some(Instant::now() + RETRY_DELAY);
    }

    /// When the attempt has run for as long as it may. Time that it is paused does not count.
    fn deadline(&self) -> Option<Instant> {
        let limit = Duration::from_millis(self.session.config().deadline_ms?);
        let running_since = self
            .state
            .running_since
            .filter(|_| self.state.end_reason.is_none() && self.state.ended.is_none())?;
        running_since.checked_add(limit.saturating_sub(self.state.ran_for))
    }

    /// A note is worth having; no work ends for the want of one.
    async fn note(&self, kind: &str, data: serde_json::Value) {
        if self.is_fenced() {
            return;
        }
        if let Err(error) = self.session.note(kind, data, Durability::Buffered).await {
            tracing::warn!(session = %self.session.id(), %error, kind, "could not keep a note");
        }
    }

    /// The tree is gone: takes what is left of its output, and says in the log how it ended.
    async fn finish(mut self) -> Result<RunReport> {
        if !self.state.tree_empty && self.state.escaped.is_empty() {
            // The supervisor was killed: there is nobody else who could end what it watched over.
            crate::leftovers::kill(self.socket.path()).await;
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

/// Takes a child's report, once the session runs.
pub(crate) async fn accept_report(session: Session, report: ProgressReport) -> Result<(), Refusal> {
    let mut view = session.watch();
    while !session.progress().is_ended()
        && matches!(view.borrow_and_update().state(), SessionState::Paused { .. })
    {
        if view.changed().await.is_err() {
            break;
        }
    }
    if session.progress().is_ended() {
        return Err(Refusal::new(ErrorCode::Fenced, "the session has ended, or somebody else runs it"));
    }
    session.progress().report(report).map_err(|error| {
        let error = StorageError::from(error);
        Refusal::new(error.code(), error.to_string())
    })
}

async fn sleep_until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
