//! The processes of a case: the owner, another manager, another process.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sessionkit::async_trait::async_trait;
use sessionkit::backend::{Presence, PresenceGuard};
use sessionkit::log::{Evidence, FailureCause, InstanceId, Owner, PauseReason};
use sessionkit::manager::{Liveness, PersistentSessionManager, StorageError};
use sessionkit::{
    CancelRequest, ErrorCode, Failure, ManagerOptions, Session, SessionError, SessionId, SessionManager,
    SessionSummary, StateName, Store,
};

/// The environment variable with a call for another process.
pub(crate) const CALL: &str = "SESSION_ENDS_CALL";
/// The beginning of the line with its result.
pub(crate) const MARK: &str = "the call returned ";

/// The way in which a session ends or pauses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Cancel,
    ForceCancel,
    Fail,
    Complete,
    Deadline,
    Pause,
    /// By a manager, which refuses.
    Delete,
    /// Past all managers.
    Remove,
    Shutdown,
    Takeover,
}

impl Way {
    pub(crate) const ALL: [Self; 10] = [
        Self::Cancel,
        Self::ForceCancel,
        Self::Fail,
        Self::Complete,
        Self::Deadline,
        Self::Pause,
        Self::Delete,
        Self::Remove,
        Self::Shutdown,
        Self::Takeover,
    ];
}

/// The caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// The work, or another task with a handle.
    Handle,
    /// The owning manager, by the id.
    Id,
    OtherManager,
    OtherProcess,
}

impl By {
    pub(crate) const ALL: [Self; 4] = [Self::Handle, Self::Id, Self::OtherManager, Self::OtherProcess];
}

/// A presence that takes every other owner for dead.
#[derive(Debug)]
struct NobodyElse(Arc<dyn Presence>);

#[async_trait]
impl Presence for NobodyElse {
    fn identify(&self) -> Result<Owner, StorageError> {
        self.0.identify()
    }

    async fn announce(&self, owner: &mut Owner) -> Result<Box<dyn PresenceGuard>, StorageError> {
        self.0.announce(owner).await
    }

    async fn liveness(&self, _: &Owner) -> Result<Liveness, StorageError> {
        Ok(Liveness::Dead { evidence: Evidence::LockReleased })
    }

    async fn sweep(&self, _: &HashSet<InstanceId>) -> Result<(), StorageError> {
        Ok(())
    }
}

pub(crate) struct World {
    scheme: String,
    url: String,
    pub(crate) store: Store,
    other: Arc<dyn SessionManager>,
    usurper: Arc<dyn SessionManager>,
}

fn options() -> ManagerOptions {
    ManagerOptions::new().recovery(None)
}

impl World {
    pub(crate) async fn open(scheme: &str, folder: &Path) -> Self {
        let url = if scheme == "memory" {
            "memory:".to_owned()
        } else {
            format!("{scheme}:{}", folder.join("store").display())
        };
        let store = sessionkit::builder(&url).options(options()).open_store().await.unwrap();
        let shared = async |presence: Arc<dyn Presence>| {
            let storage = Arc::clone(store.storage());
            let manager = PersistentSessionManager::open_dyn(storage, presence, options()).await.unwrap();
            Arc::new(manager) as Arc<dyn SessionManager>
        };
        let usurper = shared(Arc::new(NobodyElse(Arc::clone(store.presence())))).await;
        let other = match scheme {
            "memory" | "sled" => shared(Arc::clone(store.presence())).await,
            _ => sessionkit::builder(&url).options(options()).open().await.unwrap(),
        };
        Self { scheme: scheme.to_owned(), url, store, other, usurper }
    }

    pub(crate) fn scheme(&self) -> &str {
        &self.scheme
    }

    pub(crate) fn is_shared_by_processes(&self) -> bool {
        matches!(&*self.scheme, "file" | "sqlite")
    }

    pub(crate) async fn state(&self, id: SessionId) -> Option<StateName> {
        self.store.manager().get_state(id).await.ok().map(|state| state.name())
    }

    /// Waits for a state. The timeout is a backstop.
    pub(crate) async fn until(&self, id: SessionId, state: StateName, case: &str) {
        let wait = async {
            while self.state(id).await != Some(state) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(60), wait).await;
        assert!(waited.is_ok(), "{case}: never {state}");
    }

    pub(crate) async fn resume(&self, id: SessionId, case: &str) {
        let resumed = self.store.manager().request_resume(id).await;
        assert!(resumed.is_ok(), "{case}: {resumed:?}");
    }

    /// Performs the call, and returns its error.
    pub(crate) async fn perform(
        &self,
        way: Way,
        by: By,
        id: SessionId,
        session: Option<&Session>,
    ) -> Option<ErrorCode> {
        match (way, by) {
            (Way::Deadline, _) => None,
            (Way::Remove, _) => {
                // Work that appends meanwhile is a conflict.
                loop {
                    let head = self.store.storage().head(id).await.unwrap().unwrap();
                    match self.store.storage().delete(id, head.tip).await {
                        Err(StorageError::Conflict { .. }) => {}
                        result => break result.unwrap(),
                    }
                }
                None
            }
            (Way::Takeover, _) => {
                let session = self.usurper.resume_session(id).await.unwrap();
                // It keeps the session: this handle is never dropped.
                std::mem::forget(session);
                None
            }
            (_, By::Handle) => by_handle(way, session.unwrap()).await.err().map(|error| error.code()),
            (_, By::Id) => call(&**self.store.manager(), way, id).await,
            (_, By::OtherManager) => call(&*self.other, way, id).await,
            (_, By::OtherProcess) => {
                let output = tokio::process::Command::new(std::env::current_exe().unwrap())
                    .args(["--exact", "performs_the_call_of_another_process", "--nocapture"])
                    .env(CALL, format!("{way:?} {id} {}", self.url))
                    .output()
                    .await
                    .unwrap();
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                let code =
                    text.lines().find_map(|line| line.split_once(MARK)).expect(&text).1.trim().to_owned();
                ErrorCode::ALL.iter().copied().find(|known| known.to_string() == code)
            }
        }
    }
}

async fn by_handle(way: Way, session: &Session) -> Result<(), SessionError> {
    match way {
        Way::Cancel => session.cancel("enough").await,
        Way::Fail => session.fail(Failure::new(FailureCause::Work, "broken")).await,
        Way::Complete => session.complete(SessionSummary::new()).await,
        Way::Pause => session.pause(PauseReason::Requested("wait".to_owned())).await.map(drop),
        Way::ForceCancel | Way::Deadline | Way::Delete | Way::Remove | Way::Shutdown | Way::Takeover => {
            unreachable!("{way:?} has no call of the handle")
        }
    }
}

/// Performs a call by id, and returns its error.
pub(crate) async fn call(manager: &dyn SessionManager, way: Way, id: SessionId) -> Option<ErrorCode> {
    let result = match way {
        Way::Cancel => manager.cancel_session(id, CancelRequest::new("enough", "test")).await.map(drop),
        Way::ForceCancel => {
            manager.cancel_session(id, CancelRequest::new("enough", "test").force()).await.map(drop)
        }
        Way::Fail => manager.fail_session(id, Failure::new(FailureCause::Work, "broken")).await,
        Way::Complete => manager.complete_session(id, SessionSummary::new()).await,
        Way::Pause => manager.pause_session(id, "wait".to_owned()).await.map(drop),
        Way::Delete => manager.delete_session(id).await,
        Way::Shutdown => manager.shutdown().await,
        Way::Deadline | Way::Remove | Way::Takeover => unreachable!("no call by id"),
    };
    result.err().map(|error| error.code())
}
