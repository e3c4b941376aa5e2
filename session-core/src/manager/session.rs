//! The session handle that the work receives with ownership, and the waiting and appending behind its methods.

use std::sync::{Arc, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::watch;

use super::ending::Ending;
use super::engine::Engine;
use super::finish::{finish, is_paused};
use super::locked_session::LockedSession;
use super::owned_session::{End, EndedBy, OwnedSession};
use super::request_handling::RequestHandling;
use super::work_events::{
    changes_questions, check_begun, check_step_event, check_work_event, durability_of, ends_step,
    items_may_begin, merged, starts_step, when_running,
};
use crate::cancellation::CancellationToken;
use crate::code::ErrorCode;
use crate::config::SessionConfig;
use crate::error::{Result, SessionError};
use crate::event::{EventKind, ItemMoves, Origin, SessionEvent};
use crate::head::Head;
use crate::id::SessionId;
use crate::log_writer::decode;
use crate::machine::{Requests, SessionState};
use crate::owner::Evidence;
use crate::progress::ProgressTracker;
use crate::reason::{Failure, PauseReason, SessionSummary};
use crate::record::{Record, Tip};
use crate::storage::{Durability, PAGE, SessionStorageExt as _, StorageProfile};
use crate::text::cut;
use crate::time::Clock;

/// The handle through which work uses its session. Clones are the same session.
///
/// # Pauses
/// Methods that need a running session wait while it is paused. They also answer a pause request: they append `paused`
/// and then block the work until it is resumed. Work that waits for other things can do the same with
/// [`paused`](Self::paused); for work that never calls its session, see [`RequestHandling`].
///
/// # Ends
/// However the session ends, and whichever process ends it, the [`cancellation`](Self::cancellation) token is cancelled,
/// its callbacks are called once, and every later call fails with what ended the session: `CANCELLED`; `TIMEOUT` or
/// `WORK_FAILED` for a failure; `ILLEGAL_TRANSITION` if it completed; `NOT_FOUND` if it was deleted; `CLOSED` after a
/// shutdown of the manager; `FENCED` if another process owns it. If the work itself did not end it,
/// [`fenced`](Self::fenced) returns that error.
///
/// A session whose last handle is dropped before the end is interrupted: it is paused, and can be resumed.
///
/// # Errors
/// Every method that appends fails with these errors once the session has ended, and with the errors of the storage
/// (`STORAGE_UNAVAILABLE`, `STORAGE_FULL`, `STORAGE_IO`), after which nothing was appended unless the message says that the
/// outcome is unknown.
///
/// ```
/// use session_core::{Durability, InMemorySessionManager, PauseReason, SessionConfig, SessionManager as _, SessionSummary};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), session_core::SessionError> {
/// let manager = InMemorySessionManager::new();
/// let id = manager.create_session(SessionConfig::new("import")).await?;
/// let session = manager.start_session(id).await?;
/// println!("attempt {} of {}", session.attempt(), session.config().operation);
/// session.note("import.source", serde_json::json!({ "rows": 3 }), Durability::Flushed).await?;
///
/// session.pause(PauseReason::Requested("lunch".to_owned())).await?;
/// session.resume().await?;
/// assert!(session.requests().borrow().cancel.is_none());
///
/// let work = session.clone();
/// let canceller = tokio::spawn(async move { work.fenced().await });   // an end by anybody else
/// manager.cancel_session(id, session_core::CancelRequest::new("enough", "ui")).await?;
/// assert_eq!(canceller.await.unwrap().code().to_string(), "CANCELLED");
/// assert!(session.complete(SessionSummary::new()).await.is_err(), "it was cancelled");
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "a session is interrupted when its last handle is dropped"]
pub struct Session {
    pub(super) engine: Arc<Engine>,
    pub(super) owned: Arc<OwnedSession>,
}

impl Clone for Session {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.engine), Arc::clone(&self.owned))
    }
}

/// Dropping the last handle interrupts a session that has not ended.
impl Drop for Session {
    fn drop(&mut self) {
        if let Some(runtime) = self.owned.remove_handle() {
            let (engine, owned) = (Arc::clone(&self.engine), Arc::clone(&self.owned));
            // If the runtime is shutting down, the process is about to end, and its death has the same effect.
            runtime.spawn(async move {
                let mut locked = LockedSession::lock(&engine, owned.id).await;
                // Another handle may have been created meanwhile, by a resume in this process.
                if !owned.has_handles()
                    && locked.owned().is_some_and(|current| Arc::ptr_eq(current, &owned))
                    && let Err(error) = locked.release(Evidence::Dropped).await
                {
                    tracing::warn!(session = %owned.id, %error, "could not interrupt the session of dropped work");
                }
            });
        }
    }
}

