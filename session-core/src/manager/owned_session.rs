//! A session that this process owns: the state shared with its work, and the task that synchronizes it with the log.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::engine::Engine;
use super::session::RequestHandling;
use super::session_entry::{EntryState, LogTail};
use crate::cancellation::CancellationSource;
use crate::config::SessionConfig;
use crate::error::{Result, SessionError};
use crate::event::{Origin, SessionEvent};
use crate::head::Head;
use crate::id::SessionId;
use crate::machine::{Requests, SessionState};
use crate::progress::ProgressTracker;
use crate::record::Tip;
use crate::storage::{Durability, SessionStorageExt as _, StorageError};

/// A session that this manager owns.
#[derive(Debug)]
pub(crate) struct OwnedSession {
    pub(crate) id: SessionId,
    pub(crate) attempt: u32,
    pub(crate) config: SessionConfig,
    pub(crate) origin: Option<Origin>,
    pub(crate) cancel: CancellationSource,
    pub(crate) progress: ProgressTracker,
    /// The last checkpoint, of this attempt or an earlier one.
    pub(crate) checkpoint: Mutex<Option<Value>>,
    /// An answer given while the session was unowned, for the first question of this attempt.
    pub(crate) answer: Mutex<Option<Value>>,
    view: watch::Sender<Head>,
    requests: watch::Sender<Requests>,
    request_handling: AtomicU8,
    /// The reason why this manager no longer owns the session. Set once.
    revoked: OnceLock<SessionError>,
    over: AtomicBool,
    wake: Notify,
}

/// The parts of the log, apart from the head, that a new owner needs.
#[derive(Debug, Default)]
pub(crate) struct RestoredState {
    pub(crate) config: SessionConfig,
    pub(crate) origin: Option<Origin>,
    pub(crate) checkpoint: Option<Value>,
    pub(crate) answer: Option<Value>,
}

impl OwnedSession {
    pub(crate) fn new(engine: &Engine, head: &Head, restored: RestoredState) -> Self {
        let clock = Arc::clone(&engine.options.clock);
        Self {
            id: head.id,
            attempt: head.lifecycle.attempt,
            config: restored.config,
            origin: restored.origin,
            cancel: CancellationSource::new(),
            progress: ProgressTracker::new(head, clock.now(), clock),
            checkpoint: Mutex::new(restored.checkpoint),
            answer: Mutex::new(restored.answer),
            view: watch::Sender::new(head.clone()),
            requests: watch::Sender::new(head.lifecycle.requests.clone()),
            request_handling: AtomicU8::new(RequestHandling::Immediate as u8),
            revoked: OnceLock::new(),
            over: AtomicBool::new(false),
            wake: Notify::new(),
        }
    }

    pub(crate) fn view(&self) -> watch::Receiver<Head> {
        self.view.subscribe()
    }

    pub(crate) fn requests(&self) -> watch::Receiver<Requests> {
        self.requests.subscribe()
    }

    pub(crate) fn request_handling(&self) -> RequestHandling {
        RequestHandling::from_u8(self.request_handling.load(Ordering::SeqCst))
    }

    pub(crate) fn set_request_handling(&self, request_handling: RequestHandling) {
        self.request_handling.store(request_handling as u8, Ordering::SeqCst);
    }

    /// Returns `true` if the session ended, or is no longer owned by this manager.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// Checks that this manager still owns the session.
    ///
    /// # Errors
    /// The reason why it does not.
    pub(crate) fn check(&self) -> Result<()> {
        self.revoked.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    /// Revokes the session from its work. Cancels the token as well, so that the work stops soon.
    pub(crate) fn revoke(&self, error: SessionError) {
        let reason = error.to_string();
        if self.revoked.set(error).is_ok() {
            tracing::warn!(session = %self.id, reason, "lost ownership of the session");
            self.end();
            self.cancel.cancel(reason);
        }
    }

    /// Ends the session for its work: rejects progress and wakes all waiters.
    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::SeqCst);
        self.progress.end();
        // Wakes all tasks that wait for a change, including the end and a revocation.
        self.view.send_modify(|_| {});
        self.wake.notify_one();
    }

    pub(crate) fn set_checkpoint(&self, state: &Value) {
        *self.checkpoint.lock().unwrap_or_else(PoisonError::into_inner) = Some(state.clone());
    }
}

