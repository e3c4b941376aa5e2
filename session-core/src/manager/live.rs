//! A session that this process owns: what its work sees of it, and the task that keeps both in step with the log.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::cell::{CellState, Writer};
use super::engine::Engine;
use super::session::RequestHandling;
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

/// A session that this process owns.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) id: SessionId,
    pub(crate) attempt: u32,
    pub(crate) config: SessionConfig,
    pub(crate) origin: Option<Origin>,
    pub(crate) cancel: CancellationSource,
    pub(crate) progress: ProgressTracker,
    /// The last checkpoint, of this attempt or an earlier one.
    pub(crate) checkpoint: Mutex<Option<Value>>,
    /// An answer that came when nobody ran the session, for the first question of this attempt.
    pub(crate) answer: Mutex<Option<Value>>,
    view: watch::Sender<Head>,
    requests: watch::Sender<Requests>,
    request_handling: AtomicU8,
    /// Set once: why the session is not owned here any more.
    lost: OnceLock<SessionError>,
    over: AtomicBool,
    stirred: Notify,
}

/// What of the log a new owner needs, beside the head.
#[derive(Debug, Default)]
pub(crate) struct Inheritance {
    pub(crate) config: SessionConfig,
    pub(crate) origin: Option<Origin>,
    pub(crate) checkpoint: Option<Value>,
    pub(crate) answer: Option<Value>,
}

