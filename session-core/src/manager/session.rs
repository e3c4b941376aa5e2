//! What the work holds of its session: the handle that comes with ownership.

use std::sync::{Arc, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::watch;

use super::engine::{Engine, decode};
use super::owned_session::OwnedSession;
use crate::cancellation::CancellationToken;
use crate::config::SessionConfig;
use crate::error::{Result, SessionError};
use crate::event::{EventKind, Origin, SessionEvent};
use crate::head::Head;
use crate::id::SessionId;
use crate::machine::{Requests, SessionState};
use crate::owner::Evidence;
use crate::progress::ProgressTracker;
use crate::reason::{Failure, PauseReason, SessionSummary};
use crate::record::Tip;
use crate::storage::{Durability, SessionStorageExt as _, StorageError};

/// Who answers a request to pause or to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestHandling {
    /// The manager, at once: nothing runs that would have to stand still first.
    Immediate = 0,
    /// The work, when it next calls its session.
    AtNextCall = 1,
    /// The program that watches [`Session::requests`], with [`Session::pause`] and [`Session::resume`].
    External = 2,
}

impl RequestHandling {
    pub(super) const fn from_u8(value: u8) -> Self {
        match value {
            1 => Self::AtNextCall,
            2 => Self::External,
            _ => Self::Immediate,
        }
    }
}

/// How a work ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Ending {
    /// Well. The numbers of the summary are filled in from the log.
    Completed(SessionSummary),
    /// Not well.
    Failed(Failure),
    /// As somebody asked for, for this reason.
    Cancelled(String),
}

/// A session that this process owns, for its work. Clones are the same session.
///
/// Calls that need the session to run wait while it is paused, and answer a pause that was asked for: the session is
/// `paused` in the log from the moment that the work stands still in one of them. They fail with `CANCELLED` if a
/// cancel comes meanwhile, and with `FENCED` for ever once somebody else owns the session.
#[derive(Debug, Clone)]
pub struct Session {
    pub(super) engine: Arc<Engine>,
    pub(super) owned: Arc<OwnedSession>,
}

impl Session {
    pub(super) const fn new(engine: Arc<Engine>, owned: Arc<OwnedSession>) -> Self {
        Self { engine, owned }
    }