impl EntryState {
    /// Returns the owned session and the tail of its log.
    ///
    /// # Errors
    /// `FENCED` if this manager does not own the session.
    pub(crate) fn require_owned(&mut self, id: SessionId) -> Result<(&Arc<OwnedSession>, &mut LogTail)> {
        match &mut self.owned {
            Some((owned, tail)) => Ok((&*owned, tail)),
            None => Err(SessionError::Fenced { id, what: "it ended or another process owns it".to_owned() }),
        }
    }
}

impl Engine {
    /// Appends events of the owner, after progress that was reported before them. Reads the records that other
    /// processes appended first; if this manager no longer owns the session, it appends nothing and fails with
    /// `FENCED`.
    pub(crate) async fn append_owned(
        &self,
        state: &mut EntryState,
        id: SessionId,
        durability: Durability,
        mut decide: impl FnMut(&Head) -> Result<Vec<SessionEvent>> + Send,
    ) -> Result<Tip> {
        let (owned, tail) = state.require_owned(id)?;
        let owned = Arc::clone(owned);
        let pending = owned.progress.take_pending();
        let mut included = false;
        let result = self
            .commit(tail, durability, |head| {
                owned.check()?;
                if head.lifecycle.owner.as_ref().is_none_or(|owner| !self.is_me(owner)) {
                    return Err(fenced(head));
                }
                let mut events = decide(head)?;
                included = pending.is_some() && matches!(head.state(), SessionState::Running { .. });
                if let Some(report) = &pending
                    && included
                {
                    events.insert(0, SessionEvent::ProgressReported { report: report.clone() });
                }
                Ok(events)
            })
            .await;
        let result = match result {
            Err(SessionError::Storage(StorageError::NotFound { .. })) => {
                Err(SessionError::Fenced { id, what: "it was deleted".to_owned() })
            }
            other => other,
        };
        if let Some(report) = pending
            && (result.is_err() || !included)
        {
            owned.progress.restore_pending(report);
        }
        if let Err(error @ SessionError::Fenced { .. }) = &result {
            owned.revoke(error.clone());
        }
        Self::apply_head(state);
        result
    }

    /// Reads and folds in the records that other processes appended.
    pub(crate) async fn poll_log(&self, state: &mut EntryState, id: SessionId) -> Result<()> {
        let (owned, tail) = state.require_owned(id)?;
        let owned = Arc::clone(owned);
        match self.storage.head(id).await? {
            None => owned.revoke(SessionError::Fenced { id, what: "it was deleted".to_owned() }),
            Some(stored) if stored.tip == tail.head.tip => return Ok(()),
            Some(_) => {
                self.catch_up(tail).await?;
                // Requests are handled, and events delivered, only once the records survive power loss.
                let _: Tip = self.commit(tail, Durability::Flushed, |_| Ok(Vec::new())).await?;
            }
        }
        Self::apply_head(state);
        Ok(())
    }

    /// Publishes the tail's head to the work, and drops a session that ended or was revoked.
    fn apply_head(state: &mut EntryState) {
        let Some((owned, tail)) = &state.owned else { return };
        let head = &tail.head;
        if head.lifecycle.owner.is_none() || tail.interrupted {
            // A final state without `interrupted` was appended by this owner itself.
            if tail.interrupted || !head.state().is_final() {
                owned.revoke(fenced(head));
            }
        }
        owned.progress.sync_from(head);
        owned.view.send_if_modified(|view| {
            let changed = view.tip != head.tip;
            view.clone_from(head);
            changed
        });
        owned.requests.send_if_modified(|requests| {
            let changed = *requests != head.lifecycle.requests;
            requests.clone_from(&head.lifecycle.requests);
            changed
        });
        if let Some(request) = &head.lifecycle.requests.cancel {
            owned.cancel.cancel(request.reason.clone());
        }
        if head.state().is_final() || owned.check().is_err() {
            owned.end();
            state.owned = None;
        }
    }
}

