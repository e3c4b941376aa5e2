//! A manager with observers: any manager, with a dispatcher registered as its sink. Delivery of events is in
//! `dispatch`.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

use crate::blocking::blocking;
use crate::config::SessionConfig;
use crate::error::Result;
use crate::event::{Answer, Origin, SessionEvent};
use crate::head::Head;
use crate::id::SessionId;
use crate::machine::{CancelRequest, SessionState, StateName};
use crate::manager::{
    CrashedSessions, Dispatcher, EventSink, ObserverHealth, PersistedSession, ProgressWatch, RecoveryOptions,
    RecoveryReport, Session, SessionList, SessionManager,
};
use crate::observer::SessionObserver;
use crate::presence::Liveness;
use crate::progress::{ProgressTracker, SessionProgress};
use crate::reason::{Failure, SessionSummary};
use crate::record::{StoredRecord, Tip};
use crate::storage::SessionFilter;
use crate::time::Timestamp;

/// A manager that delivers the events of another manager to observers. It forwards every call to that manager.
///
/// Clones share the observers. Observers receive events until [`shutdown`](SessionManager::shutdown), or until the
/// inner manager is dropped; dropping this value does not stop them. An observer may call the manager; if it stores a
/// handle, the manager lives until the shutdown.
#[derive(Clone)]
pub struct ObservableSessionManager {
    inner: Arc<dyn SessionManager>,
    dispatcher: Arc<Dispatcher>,
    queue: NonZeroUsize,
    grace: Duration,
}

impl ObservableSessionManager {
    /// Wraps a manager, without observers yet.
    #[must_use]
    pub fn new(inner: Arc<dyn SessionManager>) -> Self {
        let dispatcher = Arc::new(Dispatcher::new());
        inner.add_sink(Arc::<Dispatcher>::clone(&dispatcher));
        Self { inner, dispatcher, queue: Dispatcher::QUEUE, grace: Duration::from_secs(5) }
    }

    /// Sets the queue length of observers that are added after this call; 8192 by default.
    #[must_use]
    pub fn queue(mut self, events: NonZeroUsize) -> Self {
        self.queue = events;
        self
    }

    /// Sets the maximum time that a shutdown waits for observers; 5 s by default.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Adds an observer, which receives every event from now on, and first the report of the recovery at opening, if
    /// that found anything. The name is for people.
    #[must_use]
    pub fn observe(self, name: &str, observer: Arc<dyn SessionObserver>) -> Self {
        let opening = self.inner.opening_recovery();
        let opening = opening.filter(|report| !(report.recovered.is_empty() && report.failed.is_empty()));
        self.dispatcher.add_after(opening, name, observer, self.queue);
        self
    }

    /// Returns the delivery statistics of each observer, in the order in which they were added.
    #[must_use]
    pub fn health(&self) -> Vec<ObserverHealth> {
        self.dispatcher.health()
    }
}

