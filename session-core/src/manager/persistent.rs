//! The manager over a storage. Each method is one decision that the engine executes.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::acquire::{Acquire, acquire};
use super::engine::Engine;
use super::follow;
use super::identity::Identity;
use super::locked_session::LockedSession;
use super::names::Names;
use super::options::ManagerOptions;
use super::recovery::{Recovery, RecoveryOptions};
use super::requests;
use super::session::Session;
use super::trackers::ProgressWatch;
use super::{EventSink, PersistedSession, SessionList, SessionManager};
use crate::config::{RecoveryPolicy, SessionConfig};
use crate::error::{Result, SessionError};
use crate::event::{Answer, FORMAT, Origin, SessionEvent};
use crate::head::Head;
use crate::id::SessionId;
use crate::log_writer::LogWriter;
use crate::machine::{CancelRequest, SessionState, StateName};
use crate::owner::Evidence;
use crate::presence::{Liveness, Presence, ProcessPresence};
use crate::progress::{ProgressTracker, SessionProgress};
use crate::reason::{Failure, SessionSummary};
use crate::record::{StoredRecord, Tip};
use crate::recovery_report::{CrashedSessions, RecoveryReport};
use crate::storage::{
    ListOrder, MemoryStorage, SessionFilter, SessionStorage, SessionStorageExt as _, StorageError,
};
use crate::time::Timestamp;

/// Default age above which `cleanup` deletes ended sessions.
const KEEP: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// A manager over a storage. Clones share all state.
///
/// It owns its sessions until they end, until [`shutdown`](SessionManager::shutdown), or until the last handle of it
/// and of its [`Session`]s is dropped.
pub struct PersistentSessionManager<S: ?Sized = dyn SessionStorage> {
    parts: Arc<Parts>,
    storage: Arc<S>,
}

struct Parts {
    engine: Arc<Engine>,
    recovery: Recovery,
    names: Names,
}

impl Parts {
    fn new(
        storage: Arc<dyn SessionStorage>,
        presence: Arc<dyn Presence>,
        options: ManagerOptions,
    ) -> Arc<Self> {
        let intervals = options.intervals();
        let names = Names::new(options.names, options.program);
        let ManagerOptions { clock, conflict_timeout, max_sessions, leftovers, .. } = options;
        let writer = LogWriter { storage, clock, conflict_timeout, max_sessions };
        let engine = Arc::new(Engine::new(writer, Identity::new(presence), intervals, leftovers));
        let recovery = Recovery::new(Arc::clone(&engine), options.handlers, options.max_attempts);
        Arc::new(Self { engine, recovery, names })
    }
}

/// A manager that stores its sessions in memory, for as long as it exists.
pub type InMemorySessionManager = PersistentSessionManager<MemoryStorage>;

impl<S: ?Sized> Clone for PersistentSessionManager<S> {
    fn clone(&self) -> Self {
        Self { parts: Arc::clone(&self.parts), storage: Arc::clone(&self.storage) }
    }
}

impl<S: ?Sized> std::fmt::Debug for PersistentSessionManager<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("PersistentSessionManager").field(&self.engine().storage().profile()).finish()
    }
}

impl InMemorySessionManager {
    /// Creates an empty in-memory manager.
    #[must_use]
    pub fn new() -> Self {
        Self::with_options(ManagerOptions::default())
    }

    /// Creates an empty in-memory manager with these options.
    #[must_use]
    pub fn with_options(options: ManagerOptions) -> Self {
        Self::without_recovery(Arc::new(MemoryStorage::new()), Arc::new(ProcessPresence::default()), options)
    }
}

impl Default for InMemorySessionManager {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: SessionStorage + 'static> PersistentSessionManager<S> {
    /// Opens a manager over a storage, and recovers orphans as configured in the options. `presence` announces this
    /// process as an owner, and detects which other owners are alive.
    ///
    /// # Errors
    /// Failures of the recovery as a whole. Sessions that could not be recovered are in the report that sinks receive.
    pub async fn open(storage: Arc<S>, presence: Arc<dyn Presence>, options: ManagerOptions) -> Result<Self> {
        let recovery = options.recovery;
        Self::without_recovery(storage, presence, options).recovered(recovery).await
    }

    fn without_recovery(storage: Arc<S>, presence: Arc<dyn Presence>, options: ManagerOptions) -> Self {
        let parts = Parts::new(Arc::clone(&storage) as Arc<dyn SessionStorage>, presence, options);
        Self { parts, storage }
    }
}

