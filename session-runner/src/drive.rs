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
use crate::command::Command;
use crate::ending::{Closing, Why};
use crate::exit::signal_name;
use crate::osc::TerminalProgress;
use crate::running::RunReport;
use crate::socket::{Refusal, ReportSocket};
use crate::standing::{ChildState, Wish};
use crate::supervised::{ORPHAN_GRACE, Orders, Reports, Supervised};
use crate::supervisor::protocol::{Ended, Escaped, Report};

/// How long after a failed attempt to write to the log the next one is made.
const AGAIN: Duration = Duration::from_secs(1);

/// A session with its program.
#[derive(Debug)]
pub(crate) struct Drive {
    pub(crate) session: Session,
    pub(crate) pid: u32,
    pub(crate) orders: Orders,
    reports: Reports,
    pub(crate) capture: Capture,
    pub(crate) standing: watch::Sender<ChildState>,
    socket: ReportSocket,
    lock: Option<SessionLock>,
    command: String,
    grace: Duration,
    started: Instant,
    course: Course,
}

/// What is known of the run so far.
#[derive(Debug, Default)]
struct Course {
    stand: Stand,
    /// What the owner's process wants and does not have yet.
    wish: Option<Wish>,
    /// Why the tree is being ended, if it is.
    why: Option<Why>,
    ended: Option<Ended>,
    escaped: Vec<Escaped>,
    /// Whether the supervisor saw the tree to its end.
    empty: bool,
    /// Time spent running before `since`.
    ran: Duration,
    /// Since when it runs; `None` while it is paused.
    since: Option<Instant>,
    /// Something that was asked for could not be written to the log, and is tried again then.
    again: Option<Instant>,
}

/// Whether the tree runs.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Stand {
    #[default]
    Runs,
    Halting,
    Still,
}