impl fmt::Debug for ObservableSessionManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { inner: _, dispatcher, queue, grace } = self;
        f.debug_struct("ObservableSessionManager")
            .field("dispatcher", dispatcher)
            .field("queue", queue)
            .field("grace", grace)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl SessionManager for ObservableSessionManager {
    async fn create_session(&self, config: SessionConfig) -> Result<SessionId> {
        self.inner.create_session(config).await
    }

    async fn create_session_inheriting(
        &self,
        config: SessionConfig,
        origin: Option<Origin>,
        records: u64,
    ) -> Result<SessionId> {
        self.inner.create_session_inheriting(config, origin, records).await
    }

    async fn inherit_steps(&self, id: SessionId, after: Tip, events: Vec<SessionEvent>) -> Result<Tip> {
        self.inner.inherit_steps(id, after, events).await
    }

    async fn start_session(&self, id: SessionId) -> Result<Session> {
        self.inner.start_session(id).await
    }

    async fn record_event(&self, id: SessionId, event: SessionEvent) -> Result<Tip> {
        self.inner.record_event(id, event).await
    }

    async fn pause_session(&self, id: SessionId, reason: String) -> Result<SessionState> {
        self.inner.pause_session(id, reason).await
    }

    async fn resume_session(&self, id: SessionId) -> Result<Session> {
        self.inner.resume_session(id).await
    }

    async fn request_resume(&self, id: SessionId) -> Result<SessionState> {
        self.inner.request_resume(id).await
    }

    async fn cancel_session(&self, id: SessionId, request: CancelRequest) -> Result<SessionState> {
        self.inner.cancel_session(id, request).await
    }

    async fn cancel_lost_session(
        &self,
        id: SessionId,
        before: Timestamp,
        request: CancelRequest,
    ) -> Result<Option<SessionState>> {
        self.inner.cancel_lost_session(id, before, request).await
    }

    async fn fail_session(&self, id: SessionId, error: Failure) -> Result<()> {
        self.inner.fail_session(id, error).await
    }

    async fn complete_session(&self, id: SessionId, summary: SessionSummary) -> Result<()> {
        self.inner.complete_session(id, summary).await
    }

    async fn append_answer(&self, id: SessionId, known: u64, answer: Answer) -> Result<Tip> {
        self.inner.append_answer(id, known, answer).await
    }

    async fn get_state(&self, id: SessionId) -> Result<SessionState> {
        self.inner.get_state(id).await
    }

    async fn get_progress(&self, id: SessionId) -> Result<SessionProgress> {
        self.inner.get_progress(id).await
    }

    fn progress(&self, id: SessionId) -> Option<ProgressTracker> {
        self.inner.progress(id)
    }

    fn watch_progress(&self) -> ProgressWatch {
        self.inner.watch_progress()
    }

    async fn get_head(&self, id: SessionId) -> Result<Head> {
        self.inner.get_head(id).await
    }

    async fn list_active_sessions(&self) -> Result<SessionList> {
        self.inner.list_active_sessions().await
    }

    async fn list_sessions(&self, filter: SessionFilter) -> Result<SessionList> {
        self.inner.list_sessions(filter).await
    }

    async fn wait_for(&self, id: SessionId, states: &[StateName]) -> Result<Head> {
        self.inner.wait_for(id, states).await
    }

    async fn read_log(&self, id: SessionId, after: u64, limit: usize) -> Result<Vec<StoredRecord>> {
        self.inner.read_log(id, after, limit).await
    }

    async fn next_records(&self, id: SessionId, after: u64) -> Result<Vec<StoredRecord>> {
        self.inner.next_records(id, after).await
    }

    async fn delete_session(&self, id: SessionId) -> Result<()> {
        self.inner.delete_session(id).await
    }

    async fn cleanup(&self, max_age: Option<Duration>) -> Result<Vec<SessionId>> {
        self.inner.cleanup(max_age).await
    }

    async fn save_checkpoint(&self, id: SessionId, state: Value) -> Result<Tip> {
        self.inner.save_checkpoint(id, state).await
    }

    async fn restore_session(&self, id: SessionId) -> Result<PersistedSession> {
        self.inner.restore_session(id).await
    }

    async fn liveness(&self, id: SessionId) -> Result<Option<Liveness>> {
        self.inner.liveness(id).await
    }

    fn opening_recovery(&self) -> Option<RecoveryReport> {
        self.inner.opening_recovery()
    }

    async fn find_crashed_sessions(&self) -> Result<CrashedSessions> {
        self.inner.find_crashed_sessions().await
    }

    async fn recover(&self, options: RecoveryOptions) -> Result<RecoveryReport> {
        self.inner.recover(options).await
    }

    /// Shuts down the inner manager, then delivers the remaining events. Observers that take longer than the grace
    /// period are abandoned, which is logged and not an error.
    async fn shutdown(&self) -> Result<()> {
        let outcome = self.inner.shutdown().await;
        let (dispatcher, caller, grace) = (Arc::clone(&self.dispatcher), thread::current().id(), self.grace);
        // If the future is dropped, the wait continues on its own thread, for the grace period at most.
        blocking(move || dispatcher.shutdown_for(caller, grace)).await;
        outcome
    }

    fn add_sink(&self, sink: Arc<dyn EventSink>) {
        self.inner.add_sink(sink);
    }

    fn to_shared(&self) -> Arc<dyn SessionManager> {
        Arc::new(self.clone())
    }
}

#[cfg(all(test, feature = "mock"))]
mod tests;