impl PersistentSessionManager {
    /// Opens a manager like [`open`](Self::open), over a storage that is chosen at run time.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub async fn open_dyn(
        storage: Arc<dyn SessionStorage>,
        presence: Arc<dyn Presence>,
        options: ManagerOptions,
    ) -> Result<Self> {
        let recovery = options.recovery;
        let parts = Parts::new(Arc::clone(&storage), presence, options);
        Self { parts, storage }.recovered(recovery).await
    }
}

impl<S: ?Sized> PersistentSessionManager<S> {
    async fn recovered(self, policy: Option<RecoveryPolicy>) -> Result<Self> {
        if let Some(policy) = policy {
            let report = self.parts.recovery.recover(RecoveryOptions::new(policy)).await?;
            self.engine().sinks.opened_with(report);
        }
        Ok(self)
    }

    /// Returns the storage.
    #[must_use]
    pub fn storage(&self) -> &Arc<S> {
        &self.storage
    }

    /// Returns the number of sessions in memory: those that this manager owns, and those that a call is using.
    #[must_use]
    pub fn sessions_in_memory(&self) -> usize {
        self.engine().registry.len()
    }

    /// Withdraws the announcement of this manager, unless a session that it created and that was never started still
    /// names it.
    async fn retire_if_unnamed(&self) -> Result<()> {
        let identity = &self.engine().identity;
        let Some(me) = identity.announced() else { return Ok(()) };
        let created = SessionFilter::all().state(StateName::Created);
        let page = self.engine().storage().list_all(&created).await?;
        let mut responsible = page.heads.iter().filter_map(Head::responsible_process);
        if page.unreadable.is_empty() && !responsible.any(|owner| owner.instance == me.instance) {
            identity.retire();
        }
        Ok(())
    }

    fn engine(&self) -> &Arc<Engine> {
        &self.parts.engine
    }

    /// Returns the requester recorded in the log.
    fn requester(&self) -> String {
        self.engine().identity.requester()
    }
}

