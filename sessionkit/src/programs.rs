//! Programs as sessions of a store: the runner, the output of the programs, and their locks.

use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use session_core::async_trait::async_trait;
use session_core::backend::{
    Batch, ChangeFeed, Expected, HeadPage, Leftovers, LocalPresence, RecordPage, SessionStorage,
    StorageProfile, Tip, blocking,
};
use session_core::{
    Durability, Head, Result, SessionError, SessionFilter, SessionId, SessionManager, StorageError,
};
use session_runner::{FileOutput, OutputStorage, ProgramLeftovers, Runner};

use crate::backend::{Backend, SessionFolders};
use crate::outputs::{Outputs, Starts};
use crate::step_connections::StepConnections;
use crate::url::StoreUrl;
use crate::worktree::WorktreeWorkplace;

/// The parts of a store that run programs.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    /// `None` for a store without a folder on this machine, such as one in memory.
    local: Option<LocalPrograms>,
    starts: Arc<Starts>,
}

#[derive(Debug, Clone)]
struct LocalPrograms {
    /// Also locks the sessions whose programs are running.
    locks: LocalPresence,
    output: FileOutput,
}

impl Programs {
    /// Returns the storage to use for a backend, and what running programs needs.
    pub(crate) fn of(backend: &Backend) -> (Arc<dyn SessionStorage>, Self) {
        let mut storage = Arc::clone(&backend.storage);
        let local = backend.local.as_ref().map(|folders| {
            let output = match folders.layout {
                SessionFolders::Managed => FileOutput::in_session_folders(&folders.sessions),
                SessionFolders::Removed | SessionFolders::Unknown => FileOutput::new(&folders.sessions),
            };
            if folders.layout == SessionFolders::Unknown {
                let (inner, sessions) = (Arc::clone(&storage), folders.sessions.clone());
                storage = Arc::new(WithFolders { inner, sessions });
            }
            LocalPrograms { locks: LocalPresence::new(&folders.owners), output }
        });
        (storage, Self { local, starts: Arc::default() })
    }

    /// Returns what ends the programs of sessions that have lost their owner.
    pub(crate) fn leftovers(&self) -> Option<Arc<dyn Leftovers>> {
        let locks = self.local.as_ref()?.locks.clone();
        Some(Arc::new(ProgramLeftovers::new(locks)))
    }

    /// Returns the storage of captured output, if output is kept.
    pub(crate) fn output(&self) -> Option<Arc<dyn OutputStorage>> {
        let output = self.local.as_ref()?.output.clone();
        Some(Arc::new(output))
    }

    /// Returns a runner for sessions of this manager, whose store has this URL.
    pub(crate) fn runner(&self, manager: &dyn SessionManager, url: &StoreUrl) -> Result<Runner> {
        let worktrees = WorktreeWorkplace::new(manager.to_shared());
        let runner =
            Runner::new(manager).connections(Arc::new(StepConnections)).workplace(Arc::new(worktrees));
        // No other process can read such a store, so its URL is not passed on.
        let Some(LocalPrograms { locks, output }) = &self.local else { return Ok(runner) };
        let text = url.to_os_string().into_string().map_err(|_| SessionError::InvalidArgument {
            what: format!("the path of {url} is not UTF-8, which a store that runs programs needs"),
        })?;
        Ok(runner.output(Arc::new(output.clone())).locks(locks.clone()).store(text))
    }

    /// Starts following the output of all programs.
    pub(crate) async fn outputs(
        &self,
        storage: Arc<dyn SessionStorage>,
        manager: &dyn SessionManager,
        url: &StoreUrl,
    ) -> Result<Outputs> {
        let output = self.output().ok_or_else(|| SessionError::InvalidArgument {
            what: format!("{url} keeps no output of programs"),
        })?;
        Ok(Outputs::open(storage, output, self.starts.subscribe(manager)).await?)
    }
}

/// A storage that does not know the folders of its sessions: they are removed after the session.
#[derive(Debug)]
struct WithFolders {
    inner: Arc<dyn SessionStorage>,
    sessions: PathBuf,
}

#[async_trait]
impl SessionStorage for WithFolders {
    async fn append(
        &self,
        id: SessionId,
        expected: Expected,
        batch: Batch,
        durability: Durability,
    ) -> Result<Tip, StorageError> {
        self.inner.append(id, expected, batch, durability).await
    }

    async fn head(&self, id: SessionId) -> Result<Option<Head>, StorageError> {
        self.inner.head(id).await
    }

    async fn records(
        &self,
        id: SessionId,
        after: u64,
        limit: NonZeroUsize,
    ) -> Result<RecordPage, StorageError> {
        self.inner.records(id, after, limit).await
    }

    async fn list(
        &self,
        filter: &SessionFilter,
        after: Option<SessionId>,
        limit: NonZeroUsize,
    ) -> Result<HeadPage, StorageError> {
        self.inner.list(filter, after, limit).await
    }

    async fn delete(&self, id: SessionId, tip: Tip) -> Result<(), StorageError> {
        self.inner.delete(id, tip).await?;
        let folder = self.sessions.join(id.to_string());
        blocking(move || remove(&folder)).await
    }

    fn profile(&self) -> StorageProfile {
        self.inner.profile()
    }

    fn change_feed(&self) -> Option<Arc<dyn ChangeFeed>> {
        self.inner.change_feed()
    }
}

fn remove(folder: &Path) -> Result<(), StorageError> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StorageError::Io {
            what: format!("the session is deleted, but cannot remove {}", folder.display()),
            source: Arc::new(error),
        }),
        _ => Ok(()),
    }
}