impl Drive {
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
        let course = Course { since: Some(started), ..Course::default() };
        let (command, grace) = (command.to_string(), command.grace);
        let standing = watch::Sender::default();
        Self {
            session,
            pid,
            orders,
            reports,
            capture,
            standing,
            socket,
            lock,
            command,
            grace,
            started,
            course,
        }
    }

    /// Runs to the end. Once `kept` is closed, nobody is interested any more.
    pub(crate) async fn run(
        mut self,
        mut kept: oneshot::Receiver<()>,
        mut wishes: watch::Receiver<Option<Wish>>,
    ) -> Result<RunReport> {
        let session = self.session.clone();
        let mut view = session.watch();
        let mut progress = self.capture.progress();
        let (mut progress_ended, mut wanted) = (false, true);
        let mut lost = std::pin::pin!(session.fenced());
        self.answer(&session.head()).await;
        while self.course.escaped.is_empty() {
            let deadline = self.deadline();
            let again = self.course.again;
            tokio::select! {
                report = self.reports.next() => match report {
                    Some(report) => self.hear(report).await,
                    None => break,
                },
                error = &mut lost, if !self.is_lost() => self.end(Why::Fenced(error), ORPHAN_GRACE).await,
                Ok(()) = view.changed(), if !self.is_lost() => {
                    let head = view.borrow_and_update().clone();
                    self.answer(&head).await;
                }
                Ok(()) = wishes.changed() => {
                    self.course.wish.clone_from(&wishes.borrow_and_update());
                    self.answer(&session.head()).await;
                }
                () = until(again) => {
                    self.course.again = None;
                    self.answer(&session.head()).await;
                }
                () = until(deadline) => {
                    let limit = Duration::from_millis(session.config().deadline_ms.unwrap_or(0));
                    self.end(Why::Deadline(limit), self.grace).await;
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
                _ = &mut kept, if wanted => {
                    wanted = false;
                    self.end(Why::Dropped, ORPHAN_GRACE).await;
                }
            }
        }
        self.settle().await
    }

    const fn is_lost(&self) -> bool {
        matches!(self.course.why, Some(Why::Fenced(_)))
    }

    /// Brings the program to where the log says that it should be, and the log to where the program is.
    async fn answer(&mut self, head: &Head) {
        let (requests, state) = (&head.lifecycle.requests, head.state());
        if let Some(cancel) = &requests.cancel {
            let grace = if cancel.force { Duration::ZERO } else { self.grace };
            match &mut self.course.why {
                None => self.cancel(cancel.reason.clone(), cancel.force).await,
                Some(Why::Cancelled { force, .. }) if cancel.force && !*force => {
                    *force = true;
                    self.orders.end(grace).await;
                }
                Some(_) => {}
            }
            return;
        }
        if self.course.ended.is_some() || self.course.why.is_some() {
            return;
        }
        let paused = matches!(state, SessionState::Paused { .. });
        let (pause, resume) = match &self.course.wish {
            Some(Wish::Pause(_)) => (true, false),
            Some(Wish::Resume) => (false, true),
            None => (false, false),
        };
        match self.course.stand {
            Stand::Runs if paused || requests.pause.is_some() || pause => {
                self.course.stand = Stand::Halting;
                self.orders.halt().await;
            }
            Stand::Still if !paused => self.go_on().await,
            Stand::Still if requests.resume.is_some() || resume => {
                // First the log: somebody who lost the session must not let the program go on.
                match self.session.resume().await {
                    Ok(_) => self.go_on().await,
                    Err(error) => self.later("resume", &error),
                }
            }
            // Whoever wants what is so already has it.
            Stand::Runs | Stand::Still => self.course.wish = None,
            Stand::Halting => {}
        }
    }

    async fn cancel(&mut self, reason: String, force: bool) {
        if self.course.ended.is_some() {
            // Work that finished before the cancel was seen has finished. What it left behind can still be hurried.
            if force {
                self.orders.end(Duration::ZERO).await;
            }
            return;
        }
        let grace = if force { Duration::ZERO } else { self.grace };
        self.end(Why::Cancelled { reason, force }, grace).await;
    }

    async fn end(&mut self, why: Why, grace: Duration) {
        self.orders.end(grace).await;
        let keep = matches!(
            (&self.course.why, &why),
            (Some(_), Why::Dropped | Why::Deadline(_) | Why::Cancelled { .. })
        );
        if !keep {
            self.course.why = Some(why);
        }
        // Its supervisor continues it, and a program that cleans up may want its terminal for that.
        if self.course.stand == Stand::Still {
            self.course.stand = Stand::Runs;
            self.standing.send_replace(ChildState::Running);
        }
    }

    async fn go_on(&mut self) {
        self.course.stand = Stand::Runs;
        self.course.wish = None;
        self.course.since = Some(Instant::now());
        self.orders.resume().await;
        self.standing.send_replace(ChildState::Running);
    }

    async fn hear(&mut self, report: Report) {
        match report {
            Report::Halted => self.stands_still().await,
            Report::Signalled { signal } => {
                self.note("session.signal", json!({ "signal": signal, "name": signal_name(signal) })).await;
            }
            Report::Ended { status } => {
                self.course.ended = Some(status);
                self.course.count_time();
            }
            Report::Escaped { processes } => {
                self.note("session.escaped", json!({ "processes": processes })).await;
                self.course.escaped = processes;
            }
            Report::Empty => self.course.empty = true,
            Report::Stopped { signal } if self.course.stand == Stand::Runs => {
                self.standing.send_replace(ChildState::Stopped { signal });
            }
            Report::Continued if self.course.stand == Stand::Runs => {
                self.standing.send_replace(ChildState::Running);
            }
            Report::Started { .. }
            | Report::NotStarted { .. }
            | Report::Stopped { .. }
            | Report::Continued => {}
        }
    }

    async fn stands_still(&mut self) {
        if self.course.stand != Stand::Halting {
            return;
        }
        // Whoever is told of the pause next may show something else where the output goes.
        self.capture.rest().await;
        let asked = self.session.head().lifecycle.requests.pause.map(|pause| pause.reason);
        let wish = self.course.wish.clone();
        let wished = match &wish {
            Some(Wish::Pause(reason)) => Some(reason.clone()),
            Some(Wish::Resume) | None => None,
        };
        match self.session.pause(PauseReason::Requested(asked.or(wished).unwrap_or_default())).await {
            Ok(_) => {
                self.course.count_time();
                self.course.stand = Stand::Still;
                self.standing.send_replace(ChildState::Paused);
            }
            Err(error) => {
                self.go_on().await;
                self.course.wish = wish;
                self.later("pause", &error);
            }
        }
    }

    fn later(&mut self, what: &str, error: &SessionError) {
        tracing::warn!(session = %self.session.id(), %error, code = %error.code(), "could not {what}, will try again");
        self.course.again = Some(Instant::now() + AGAIN);
    }

    /// When the attempt has run for as long as it may. Time that it is paused does not count.
    fn deadline(&self) -> Option<Instant> {
        let limit = Duration::from_millis(self.session.config().deadline_ms?);
        let since = self.course.since.filter(|_| self.course.why.is_none() && self.course.ended.is_none())?;
        since.checked_add(limit.saturating_sub(self.course.ran))
    }

    /// A note is worth having; no work ends for the want of one.
    async fn note(&self, kind: &str, data: serde_json::Value) {
        if self.is_lost() {
            return;
        }
        if let Err(error) = self.session.note(kind, data, Durability::Buffered).await {
            tracing::warn!(session = %self.session.id(), %error, kind, "could not keep a note");
        }
    }

    /// The tree is gone: takes what is left of its output, and says in the log how it ended.
    async fn settle(mut self) -> Result<RunReport> {
        if !self.course.empty && self.course.escaped.is_empty() {
            // The supervisor was killed: there is nobody else who could end what it watched over.
            crate::stragglers::kill(self.socket.path()).await;
        }
        let capture = self.capture;
        let captured = capture.finish().await;
        drop(self.socket);
        if let Some(held) = self.lock.take().and_then(|lock| lock.try_acquire().ok().flatten()) {
            held.release();
        }
        let closing = Closing {
            session: &self.session,
            command: &self.command,
            duration: self.started.elapsed(),
            captured: &captured,
            ended: self.course.ended,
            why: self.course.why.as_ref(),
        };
        closing.write().await?;
        Ok(RunReport::new(
            self.session.head(),
            self.session.attempt(),
            self.course.ended,
            self.course.escaped,
            captured.bytes,
        ))
    }
}

impl Course {
    fn count_time(&mut self) {
        if let Some(since) = self.since.take() {
            self.ran += since.elapsed();
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

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
