//! The task that synchronizes an owned session with its log.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::engine::Engine;
use super::locked_session::LockedSession;
use super::owned_session::OwnedSession;
use super::request_handling::RequestHandling;
use crate::error::Result;
use crate::event::SessionEvent;
use crate::head::Head;
use crate::machine::{Requests, SessionState};
use crate::owner::{Evidence, Owner};
use crate::reason::{Failure, FailureCause, PauseReason};
use crate::storage::{Durability, SessionStorageExt as _};

/// Synchronizes an owned session with its log until it is over: writes reported progress, flushes buffered records
/// after the autosave interval, reads the records of other processes, answers requests, and enforces the deadline.
///
/// It keeps only weak references while it waits, so that ownership ends with the last handle of the manager.
pub(crate) async fn sync_loop(engine: Weak<Engine>, owned: Weak<OwnedSession>) {
    let mut next_progress = Instant::now();
    let mut stopwatch = Stopwatch::default();
    loop {
        let (Some(engine), Some(owned)) = (engine.upgrade(), owned.upgrade()) else { return };
        if owned.ended().is_some() {
            return;
        }
        let mut view = owned.view();
        let seen = view.borrow_and_update().tip;
        let poll = engine.intervals.poll;
        let running = matches!(view.borrow().state(), SessionState::Running { .. });
        let storage = Arc::clone(engine.storage());
        let interval = engine.intervals.progress;
        let id = owned.id;
        let limit = owned.config.deadline_ms.map(Duration::from_millis);
        let limit = limit.filter(|_| owned.request_handling().managed());
        let reported = owned.progress.clone();
        let weak_owned = Arc::downgrade(&owned);
        let weak_engine = Arc::downgrade(&engine);
        // Release both while waiting.
        drop((engine, owned));
        let tick = tokio::select! {
            () = async {
                reported.pending_changed().await;
                tokio::time::sleep_until(next_progress).await;
            }, if running => Tick::Progress,
            () = storage.changed(id, seen, poll) => Tick::Poll,
            () = woken(&weak_owned) => Tick::Poll,
            limit = stopwatch.reach(limit, &mut view) => Tick::Deadline(limit),
        };
        drop(reported);
        let (Some(engine), Some(owned)) = (weak_engine.upgrade(), weak_owned.upgrade()) else { return };
        // Boxed, so that the future of a waiting session stays small.
        let result = Box::pin(perform(&engine, &owned, tick)).await;
        if matches!(tick, Tick::Progress) {
            next_progress = Instant::now() + interval;
        }
        if let Err(error) = result
            && owned.ended().is_none()
        {
            tracing::warn!(session = %id, %error, code = %error.code(), "sync with the log failed, will retry");
            drop((engine, owned));
            tokio::time::sleep(poll).await;
        }
    }
}

async fn woken(owned: &Weak<OwnedSession>) {
    // Held while waiting: after its last handle is dropped, an owned session exists only until the next poll.
    match owned.upgrade() {
        Some(owned) => owned.woken().await,
        None => std::future::pending().await,
    }
}

#[derive(Debug, Clone, Copy)]
enum Tick {
    Progress,
    Poll,
    /// The deadline has passed, which allowed this much time.
    Deadline(Duration),
}

/// The time that a session has been running in this attempt, without the time in which it only waited.
#[derive(Debug, Default)]
struct Stopwatch {
    before: Duration,
    since: Option<Instant>,
}

impl Stopwatch {
    fn set_running(&mut self, running: bool) {
        match (self.since, running) {
            (None, true) => self.since = Some(Instant::now()),
            (Some(since), false) => {
                self.before += since.elapsed();
                self.since = None;
            }
            (None, false) | (Some(_), true) => {}
        }
    }

    /// Waits until the session has been running for as long as the limit, and returns that. The time of a pause
    /// or of a wait does not count: a change of the head starts or stops it.
    async fn reach(&mut self, limit: Option<Duration>, view: &mut watch::Receiver<Head>) -> Duration {
        let Some(limit) = limit else { return std::future::pending().await };
        loop {
            let is_working = {
                let head = view.borrow_and_update();
                matches!(head.state(), SessionState::Running { .. }) && !head.is_waiting()
            };
            self.set_running(is_working);
            let deadline = self.since.and_then(|since| since.checked_add(limit.saturating_sub(self.before)));
            let reached = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = reached => return limit,
                changed = view.changed() => if changed.is_err() {
                    return std::future::pending().await;
                }
            }
        }
    }
}

async fn perform(engine: &Engine, owned: &Arc<OwnedSession>, tick: Tick) -> Result<()> {
    let mut session = LockedSession::lock(engine, owned.id).await;
    if session.owned().is_none_or(|current| !Arc::ptr_eq(current, owned)) {
        return Ok(());
    }
    if !owned.has_handles() {
        // The release at the drop of the last handle failed, for example on a full disk.
        return session.release(Evidence::Dropped).await;
    }
    match tick {
        Tick::Progress => {
            session.append_as_owner(Durability::Buffered, |_| Ok(Vec::new())).await?;
        }
        Tick::Poll => {
            session.poll().await?;
            if owned.ended().is_none() && owned.clock_jumps.note(&**engine.writer.clock()).is_some() {
                session.append_as_owner(Durability::Buffered, |_| Ok(Vec::new())).await?;
            }
        }
        Tick::Deadline(limit) => {
            let message = format!("still running after {} ms", limit.as_millis());
            let failed = SessionEvent::Failed { error: Failure::new(FailureCause::Timeout, message) };
            let decide = |head: &Head| {
                let running = matches!(head.state(), SessionState::Running { .. });
                Ok(running.then(|| failed.clone()).into_iter().collect())
            };
            session.append_as_owner(Durability::Flushed, decide).await?;
        }
    }
    let Some(tail) = session.tail() else { return Ok(()) };
    if tail.unflushed_since.is_some_and(|since| since.elapsed() >= engine.intervals.autosave) {
        session.append_as_owner(Durability::Flushed, |_| Ok(Vec::new())).await?;
    }
    answer_requests(engine, &mut session).await
}

/// Answers the pending requests that the manager answers for the work.
async fn answer_requests(engine: &Engine, session: &mut LockedSession<'_>) -> Result<()> {
    let (Some(owned), Some(tail)) = (session.owned(), session.tail()) else { return Ok(()) };
    let request_handling = owned.request_handling();
    // An owner was announced.
    let Some(me) = engine.identity.announced() else { return Ok(()) };
    if answer(&tail.head, request_handling, me).is_none() {
        return Ok(());
    }
    let decide = |head: &Head| Ok(answer(head, request_handling, me).into_iter().collect());
    session.append_as_owner(Durability::Flushed, decide).await?;
    Ok(())
}

/// Returns the event with which the manager answers the most urgent request.
fn answer(head: &Head, request_handling: RequestHandling, me: &Owner) -> Option<SessionEvent> {
    let Requests { pause, resume, cancel, answer: _ } = &head.lifecycle.requests;
    match (head.state(), cancel) {
        (_, Some(cancel)) if request_handling.manager_cancels(cancel.force) => {
            Some(SessionEvent::Cancelled { reason: cancel.reason.clone() })
        }
        (SessionState::Running { .. }, _) if request_handling.manager_pauses() => pause
            .as_ref()
            .map(|pause| SessionEvent::Paused { reason: PauseReason::Requested(pause.reason.clone()) }),
        (SessionState::Paused { .. }, _) if request_handling.managed() => {
            resume.as_ref().map(|_| SessionEvent::Resumed { owner: me.clone() })
        }
        _ => None,
    }
}