fn fenced(head: &Head) -> SessionError {
    let what = match &head.lifecycle.owner {
        Some(owner) => format!("attempt {} is owned by {owner}", head.lifecycle.attempt),
        None => format!("it is {}", head.state().name()),
    };
    SessionError::Fenced { id: head.id, what }
}

/// Synchronizes an owned session with its log until it is over: writes reported progress, flushes buffered records
/// after the autosave interval, reads the records of other processes, and handles resume requests.
///
/// It keeps only weak references while it waits, so that ownership ends with the last handle of the manager.
pub(crate) async fn sync_loop(engine: Weak<Engine>, owned: Weak<OwnedSession>) {
    let mut next_progress = Instant::now();
    loop {
        let (Some(engine), Some(owned)) = (engine.upgrade(), owned.upgrade()) else { return };
        if owned.is_over() {
            return;
        }
        let seen = owned.view.borrow().tip;
        let poll = engine.options.poll_interval;
        let running = matches!(owned.view.borrow().state(), SessionState::Running { .. });
        let storage = Arc::clone(&engine.storage);
        let interval = engine.options.progress_interval;
        let id = owned.id;
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
        };
        drop(reported);
        let (Some(engine), Some(owned)) = (weak_engine.upgrade(), weak_owned.upgrade()) else { return };
        // Boxed, so that the future of a waiting session stays small.
        let result = Box::pin(engine.tick(&owned, tick)).await;
        if matches!(tick, Tick::Progress) {
            next_progress = Instant::now() + interval;
        }
        if let Err(error) = result
            && !owned.is_over()
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
        Some(owned) => owned.wake.notified().await,
        None => std::future::pending().await,
    }
}

#[derive(Debug, Clone, Copy)]
enum Tick {
    Progress,
    Poll,
}

impl Engine {
    async fn tick(&self, owned: &Arc<OwnedSession>, tick: Tick) -> Result<()> {
        let id = owned.id;
        let entry = self.entry(id);
        let mut state = entry.state.lock().await;
        if state.owned.as_ref().is_none_or(|(current, _)| !Arc::ptr_eq(current, owned)) {
            return Ok(());
        }
        match tick {
            Tick::Progress => {
                self.append_owned(&mut state, id, Durability::Buffered, |_| Ok(Vec::new())).await?;
            }
            Tick::Poll => self.poll_log(&mut state, id).await?,
        }
        let Some((_, tail)) = &state.owned else { return Ok(()) };
        if tail.unflushed_since.is_some_and(|since| since.elapsed() >= self.options.autosave) {
            self.append_owned(&mut state, id, Durability::Flushed, |_| Ok(Vec::new())).await?;
        }
        self.resume_if_requested(&mut state, owned).await
    }

    /// Resumes work that is blocked in a session call, once a resume was requested. Work that awaits input is woken by
    /// the input only.
    async fn resume_if_requested(&self, state: &mut EntryState, owned: &OwnedSession) -> Result<()> {
        let id = owned.id;
        let Some((_, tail)) = &state.owned else { return Ok(()) };
        let requested = tail.head.lifecycle.requests.resume.is_some();
        let waits = matches!(
            tail.head.state(),
            SessionState::Paused { reason } if !matches!(reason, crate::reason::PauseReason::AwaitingInput(_))
        );
        if !(requested && waits) || owned.request_handling() == RequestHandling::External {
            return Ok(());
        }
        let me = self.me().await?.clone();
        self.append_owned(state, id, Durability::Flushed, |head| {
            let still = matches!(head.state(), SessionState::Paused { .. });
            Ok(if still { vec![SessionEvent::Resumed { owner: me.clone() }] } else { Vec::new() })
        })
        .await?;
        Ok(())
    }
}