impl Live {
    pub(crate) fn new(engine: &Engine, head: &Head, inherited: Inheritance) -> Self {
        let clock = Arc::clone(&engine.options.clock);
        Self {
            id: head.id,
            attempt: head.lifecycle.attempt,
            config: inherited.config,
            origin: inherited.origin,
            cancel: CancellationSource::new(),
            progress: ProgressTracker::new(head, clock.now(), clock),
            checkpoint: Mutex::new(inherited.checkpoint),
            answer: Mutex::new(inherited.answer),
            view: watch::Sender::new(head.clone()),
            requests: watch::Sender::new(head.lifecycle.requests.clone()),
            request_handling: AtomicU8::new(RequestHandling::Immediate as u8),
            lost: OnceLock::new(),
            over: AtomicBool::new(false),
            stirred: Notify::new(),
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

    /// Whether the session ended, or is no longer owned here.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// # Errors
    /// Why the session is not owned here any more.
    pub(crate) fn check(&self) -> Result<()> {
        self.lost.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    /// The work has lost its session. It is told through its token as well, so that it stops soon.
    pub(crate) fn lose(&self, error: SessionError) {
        let reason = error.to_string();
        if self.lost.set(error).is_ok() {
            tracing::warn!(session = %self.id, reason, "session lost");
            self.end();
            self.cancel.cancel(reason);
        }
    }

    /// Nothing more will come.
    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::SeqCst);
        self.progress.end();
        // Wakes everyone who waits for a change, `lost` and the end included.
        self.view.send_modify(|_| {});
        self.stirred.notify_one();
    }

    pub(crate) fn set_checkpoint(&self, state: &Value) {
        *self.checkpoint.lock().unwrap_or_else(PoisonError::into_inner) = Some(state.clone());
    }
}

impl CellState {
    /// The live session and its writer.
    ///
    /// # Errors
    /// Where the session is not owned here.
    pub(crate) fn live(&mut self, id: SessionId) -> Result<(&Arc<Live>, &mut Writer)> {
        match &mut self.owned {
            Some((live, writer)) => Ok((&*live, writer)),
            None => Err(SessionError::Fenced { id, what: "it ended, or somebody else runs it".to_owned() }),
        }
    }
}

impl Engine {
    /// Appends events of the owner, behind whatever progress was reported before them. What others appended in between
    /// is read first; if the session is no longer owned here, that is said and nothing is appended.
    pub(crate) async fn append_owned(
        &self,
        state: &mut CellState,
        id: SessionId,
        durability: Durability,
        mut decide: impl FnMut(&Head) -> Result<Vec<SessionEvent>> + Send,
    ) -> Result<Tip> {
        let (live, writer) = state.live(id)?;
        let live = Arc::clone(live);
        let pending = live.progress.take_pending();
        let mut included = false;
        let result = self
            .commit(writer, durability, |head| {
                live.check()?;
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
            live.progress.put_back(report);
        }
        if let Err(error @ SessionError::Fenced { .. }) = &result {
            live.lose(error.clone());
        }
        Self::settle(state);
        result
    }

    /// Looks whether others appended something, and folds it in.
    pub(crate) async fn look(&self, state: &mut CellState, id: SessionId) -> Result<()> {
        let (live, writer) = state.live(id)?;
        let live = Arc::clone(live);
        match self.storage.head(id).await? {
            None => live.lose(SessionError::Fenced { id, what: "it was deleted".to_owned() }),
            Some(stored) if stored.tip == writer.head.tip => return Ok(()),
            Some(_) => {
                self.catch_up(writer).await?;
                // What others asked for is acted upon, and told, only once it cannot be lost any more.
                let _: Tip = self.commit(writer, Durability::Flushed, |_| Ok(Vec::new())).await?;
            }
        }
        Self::settle(state);
        Ok(())
    }

    /// Draws the conclusions from where the writer stands: shows it to the work, and lets go of a session that ended
    /// or was lost.
    fn settle(state: &mut CellState) {
        let Some((live, writer)) = &state.owned else { return };
        let head = &writer.head;
        if head.lifecycle.owner.is_none() || writer.interrupted {
            // An ending that nobody interrupted us for can only be our own.
            if writer.interrupted || !head.state().is_final() {
                live.lose(fenced(head));
            }
        }
        live.progress.sync_from(head);
        live.view.send_if_modified(|view| {
            let changed = view.tip != head.tip;
            view.clone_from(head);
            changed
        });
        live.requests.send_if_modified(|requests| {
            let changed = *requests != head.lifecycle.requests;
            requests.clone_from(&head.lifecycle.requests);
            changed
        });
        if let Some(request) = &head.lifecycle.requests.cancel {
            live.cancel.cancel(request.reason.clone());
        }
        if head.state().is_final() || live.check().is_err() {
            live.end();
            state.owned = None;
        }
    }
}

fn fenced(head: &Head) -> SessionError {
    let what = match &head.lifecycle.owner {
        Some(owner) => format!("attempt {} is run by {owner}", head.lifecycle.attempt),
        None => format!("it is {}", head.state().name()),
    };
    SessionError::Fenced { id: head.id, what }
}

/// Keeps a live session in step with its log until it is over: writes what progress was reported, flushes what lies
/// about for too long, reads what others append, answers a request to go on.
///
/// It holds nothing between its looks: when the last handle of the manager goes, so does the ownership.
pub(crate) async fn keep_in_step(engine: Weak<Engine>, live: Weak<Live>) {
    let mut next_progress = Instant::now();
    loop {
        let (Some(engine), Some(live)) = (engine.upgrade(), live.upgrade()) else { return };
        if live.is_over() {
            return;
        }
        let seen = live.view.borrow().tip;
        let poll = engine.options.poll_interval;
        let running = matches!(live.view.borrow().state(), SessionState::Running { .. });
        let storage = Arc::clone(&engine.storage);
        let interval = engine.options.progress_interval;
        let id = live.id;
        let reported = live.progress.clone();
        let watched = Arc::downgrade(&live);
        let kept = Arc::downgrade(&engine);
        // Only the waiting itself must hold neither.
        drop((engine, live));
        let due = tokio::select! {
            () = async {
                reported.pending_changed().await;
                tokio::time::sleep_until(next_progress).await;
            }, if running => Due::Progress,
            () = storage.changed(id, seen, poll) => Due::Look,
            () = stirred(&watched) => Due::Look,
        };
        drop(reported);
        let (Some(engine), Some(live)) = (kept.upgrade(), watched.upgrade()) else { return };
        // Boxed, so that a session which waits costs no more than waiting takes.
        let result = Box::pin(engine.step(&live, due)).await;
        if matches!(due, Due::Progress) {
            next_progress = Instant::now() + interval;
        }
        if let Err(error) = result
            && !live.is_over()
        {
            tracing::warn!(session = %id, %error, code = %error.code(), "could not keep in step with the log");
            drop((engine, live));
            tokio::time::sleep(poll).await;
        }
    }
}

async fn stirred(live: &Weak<Live>) {
    // Held for the wait: a live session outlives its last handle only until the next look at the storage.
    match live.upgrade() {
        Some(live) => live.stirred.notified().await,
        None => std::future::pending().await,
    }
}

#[derive(Debug, Clone, Copy)]
enum Due {
    Progress,
    Look,
}

impl Engine {
    async fn step(&self, live: &Arc<Live>, due: Due) -> Result<()> {
        let id = live.id;
        let cell = self.cell(id);
        let mut state = cell.state.lock().await;
        if state.owned.as_ref().is_none_or(|(owned, _)| !Arc::ptr_eq(owned, live)) {
            return Ok(());
        }
        match due {
            Due::Progress => {
                self.append_owned(&mut state, id, Durability::Buffered, |_| Ok(Vec::new())).await?;
            }
            Due::Look => self.look(&mut state, id).await?,
        }
        let Some((_, writer)) = &state.owned else { return Ok(()) };
        if writer.unflushed_since.is_some_and(|since| since.elapsed() >= self.options.autosave) {
            self.append_owned(&mut state, id, Durability::Flushed, |_| Ok(Vec::new())).await?;
        }
        self.go_on_if_asked(&mut state, live).await
    }

    /// A work that waits in one of its calls goes on as soon as somebody asks for it; one that waits for an answer
    /// asks for the answer.
    async fn go_on_if_asked(&self, state: &mut CellState, live: &Live) -> Result<()> {
        let id = live.id;
        let Some((_, writer)) = &state.owned else { return Ok(()) };
        let asked = writer.head.lifecycle.requests.resume.is_some();
        let waits = matches!(
            writer.head.state(),
            SessionState::Paused { reason } if !matches!(reason, crate::reason::PauseReason::AwaitingInput(_))
        );
        if !(asked && waits) || live.request_handling() == RequestHandling::External {
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