    /// The session's id.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.owned.id
    }

    /// Which attempt this is: 1 for the first.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.owned.attempt
    }

    /// What the session was made with.
    #[must_use]
    pub fn config(&self) -> &SessionConfig {
        &self.owned.config
    }

    /// The program behind it, where there is one.
    #[must_use]
    pub fn origin(&self) -> Option<&Origin> {
        self.owned.origin.as_ref()
    }

    /// The current view, as of the last look at the log.
    #[must_use]
    pub fn head(&self) -> Head {
        self.owned.view().borrow().clone()
    }

    /// The current view, as it changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Head> {
        self.owned.view()
    }

    /// What was asked for and not yet answered, as it changes.
    #[must_use]
    pub fn requests(&self) -> watch::Receiver<Requests> {
        self.owned.requests()
    }

    /// Tells when the session is cancelled, or lost.
    #[must_use]
    pub fn cancellation(&self) -> CancellationToken {
        self.owned.cancel.token()
    }

    /// Where the work says how far it is.
    #[must_use]
    pub fn progress(&self) -> &ProgressTracker {
        &self.owned.progress
    }

    /// Says who answers requests to pause and to go on. A closure's session is answered by the work.
    pub fn set_request_handling(&self, request_handling: RequestHandling) {
        self.owned.set_request_handling(request_handling);
    }

    /// The last checkpoint, of this attempt or of the one that crashed.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` where it is no `T`.
    pub fn last_checkpoint<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        let checkpoint = self.owned.checkpoint.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let read = |value| serde_json::from_value(value).map_err(|error| self.payload("checkpoint", error));
        checkpoint.map(read).transpose()
    }

    /// Keeps the work's own data, to go on from after a crash. On return it survives power loss.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` and `LIMIT_EXCEEDED` for data that JSON or a record has no room for; those of [`Session`].
    pub async fn checkpoint<T: Serialize + Sync + ?Sized>(&self, state: &T) -> Result<Tip> {
        let state = serde_json::to_value(state).map_err(|error| self.payload("checkpoint", error))?;
        self.record(SessionEvent::CheckpointSaved { state, resumable: true }).await
    }

    /// Appends an event of the work. Progress is buffered, all else survives power loss on return.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for an event that changes the state, `ILLEGAL_TRANSITION` for an iteration out of turn; those
    /// of [`Session`].
    pub async fn record(&self, event: SessionEvent) -> Result<Tip> {
        check_work_event(event.kind())?;
        let tip = self.append_running(durability_of(&event), &event).await?;
        if let SessionEvent::CheckpointSaved { state, resumable: true } = &event {
            self.owned.set_checkpoint(state);
        }
        Ok(tip)
    }

    /// Keeps a note of a kind `vendor.name`, as safe as asked for. Notes do not wait for a paused session.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for another kind; those of [`Session`].
    pub async fn note(
        &self,
        kind: impl Into<String> + Send,
        data: Value,
        durability: Durability,
    ) -> Result<Tip> {
        let event = SessionEvent::Noted { kind: kind.into(), data };
        self.append(durability, |_| Ok(vec![event.clone()])).await
    }

    /// Starts the next iteration, and returns its number.
    ///
    /// # Errors
    /// `ILLEGAL_TRANSITION` where one is open; those of [`Session`].
    pub async fn start_iteration(&self) -> Result<u64> {
        let number = self.head().lifecycle.iterations_completed + 1;
        self.record(SessionEvent::IterationStarted { number }).await?;
        Ok(number)
    }

    /// Completes the open iteration.
    ///
    /// # Errors
    /// `ILLEGAL_TRANSITION` where none is open; those of [`Session`].
    pub async fn complete_iteration(&self, changes: crate::event::Changes) -> Result<Tip> {
        let number = self.head().lifecycle.iteration;
        self.record(SessionEvent::IterationCompleted { number, changes }).await
    }

    /// Asks a question and waits for the answer, paused. An answer that came while nobody ran the session is the answer
    /// to the first question of the next attempt.
    ///
    /// # Errors
    /// Those of [`Session`].
    pub async fn ask(&self, question: impl Into<String> + Send) -> Result<Value> {
        if let Some(answer) = self.owned.answer.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Ok(answer);
        }
        self.pause(PauseReason::AwaitingInput(question.into())).await?;
        let revision = self
            .wait_for(|head| if is_paused(head) { head.lifecycle.requests.answer } else { Some(0) })
            .await?;
        let id = self.id();
        let stored = self.engine.storage.record(id, revision).await?.ok_or(StorageError::NotFound { id })?;
        let SessionEvent::InputProvided { value, .. } = decode(id, &stored)?.event else {
            return Err(SessionError::Fenced { id, what: "it was resumed without an answer".to_owned() });
        };
        self.resume().await?;
        Ok(value)
    }

    /// Says that the work stands still. For the program that drives it: a work that is called by the manager pauses in
    /// its next call by itself.
    ///
    /// # Errors
    /// Those of [`Session`].
    pub async fn pause(&self, reason: PauseReason) -> Result<Tip> {
        self.append(Durability::Flushed, |head| {
            Ok(if is_paused(head) {
                Vec::new()
            } else {
                vec![SessionEvent::Paused { reason: reason.clone() }]
            })
        })
        .await
    }

    /// Says that the work goes on.
    ///
    /// # Errors
    /// Those of [`Session`].
    pub async fn resume(&self) -> Result<Tip> {
        let me = self.engine.me().await?.clone();
        self.append(Durability::Flushed, |head| {
            Ok(if is_paused(head) { vec![SessionEvent::Resumed { owner: me.clone() }] } else { Vec::new() })
        })
        .await
    }

    /// Ends the session as completed; the numbers of the summary are filled in from the log. Work that ended while its session was paused ends all the same.
    ///
    /// # Errors
    /// `FENCED`, and what the storage suffers; the session then has not ended.
    pub async fn complete(&self, summary: SessionSummary) -> Result<()> {
        self.finish(vec![SessionEvent::Completed { summary }]).await
    }

    /// Ends the session as failed.
    ///
    /// # Errors
    /// As [`complete`](Self::complete).
    pub async fn fail(&self, error: Failure) -> Result<()> {
        self.finish(vec![SessionEvent::Failed { error }]).await
    }

    /// Ends the session as cancelled.
    ///
    /// # Errors
    /// As [`complete`](Self::complete).
    pub async fn cancel(&self, reason: impl Into<String> + Send) -> Result<()> {
        self.finish(vec![SessionEvent::Cancelled { reason: reason.into() }]).await
    }

    /// Ends the session, with the last thing that its work did. The two are one batch: no crash comes between them and
    /// makes somebody do again what was done.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a last event that changes the state; as [`complete`](Self::complete).
    pub async fn end(&self, last: Option<SessionEvent>, ending: Ending) -> Result<()> {
        if let Some(last) = &last {
            check_work_event(last.kind())?;
        }
        let ending = match ending {
            Ending::Completed(summary) => SessionEvent::Completed { summary },
            Ending::Failed(error) => SessionEvent::Failed { error },
            Ending::Cancelled(reason) => SessionEvent::Cancelled { reason },
        };
        self.finish(last.into_iter().chain([ending]).collect()).await
    }

    /// Lets go of the session, for somebody to take up later.
    ///
    /// # Errors
    /// As [`complete`](Self::complete).
    pub async fn interrupt(&self, evidence: Evidence) -> Result<()> {
        self.engine.release(self.id(), evidence).await
    }

    /// Resolves once the session is not owned here any more without having been ended from here, with the reason.
    pub async fn fenced(&self) -> SessionError {
        let mut view = self.owned.view();
        loop {
            if let Err(error) = self.owned.check() {
                return error;
            }
            // The sender lives in `owned`, which this handle holds.
            if view.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Takes note at once of what others appended, instead of at the next look.
    ///
    /// # Errors
    /// What the storage suffers.
    pub async fn refresh(&self) -> Result<()> {
        let entry = self.engine.entry(self.id());
        let mut state = entry.state.lock().await;
        self.owned.check()?;
        self.engine.poll_log(&mut state, self.id()).await
    }

    fn payload(&self, what: &'static str, error: serde_json::Error) -> SessionError {
        SessionError::Payload { id: self.id(), what, source: Arc::new(error) }
    }
}

impl Session {
    pub(super) async fn restore(&self) -> Result<super::PersistedSession> {
        Ok(self.engine.storage.load(self.id()).await?)
    }

    /// Appends the last events of the work, its ending behind them. Where one of them needs the session to run, a
    /// paused one is resumed first.
    pub(super) async fn finish(&self, last: Vec<SessionEvent>) -> Result<()> {
        let me = self.engine.me().await?.clone();
        let runs = |event: &SessionEvent| {
            !matches!(event.kind(), EventKind::Noted | EventKind::Failed | EventKind::Cancelled)
        };
        self.append(Durability::Flushed, |head| {
            let resumed = SessionEvent::Resumed { owner: me.clone() };
            let resumed = (is_paused(head) && last.iter().any(runs)).then_some(resumed);
            Ok(resumed.into_iter().chain(last.iter().cloned()).collect())
        })
        .await?;
        Ok(())
    }

    pub(super) async fn append(
        &self,
        durability: Durability,
        decide: impl FnMut(&Head) -> Result<Vec<SessionEvent>> + Send,
    ) -> Result<Tip> {
        let entry = self.engine.entry(self.id());
        let mut state = entry.state.lock().await;
        self.owned.check()?;
        self.engine.append_owned(&mut state, self.id(), durability, decide).await
    }

    /// Appends an event that needs the session to run, once it does.
    pub(super) async fn append_running(&self, durability: Durability, event: &SessionEvent) -> Result<Tip> {
        loop {
            let mut stands_still = false;
            let tip = self
                .append(durability, |head| {
                    stands_still = false;
                    let requests = &head.lifecycle.requests;
                    match (head.state(), &requests.pause, &requests.cancel) {
                        (SessionState::Running { .. }, Some(pause), None)
                            if self.owned.request_handling() != RequestHandling::External =>
                        {
                            stands_still = true;
                            Ok(vec![SessionEvent::Paused {
                                reason: PauseReason::Requested(pause.reason.clone()),
                            }])
                        }
                        (SessionState::Paused { .. }, ..) => {
                            stands_still = true;
                            Ok(Vec::new())
                        }
                        _ => Ok(vec![event.clone()]),
                    }
                })
                .await?;
            if !stands_still {
                return Ok(tip);
            }
            self.wait_for(|head| (!matches!(head.state(), SessionState::Paused { .. })).then_some(()))
                .await?;
        }
    }

    pub(super) async fn wait_for<T>(&self, mut found: impl FnMut(&Head) -> Option<T> + Send) -> Result<T> {
        let mut view = self.owned.view();
        loop {
            self.owned.check()?;
            {
                let head = view.borrow_and_update();
                if let Some(value) = found(&head) {
                    return Ok(value);
                }
                if let Some(request) = &head.lifecycle.requests.cancel {
                    return Err(SessionError::Cancelled { reason: request.reason.clone() });
                }
            }
            // The sender lives in `owned`, which this handle holds.
            view.changed().await.map_err(|_| SessionError::ShutDown)?;
        }
    }
}

/// How safe an event is before anybody is told that it is in the log.
pub(super) const fn durability_of(event: &SessionEvent) -> Durability {
    if matches!(event, SessionEvent::ProgressReported { .. }) {
        Durability::Buffered
    } else {
        Durability::Flushed
    }
}

pub(super) const fn is_paused(head: &Head) -> bool {
    matches!(head.lifecycle.state, SessionState::Paused { .. })
}

/// Events that the work appends as they are; all others belong to a method that knows what goes with them.
pub(super) fn check_work_event(kind: EventKind) -> Result<()> {
    match kind {
        EventKind::IterationStarted
        | EventKind::IterationCompleted
        | EventKind::CommandExecuted
        | EventKind::AnalysisCompleted
        | EventKind::CheckpointSaved
        | EventKind::ProgressReported
        | EventKind::Noted => Ok(()),
        EventKind::Created
        | EventKind::Started
        | EventKind::PauseRequested
        | EventKind::ResumeRequested
        | EventKind::CancelRequested
        | EventKind::InputProvided
        | EventKind::Paused
        | EventKind::Interrupted
        | EventKind::Resumed
        | EventKind::Completed
        | EventKind::Failed
        | EventKind::Cancelled => Err(SessionError::InvalidArgument {
            what: format!("`{kind}` has a method of its own; it cannot be recorded"),
        }),
    }
}