impl Session {
    pub(super) fn new(engine: Arc<Engine>, owned: Arc<OwnedSession>) -> Self {
        owned.add_handle();
        Self { engine, owned }
    }

    /// Returns the id.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.owned.id
    }

    /// Returns the number of this attempt, from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.owned.attempt
    }

    /// Returns the configuration.
    #[must_use]
    pub fn config(&self) -> &SessionConfig {
        &self.owned.config
    }

    /// Returns the program that the session runs, if it runs one.
    #[must_use]
    pub fn origin(&self) -> Option<&Origin> {
        self.owned.origin.as_ref()
    }

    /// Returns the head, as of the last time that the log was read.
    #[must_use]
    pub fn head(&self) -> Head {
        self.owned.view().borrow().clone()
    }

    /// Returns a receiver of the head as it changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Head> {
        self.owned.view()
    }

    /// Returns a receiver of the pending requests as they change.
    #[must_use]
    pub fn requests(&self) -> watch::Receiver<Requests> {
        self.owned.requests()
    }

    /// Returns the token that is cancelled when a cancellation is requested, and at the latest when the session ends,
    /// in whichever way: also when the work itself completes it, so that all tasks that share the session stop. A
    /// callback that should only report cancellations is unregistered before, by dropping its guard.
    #[must_use]
    pub fn cancellation(&self) -> CancellationToken {
        self.owned.cancel.token()
    }

    /// Returns the clock that dates the records of the session.
    #[must_use]
    pub fn clock(&self) -> &dyn Clock {
        &**self.engine.writer.clock()
    }

    /// Returns the guarantees of the storage that has the session.
    #[must_use]
    pub fn profile(&self) -> StorageProfile {
        self.engine.storage().profile()
    }

    /// Returns the tracker with which the work reports its progress.
    #[must_use]
    pub fn progress(&self) -> &ProgressTracker {
        &self.owned.progress
    }

    /// Sets the handling of requests by the owner of the session: see [`RequestHandling`]. Requests that are pending are
    /// handled accordingly.
    pub fn set_request_handling(&self, request_handling: RequestHandling) {
        self.owned.set_request_handling(request_handling);
    }

    /// Returns the last checkpoint, of this attempt or of a previous one.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if the checkpoint is not a `T`.
    pub fn last_checkpoint<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        let checkpoint = self.owned.checkpoint.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let read = |value| serde_json::from_value(value).map_err(|error| self.payload("checkpoint", error));
        checkpoint.map(read).transpose()
    }

    /// Saves data from which the work can continue after a crash. On return the data survives power loss.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if the data cannot be converted to JSON, `LIMIT_EXCEEDED` if it does not fit into a record;
    /// those of [`Session`].
    pub async fn checkpoint<T: Serialize + Sync + ?Sized>(&self, state: &T) -> Result<Tip> {
        let state = serde_json::to_value(state).map_err(|error| self.payload("checkpoint", error))?;
        self.record(SessionEvent::CheckpointSaved { state, resumable: true }).await
    }

    /// Appends an event of the work. On return it survives power loss, except for progress, which is buffered.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for an event that changes the state, `ILLEGAL_TRANSITION` for an iteration out of order;
    /// those of [`Session`].
    pub async fn record(&self, event: SessionEvent) -> Result<Tip> {
        check_work_event(event.kind())?;
        let tip = self.append_running(durability_of(&event), &event).await?;
        if let SessionEvent::CheckpointSaved { state, resumable: true } = &event {
            self.owned.set_checkpoint(state);
        }
        Ok(tip)
    }

    /// Appends the start of a step, an `each` or a sleep. On return it survives power loss. While the session is paused,
    /// it appends nothing and returns `None`; [`resumed`](Self::resumed) waits for the end of the pause.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for any other event; those of [`Session`].
    pub async fn start_step(&self, started: SessionEvent) -> Result<Option<Tip>> {
        check_step_event(&started, starts_step, "does not start a step")?;
        self.append_if_running(Durability::Flushed, &started).await
    }

    /// Appends records at the end of a step, an item or a sleep, in one batch: the parts of its value, its end, or
    /// a refusal. Does not wait while the session is paused.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for any other event; those of [`Session`].
    pub async fn end_step(&self, events: Vec<SessionEvent>, durability: Durability) -> Result<Tip> {
        for event in &events {
            check_step_event(event, ends_step, "does not end a step")?;
        }
        self.append(durability, |_| Ok(events.clone())).await
    }

    /// Appends the ends of items with their values, and in the same batch `begun`, the beginning of others. Where items cannot
    /// begin, because the session is paused or about to be, or a step was refused, only the ends are appended, and the
    /// result is `false`. On return the batch survives power loss.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for any other event, or ends in `begun`; those of [`Session`].
    pub async fn move_items(&self, ended: Vec<SessionEvent>, begun: ItemMoves) -> Result<(Tip, bool)> {
        for event in &ended {
            check_step_event(event, ends_step, "does not end an item")?;
        }
        check_begun(&begun)?;
        let mut begins = false;
        let tip = self
            .append(Durability::Flushed, |head| {
                begins = items_may_begin(head, self.owned.request_handling().work_pauses());
                Ok(merged(&ended, begins.then_some(&begun)))
            })
            .await?;
        Ok((tip, begins))
    }

    /// Appends a question, an answer or a withdrawal, if no question or answer came after the revision `known`
    /// ([`WaitTotals::changed`](crate::WaitTotals::changed)); else appends nothing and returns `None`. So does a question
    /// while the session is paused. On return it survives power loss.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for any other event; those of [`Session`].
    pub async fn change_questions(&self, known: u64, event: SessionEvent) -> Result<Option<Tip>> {
        check_step_event(&event, changes_questions, "is no question, answer or withdrawal")?;
        let needs_running = event.kind() == EventKind::Asked;
        let mut appends = false;
        let tip = self
            .append(Durability::Flushed, |head| {
                let is_running = matches!(head.state(), SessionState::Running { .. });
                appends = head.waits.changed == known && (is_running || !needs_running);
                Ok(if appends { vec![event.clone()] } else { Vec::new() })
            })
            .await?;
        Ok(appends.then_some(tip))
    }

    /// Records that a step was refused, or that its end could not be recorded: the session fails at its end. If this cannot be
    /// recorded now, it is with the end of the program or of the session.
    ///
    /// # Errors
    /// Those of [`Session`].
    pub async fn refuse_step(&self, name: &str, code: ErrorCode, message: &str) -> Result<Tip> {
        let refusal = SessionEvent::StepRefused {
            name: name.to_owned(),
            code: code.as_str().to_owned(),
            message: cut(message, crate::limits::STEP_TEXT_BYTES),
        };
        self.owned.refusal.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(refusal);
        self.append(Durability::Flushed, |head| Ok(self.owned.unrecorded_refusal(head).into_iter().collect()))
            .await
    }

    /// Reads the records of this session's log after a revision, as many as fit on a page; none at its end.
    ///
    /// # Errors
    /// Failures of the storage.
    pub async fn read_log(&self, after: u64) -> Result<Vec<Record>> {
        let page = self.engine.storage().records(self.id(), after, PAGE).await?;
        page.records.iter().map(|stored| decode(self.id(), stored)).collect()
    }

    /// Returns a value that belongs to the ownership of this session: all its handles share the one that the first call
    /// creates. It lives as long as they do, so it must not hold one. `create` must not call this method.
    ///
    /// ```
    /// # use session_core::{InMemorySessionManager, SessionConfig, SessionManager as _};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), session_core::SessionError> {
    /// # let manager = InMemorySessionManager::new();
    /// # let id = manager.create_session(SessionConfig::new("import")).await?;
    /// # let session = manager.start_session(id).await?;
    /// use std::sync::atomic::{AtomicU32, Ordering};
    ///
    /// session.extension(|| AtomicU32::new(1)).fetch_add(1, Ordering::Relaxed);
    /// assert_eq!(session.clone().extension(|| AtomicU32::new(7)).load(Ordering::Relaxed), 2);
    /// # Ok(()) }
    /// ```
    pub fn extension<T: Send + Sync + 'static>(&self, create: impl FnOnce() -> T) -> Arc<T> {
        self.owned.extensions.get_or_create(create)
    }

    /// Appends a note of a kind `vendor.name` with the given durability. Does not wait while the session is paused.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a kind of another form; those of [`Session`].
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
    /// `ILLEGAL_TRANSITION` if an iteration is open; those of [`Session`].
    pub async fn start_iteration(&self) -> Result<u64> {
        let number = self.head().lifecycle.iterations_completed + 1;
        self.record(SessionEvent::IterationStarted { number }).await?;
        Ok(number)
    }

    /// Completes the open iteration.
    ///
    /// # Errors
    /// `ILLEGAL_TRANSITION` if no iteration is open; those of [`Session`].
    pub async fn complete_iteration(&self, changes: crate::event::Changes) -> Result<Tip> {
        let number = self.head().lifecycle.iteration;
        self.record(SessionEvent::IterationCompleted { number, changes }).await
    }

    /// Waits until a pause is requested, and records that the work has stopped. To be used in a `select!` next to what
    /// the work waits for. On return the session is paused; [`resumed`](Self::resumed) and every call that needs a
    /// running session wait until it is resumed. Dropping the future is harmless.
    ///
    /// ```
    /// # use session_core::{InMemorySessionManager, SessionConfig, SessionManager as _, Session, Result};
    /// # async fn next_item() -> Option<u32> { None }
    /// async fn work(session: &Session) -> Result<()> {
    ///     loop {
    ///         tokio::select! {
    ///             stopped = session.paused() => stopped?,
    ///             item = next_item() => match item {
    ///                 Some(_) => { session.progress().complete_step("item"); }
    ///                 None => return Ok(()),
    ///             },
    ///         }
    ///         session.resumed().await?;
    ///     }
    /// }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
    /// # let manager = InMemorySessionManager::new();
    /// # let id = manager.create_session(SessionConfig::new("import")).await?;
    /// # work(&manager.start_session(id).await?).await
    /// # }
    /// ```
    ///
    /// # Errors
    /// `CANCELLED` if a cancellation is requested; those of [`Session`].
    pub async fn paused(&self) -> Result<()> {
        loop {
            let requested = self
                .wait_for(|head| match &head.lifecycle.requests.pause {
                    _ if is_paused(head) => Some(None),
                    Some(pause) if self.owned.request_handling().work_pauses() => {
                        Some(Some(pause.reason.clone()))
                    }
                    _ => None,
                })
                .await?;
            match requested {
                None => return Ok(()),
                Some(reason) => drop(self.pause(PauseReason::Requested(reason)).await?),
            }
        }
    }

    /// Waits while the session is paused.
    ///
    /// # Errors
    /// Those of [`paused`](Self::paused).
    pub async fn resumed(&self) -> Result<()> {
        self.wait_for(|head| (!is_paused(head)).then_some(())).await
    }

    /// Records that the work is paused, without a request. For embedding programs that handle requests themselves, and
    /// for work that pauses on its own.
    ///
    /// If a pause was requested by the time of the record, [`PauseReason::Requested`] gets the reason of the request, whatever
    /// the given one: only the log shows who may end the pause.
    ///
    /// # Errors
    /// Those of [`Session`].
    pub async fn pause(&self, reason: PauseReason) -> Result<Tip> {
        self.append(Durability::Flushed, |head| {
            let reason = match (&reason, &head.lifecycle.requests.pause) {
                (PauseReason::Requested(_), Some(request)) => PauseReason::Requested(request.reason.clone()),
                _ => reason.clone(),
            };
            Ok(if is_paused(head) { Vec::new() } else { vec![SessionEvent::Paused { reason }] })
        })
        .await
    }

    /// Records that the work continues.
    ///
    /// # Errors
    /// Those of [`Session`].
    pub async fn resume(&self) -> Result<Tip> {
        let me = self.engine.identity.me().await?.clone();
        self.append(Durability::Flushed, |head| {
            Ok(if is_paused(head) { vec![SessionEvent::Resumed { owner: me.clone() }] } else { Vec::new() })
        })
        .await
    }

    /// Ends the session as completed. The counters of the summary are filled in from the log. A paused session is
    /// resumed first.
    ///
    /// # Errors
    /// `FENCED`, and failures of the storage. The session has then not ended.
    pub async fn complete(&self, summary: SessionSummary) -> Result<()> {
        self.finish(vec![SessionEvent::Completed { summary }]).await
    }

    /// Ends the session as failed.
    ///
    /// # Errors
    /// Those of [`complete`](Self::complete).
    pub async fn fail(&self, error: Failure) -> Result<()> {
        self.finish(vec![SessionEvent::Failed { error }]).await
    }

    /// Ends the session as cancelled.
    ///
    /// # Errors
    /// Those of [`complete`](Self::complete).
    pub async fn cancel(&self, reason: impl Into<String> + Send) -> Result<()> {
        self.finish(vec![SessionEvent::Cancelled { reason: reason.into() }]).await
    }

    /// Ends the session together with the last event of its work. Both are one batch, so that no crash in between
    /// causes the work of that event to be repeated.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a last event that changes the state; those of [`complete`](Self::complete).
    pub async fn end(&self, last: Option<SessionEvent>, ending: Ending) -> Result<()> {
        if let Some(last) = &last {
            check_work_event(last.kind())?;
        }
        self.finish(last.into_iter().chain([ending.into()]).collect()).await
    }

    /// Records the end of the session's own program, also while the session is paused. If the owner dies after it, whichever
    /// process finds the session ends it with this result, unless `stop` names the stop that led to it.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for an event other than `command_executed` with `main`; those of [`complete`](Self::complete).
    pub async fn record_program_end(&self, executed: SessionEvent) -> Result<Tip> {
        if !matches!(executed, SessionEvent::CommandExecuted { main: true, .. }) {
            let what = format!("`{}` is not the end of the session's program", executed.kind());
            return Err(SessionError::InvalidArgument { what });
        }
        self.append(Durability::Flushed, |head| {
            Ok(self.owned.unrecorded_refusal(head).into_iter().chain([executed.clone()]).collect())
        })
        .await
    }

    /// Records that SIGTERM or SIGHUP reached this process: if it dies now, the session was interrupted and did not crash.
    ///
    /// # Errors
    /// Those of [`complete`](Self::complete).
    pub async fn record_stop_request(&self, signal: i32) -> Result<Tip> {
        self.append(Durability::Flushed, |_| Ok(vec![SessionEvent::StopRequested { signal }])).await
    }

    /// Releases the session without ending it, to be resumed later.
    ///
    /// # Errors
    /// Those of [`complete`](Self::complete).
    pub async fn interrupt(&self, evidence: Evidence) -> Result<()> {
        let mut locked = self.lock().await?;
        locked.release(evidence).await
    }

    /// Waits until the session was ended, or its ownership taken, by anything but this work: a call with its id, another
    /// process, a deadline, a shutdown. Returns what ended it; all later calls fail with the same error.
    pub async fn fenced(&self) -> SessionError {
        let mut view = self.owned.view();
        loop {
            if let Some(End { error, by: EndedBy::Other }) = self.owned.ended() {
                return error.clone();
            }
            // Pending cannot happen: the sender is in `owned`, which this handle holds.
            if view.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Reads the records of other processes immediately, instead of at the next poll.
    ///
    /// # Errors
    /// `FENCED`, and failures of the storage.
    pub async fn refresh(&self) -> Result<()> {
        self.lock().await?.poll().await
    }

    fn payload(&self, what: &'static str, error: serde_json::Error) -> SessionError {
        SessionError::Payload { id: self.id(), what, source: Arc::new(error) }
    }
}

impl Session {
    pub(super) async fn restore(&self) -> Result<super::PersistedSession> {
        Ok(self.engine.storage().load(self.id()).await?)
    }

    /// Appends the last events of the work, the ending last. Resumes a paused session first if one of the events needs
    /// a running session.
    pub(super) async fn finish(&self, last: Vec<SessionEvent>) -> Result<()> {
        let mut locked = self.lock().await?;
        finish(&self.engine, &mut locked, &last).await
    }

    pub(super) async fn append(
        &self,
        durability: Durability,
        decide: impl FnMut(&Head) -> Result<Vec<SessionEvent>> + Send,
    ) -> Result<Tip> {
        self.lock().await?.append_as_owner(durability, decide).await
    }

    /// Locks the session for a change by its work.
    ///
    /// # Errors
    /// What ended the session.
    async fn lock(&self) -> Result<LockedSession<'_>> {
        let locked = LockedSession::lock(&self.engine, self.id()).await.by_work();
        self.owned.check()?;
        Ok(locked)
    }

    /// Appends an event that needs a running session, waiting while the session is paused.
    pub(super) async fn append_running(&self, durability: Durability, event: &SessionEvent) -> Result<Tip> {
        loop {
            if let Some(tip) = self.append_if_running(durability, event).await? {
                return Ok(tip);
            }
            self.resumed().await?;
        }
    }

    /// Appends an event that needs a running session; `None` while the session is paused, by now if that was requested.
    async fn append_if_running(&self, durability: Durability, event: &SessionEvent) -> Result<Option<Tip>> {
        let mut paused = false;
        let tip = self
            .append(durability, |head| {
                let events;
                (events, paused) = when_running(head, event, self.owned.request_handling().work_pauses());
                Ok(events)
            })
            .await?;
        Ok((!paused).then_some(tip))
    }

    pub(super) async fn wait_for<T>(&self, mut find: impl FnMut(&Head) -> Option<T> + Send) -> Result<T> {
        let mut view = self.owned.view();
        loop {
            self.owned.check()?;
            {
                let head = view.borrow_and_update();
                if let Some(value) = find(&head) {
                    return Ok(value);
                }
                if let Some(request) = &head.lifecycle.requests.cancel {
                    return Err(SessionError::Cancelled { reason: request.reason.clone() });
                }
            }
            // Cannot fail: the sender is in `owned`, which this handle holds.
            view.changed().await.map_err(|_| SessionError::ShutDown)?;
        }
    }
}
