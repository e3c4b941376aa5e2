//! A manager with observers: any manager, tapped once, with a dispatcher behind the tap. How events are delivered is in
//! `dispatch`.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

use crate::config::SessionConfig;
use crate::error::Result;
use crate::event::{Origin, SessionEvent};
use crate::head::Head;
use crate::id::SessionId;
use crate::machine::{CancelRequest, SessionState, StateName};
use crate::manager::{
    CrashedSession, Dispatcher, EventSink, ObserverHealth, PersistedSession, RecoveryOptions, RecoveryReport,
    Session, SessionList, SessionManager,
};
use crate::observer::SessionObserver;
use crate::presence::Liveness;
use crate::progress::SessionProgress;
use crate::reason::{Failure, SessionSummary};
use crate::record::{StoredRecord, Tip};
use crate::storage::SessionFilter;

/// Lets observers hear what a manager does. It is a manager itself: every call goes to the one inside.
///
/// Clones share the observers. They hear until [`shutdown`](SessionManager::shutdown), or until the manager inside is
/// gone: dropping this does not silence them. An observer may call the manager; one that *keeps* it keeps it alive until
/// the shutdown.
#[derive(Clone)]
pub struct ObservableSessionManager {
    inner: Arc<dyn SessionManager>,
    dispatcher: Arc<Dispatcher>,
    queue: NonZeroUsize,
    grace: Duration,
}

impl ObservableSessionManager {
    /// A manager without observers yet.
    #[must_use]
    pub fn new(inner: Arc<dyn SessionManager>) -> Self {
        let dispatcher = Arc::new(Dispatcher::new());
        inner.add_sink(Arc::<Dispatcher>::clone(&dispatcher));
        Self { inner, dispatcher, queue: Dispatcher::QUEUE, grace: Duration::from_secs(5) }
    }

    /// How many events may wait for each observer that is added after this; 8192 unless set.
    #[must_use]
    pub fn queue(mut self, events: NonZeroUsize) -> Self {
        self.queue = events;
        self
    }

    /// How long a shutdown waits for observers that have not heard everything; 5 s unless set.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Adds an observer, which hears every event from now on. The name is for people.
    #[must_use]
    pub fn observe(self, name: &str, observer: Arc<dyn SessionObserver>) -> Self {
        self.dispatcher.add(name, observer, self.queue);
        self
    }

    /// How each observer fares, in the order in which they were added.
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

    async fn create_session_from(&self, config: SessionConfig, origin: Option<Origin>) -> Result<SessionId> {
        self.inner.create_session_from(config, origin).await
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

    async fn fail_session(&self, id: SessionId, error: Failure) -> Result<()> {
        self.inner.fail_session(id, error).await
    }

    async fn complete_session(&self, id: SessionId, summary: SessionSummary) -> Result<()> {
        self.inner.complete_session(id, summary).await
    }

    async fn provide_input(&self, id: SessionId, value: Value) -> Result<Tip> {
        self.inner.provide_input(id, value).await
    }

    async fn get_state(&self, id: SessionId) -> Result<SessionState> {
        self.inner.get_state(id).await
    }

    async fn get_progress(&self, id: SessionId) -> Result<SessionProgress> {
        self.inner.get_progress(id).await
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

    async fn find_crashed_sessions(&self) -> Result<Vec<CrashedSession>> {
        self.inner.find_crashed_sessions().await
    }

    async fn recover(&self, options: RecoveryOptions) -> Result<RecoveryReport> {
        self.inner.recover(options).await
    }

    /// Shuts the manager inside down, then lets the observers hear the rest. Observers that take longer than the grace
    /// are left behind; that is logged, and no error: it is their loss only.
    async fn shutdown(&self) -> Result<()> {
        let outcome = self.inner.shutdown().await;
        let (dispatcher, caller, grace) = (Arc::clone(&self.dispatcher), thread::current().id(), self.grace);
        // A dropped future leaves this waiting on its own thread, for the grace at most.
        if let Err(error) = tokio::task::spawn_blocking(move || dispatcher.shutdown_for(caller, grace)).await
        {
            tracing::error!(%error, "the wait for observers was cut short");
        }
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
