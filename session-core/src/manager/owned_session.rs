//! A session that this process owns: the state shared with its work.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::clock_jumps::ClockJumps;
use super::extensions::Extensions;
use super::request_handling::RequestHandling;
use super::wakers::Waker;
use crate::cancellation::CancellationSource;
use crate::config::SessionConfig;
use crate::error::{Result, SessionError};
use crate::event::{Origin, SessionEvent};
use crate::head::Head;
use crate::id::SessionId;
use crate::machine::Requests;
use crate::progress::ProgressTracker;
use crate::time::Clock;

/// A session that this manager owns.
#[derive(Debug)]
pub(crate) struct OwnedSession {
    pub(crate) id: SessionId,
    pub(crate) attempt: u32,
    pub(crate) config: SessionConfig,
    pub(crate) origin: Option<Origin>,
    pub(crate) cancel: CancellationSource,
    pub(crate) progress: ProgressTracker,
    pub(crate) clock_jumps: ClockJumps,
    /// The last checkpoint, of this attempt or an earlier one.
    pub(crate) checkpoint: Mutex<Option<Value>>,
    pub(crate) extensions: Extensions,
    /// The first refusal of a step in this attempt.
    pub(crate) refusal: Mutex<Option<SessionEvent>>,
    view: watch::Sender<Head>,
    requests: watch::Sender<Requests>,
    request_handling: AtomicU8,
    /// Set once, when this manager no longer owns the session.
    end: OnceLock<End>,
    /// The number of handles. The session is released when the last one is dropped.
    handles: AtomicUsize,
    runtime: Handle,
    waker: Waker,
}

/// The end of a manager's ownership.
#[derive(Debug, Clone)]
pub(crate) struct End {
    /// The error of all later calls.
    pub(crate) error: SessionError,
    pub(crate) by: EndedBy,
}

/// The part of a program that ended the ownership of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EndedBy {
    /// The work, through a handle of the session.
    Work,
    /// The manager on behalf of any other caller, or another process.
    Other,
}

/// The parts of the log, apart from the head, that a new owner needs.
#[derive(Debug, Default)]
pub(crate) struct RestoredState {
    pub(crate) config: SessionConfig,
    pub(crate) origin: Option<Origin>,
    pub(crate) checkpoint: Option<Value>,
}

impl OwnedSession {
    /// Creates the session. `runtime` runs the release when the last handle is dropped.
    pub(crate) fn new(head: &Head, restored: RestoredState, clock: Arc<dyn Clock>, runtime: Handle) -> Self {
        Self {
            id: head.id,
            attempt: head.lifecycle.attempt,
            config: restored.config,
            origin: restored.origin,
            cancel: CancellationSource::new(),
            clock_jumps: ClockJumps::new(&*clock),
            progress: ProgressTracker::new(head, clock.now(), clock),
            checkpoint: Mutex::new(restored.checkpoint),
            extensions: Extensions::default(),
            refusal: Mutex::default(),
            view: watch::Sender::new(head.clone()),
            requests: watch::Sender::new(head.lifecycle.requests.clone()),
            request_handling: AtomicU8::new(RequestHandling::default() as u8),
            end: OnceLock::new(),
            handles: AtomicUsize::new(0),
            runtime,
            waker: Waker::register(head.id),
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
        // A pending request may be answered now.
        self.waker.wake();
    }

    /// Returns the end of this manager's ownership, if it has ended.
    pub(crate) fn ended(&self) -> Option<&End> {
        self.end.get()
    }

    /// Checks that this manager still owns the session.
    ///
    /// # Errors
    /// What ended the session or its ownership.
    pub(crate) fn check(&self) -> Result<()> {
        self.ended().map_or(Ok(()), |end| Err(end.error.clone()))
    }

    pub(crate) fn add_handle(&self) {
        self.handles.fetch_add(1, Ordering::SeqCst);
    }

    /// Removes a handle. Returns the runtime on which to release the session if it was the last one.
    pub(crate) fn remove_handle(&self) -> Option<&Handle> {
        let last = self.handles.fetch_sub(1, Ordering::SeqCst) == 1;
        (last && self.ended().is_none()).then_some(&self.runtime)
    }

    pub(crate) fn has_handles(&self) -> bool {
        self.handles.load(Ordering::SeqCst) > 0
    }

    /// Publishes a new head to the work, and the end of the ownership if it has ended.
    pub(crate) fn publish(&self, head: &Head, end: Option<End>) {
        // First, so that a task that the new head wakes finds it.
        let ends = end.is_some_and(|end| self.end.set(end).is_ok());
        self.progress.sync_from(head);
        self.view.send_if_modified(|view| {
            let changed = view.tip != head.tip;
            view.clone_from(head);
            changed || ends
        });
        self.requests.send_if_modified(|requests| {
            let changed = *requests != head.lifecycle.requests;
            requests.clone_from(&head.lifecycle.requests);
            changed
        });
        if let Some(request) = &head.lifecycle.requests.cancel {
            self.cancel.cancel(request.reason.clone());
        }
        if ends && let Some(end) = self.ended() {
            self.progress.end();
            self.waker.wake();
            if let SessionError::Fenced { .. } | SessionError::Storage(_) = &end.error {
                tracing::warn!(session = %self.id, error = %end.error, "lost ownership of the session");
            }
            self.cancel.cancel(reason_of(&end.error));
        }
    }

    /// Returns the refusal of a step that the log does not hold yet.
    pub(crate) fn unrecorded_refusal(&self, head: &Head) -> Option<SessionEvent> {
        let refusal = self.refusal.lock().unwrap_or_else(PoisonError::into_inner);
        refusal.clone().filter(|_| !head.lifecycle.step_refused)
    }

    pub(crate) fn set_checkpoint(&self, state: &Value) {
        *self.checkpoint.lock().unwrap_or_else(PoisonError::into_inner) = Some(state.clone());
    }

    /// Waits until the session has ended here, another manager of this process has changed it, or a request may have to be
    /// answered.
    pub(crate) async fn woken(&self) {
        self.waker.woken().await;
    }
}

/// Returns the reason of an end, for the token.
fn reason_of(error: &SessionError) -> String {
    if let SessionError::Cancelled { reason } = error {
        return reason.clone();
    }
    if let SessionError::Failed { source, .. } = error {
        return source.0.message.clone();
    }
    if let SessionError::AlreadyCompleted { .. } = error {
        return "the session has completed".to_owned();
    }
    error.to_string()
}
