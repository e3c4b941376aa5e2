//! A session that this process owns: the state shared with its work.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use serde_json::Value;
use tokio::sync::{Notify, watch};

use super::request_handling::RequestHandling;
use crate::cancellation::CancellationSource;
use crate::config::SessionConfig;
use crate::error::{Result, SessionError};
use crate::event::Origin;
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
    pub(crate) fn new(head: &Head, restored: RestoredState, clock: Arc<dyn Clock>) -> Self {
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

    /// Publishes a new head to the work.
    pub(crate) fn publish(&self, head: &Head) {
        self.progress.sync_from(head);
        self.view.send_if_modified(|view| {
            let changed = view.tip != head.tip;
            view.clone_from(head);
            changed
        });
        self.requests.send_if_modified(|requests| {
            let changed = *requests != head.lifecycle.requests;
            requests.clone_from(&head.lifecycle.requests);
            changed
        });
        if let Some(request) = &head.lifecycle.requests.cancel {
            self.cancel.cancel(request.reason.clone());
        }
    }

    pub(crate) fn set_checkpoint(&self, state: &Value) {
        *self.checkpoint.lock().unwrap_or_else(PoisonError::into_inner) = Some(state.clone());
    }

    /// Waits until the session is over.
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }
}