#[async_trait]
impl<S: ?Sized + Send + Sync + 'static> SessionManager for PersistentSessionManager<S> {
    async fn create_session_inheriting(
        &self,
        mut config: SessionConfig,
        origin: Option<Origin>,
        inherits: u64,
    ) -> Result<SessionId> {
        self.engine().check_open()?;
        config.check()?;
        let id = config.id();
        let chosen = config.name.clone();
        let name = if let Some(name) = &chosen {
            name.clone()
        } else {
            let now = self.engine().writer.clock().now();
            self.parts.names.next(&**self.engine().storage(), now).await?
        };
        config.name = Some(name.clone());
        let created = async {
            let creator = self.engine().identity.me().await?.clone();
            let event =
                SessionEvent::Created { format: FORMAT, config: Box::new(config), creator, origin, inherits };
            let mut session = LockedSession::lock(self.engine(), id).await;
            session.create(event).await
        };
        let created = created.await;
        if let Err(error) = &created {
            tracing::warn!(name, %error, code = %error.code(), "could not create a session");
        }
        // If the log exists, it is the session with the same key: random ids do not collide.
        let is_new = matches!(created, Ok(Some(_)));
        match chosen {
            Some(name) if is_new => self.parts.names.chosen(&name).await,
            None if !is_new => self.parts.names.unused(&name).await,
            _ => {}
        }
        created.map(|_| id)
    }

    async fn inherit_steps(&self, id: SessionId, after: Tip, events: Vec<SessionEvent>) -> Result<Tip> {
        requests::inherit(self.engine(), id, after, events).await
    }

    async fn start_session(&self, id: SessionId) -> Result<Session> {
        acquire(self.engine(), id, Acquire::Start).await
    }

    async fn record_event(&self, id: SessionId, event: SessionEvent) -> Result<Tip> {
        requests::record(self.engine(), id, event).await
    }

    async fn pause_session(&self, id: SessionId, reason: String) -> Result<SessionState> {
        requests::pause(self.engine(), id, reason).await
    }

    async fn resume_session(&self, id: SessionId) -> Result<Session> {
        acquire(self.engine(), id, Acquire::Resume).await
    }

    async fn request_resume(&self, id: SessionId) -> Result<SessionState> {
        let resume = SessionEvent::ResumeRequested { by: self.requester() };
        Ok(requests::request(self.engine(), id, resume).await?.lifecycle.state)
    }

    async fn cancel_session(&self, id: SessionId, request: CancelRequest) -> Result<SessionState> {
        requests::cancel(self.engine(), id, request).await
    }

    async fn cancel_lost_session(
        &self,
        id: SessionId,
        before: Timestamp,
        request: CancelRequest,
    ) -> Result<Option<SessionState>> {
        requests::cancel_lost(self.engine(), id, before, request).await
    }

    async fn fail_session(&self, id: SessionId, error: Failure) -> Result<()> {
        requests::fail(self.engine(), id, error).await
    }

    async fn complete_session(&self, id: SessionId, summary: SessionSummary) -> Result<()> {
        requests::complete(self.engine(), id, summary).await
    }

    async fn append_answer(&self, id: SessionId, known: u64, answer: Answer) -> Result<Tip> {
        // If the session is unowned, the answer is for the next owner, so the owner's liveness does not matter.
        let by = self.requester();
        let answered = SessionEvent::Answered { answer: Box::new(answer), by, default: false };
        requests::answer(self.engine(), id, known, answered).await
    }

    async fn get_progress(&self, id: SessionId) -> Result<SessionProgress> {
        if let Some(tracker) = self.progress(id) {
            return Ok(tracker.snapshot());
        }
        let now = self.engine().writer.clock().now();
        Ok(SessionProgress::from_head(&self.get_head(id).await?, now))
    }

    fn progress(&self, id: SessionId) -> Option<ProgressTracker> {
        self.engine().trackers.get(id)
    }

    fn watch_progress(&self) -> ProgressWatch {
        self.engine().trackers.watch()
    }

    async fn get_head(&self, id: SessionId) -> Result<Head> {
        self.engine().writer.head(id).await
    }

    async fn list_sessions(&self, filter: SessionFilter) -> Result<SessionList> {
        let mut page = self.engine().storage().list_all(&filter).await?;
        if filter.order == ListOrder::Created {
            page.heads.sort_by_key(|head| (head.created_at, head.id));
        }
        Ok(SessionList { heads: page.heads, unreadable: page.unreadable })
    }

    async fn wait_for(&self, id: SessionId, states: &[StateName]) -> Result<Head> {
        follow::wait_for(self.engine(), id, states).await
    }

    async fn read_log(&self, id: SessionId, after: u64, limit: usize) -> Result<Vec<StoredRecord>> {
        match std::num::NonZeroUsize::new(limit) {
            Some(limit) => Ok(self.engine().storage().records(id, after, limit).await?.records),
            None => Ok(Vec::new()),
        }
    }

    async fn next_records(&self, id: SessionId, after: u64) -> Result<Vec<StoredRecord>> {
        follow::next_records(self.engine(), id, after).await
    }

    async fn delete_session(&self, id: SessionId) -> Result<()> {
        self.engine().check_open()?;
        self.engine().end_leftovers(id).await?;
        LockedSession::lock(self.engine(), id).await.delete().await
    }

    async fn cleanup(&self, max_age: Option<Duration>) -> Result<Vec<SessionId>> {
        let before = self.engine().writer.clock().now().before(max_age.unwrap_or(KEEP));
        let ended = StateName::ALL.iter().filter(|state| state.is_final());
        let filter = ended.fold(SessionFilter::all(), |filter, state| filter.state(*state));
        let mut removed = Vec::new();
        for head in self.engine().storage().list_all(&filter).await?.heads {
            if head.ended_at.is_some_and(|ended| ended < before) {
                match self.delete_session(head.id).await {
                    Ok(()) => removed.push(head.id),
                    // Already deleted by another process.
                    Err(SessionError::Storage(StorageError::NotFound { .. })) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(removed)
    }

    async fn restore_session(&self, id: SessionId) -> Result<PersistedSession> {
        Ok(self.engine().storage().load(id).await?)
    }

    async fn liveness(&self, id: SessionId) -> Result<Option<Liveness>> {
        let head = self.get_head(id).await?;
        match head.responsible_process() {
            Some(owner) => Ok(Some(self.engine().identity.liveness(owner).await?)),
            None => Ok(None),
        }
    }

    fn opening_recovery(&self) -> Option<RecoveryReport> {
        self.engine().sinks.opening().cloned()
    }

    async fn find_crashed_sessions(&self) -> Result<CrashedSessions> {
        self.parts.recovery.crashed().await
    }

    async fn recover(&self, options: RecoveryOptions) -> Result<RecoveryReport> {
        self.parts.recovery.recover(options).await
    }

    async fn shutdown(&self) -> Result<()> {
        self.engine().close();
        self.engine().trackers.close();
        let mut failed = None;
        for owned in self.engine().registry.owned().await {
            let mut session = LockedSession::lock(self.engine(), owned.id).await;
            match session.release(Evidence::Shutdown).await {
                Ok(()) => {}
                // It ended in between.
                Err(_) if session.owned().is_none() => {}
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) => Err(error),
            None => self.retire_if_unnamed().await,
        }
    }

    fn add_sink(&self, sink: Arc<dyn EventSink>) {
        self.engine().sinks.add(sink);
    }

    fn to_shared(&self) -> Arc<dyn SessionManager> {
        Arc::new(self.clone())
    }
}
