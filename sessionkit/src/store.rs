//! An open store: the manager, and what its backend can do that others cannot.

use std::sync::Arc;

#[cfg(feature = "file")]
use session_core::LocalPresence;
use session_core::{
    ManagerOptions, MemoryStorage, PersistentSessionManager, Presence, ProcessPresence, Result,
    SessionManager, SessionStorage,
};
#[cfg(feature = "file")]
use session_storage_file::{FileStorage, FileStorageOptions};

use crate::url::StoreUrl;

/// An open store. Most programs need no more of it than the manager, which [`open`](crate::open) returns at once.
#[derive(Clone)]
pub struct Store {
    url: StoreUrl,
    manager: Arc<dyn SessionManager>,
    presence: Arc<dyn Presence>,
    backend: Backend,
}

/// What keeps the logs of a store.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Backend {
    /// A folder, with the locks by which its processes know of each other.
    #[cfg(feature = "file")]
    File {
        /// The storage, for `verify`, repair and the folders of captured output.
        storage: FileStorage,
        /// Who is alive, and the locks of sessions whose programs run.
        presence: LocalPresence,
    },
    /// This process's memory.
    Memory(Arc<MemoryStorage>),
}

impl Store {
    pub(crate) async fn open(url: StoreUrl, options: ManagerOptions) -> Result<Self> {
        match &url {
            #[cfg(feature = "file")]
            StoreUrl::File(path) => {
                let storage = FileStorage::open(FileStorageOptions::new(path))?;
                let presence = LocalPresence::new(storage.owners_dir());
                let shared: Arc<dyn Presence> = Arc::new(presence.clone());
                let options = options.names(Arc::new(storage.clone()));
                let manager =
                    PersistentSessionManager::open(Arc::new(storage.clone()), Arc::clone(&shared), options)
                        .await?;
                Ok(Self {
                    url,
                    manager: Arc::new(manager),
                    presence: shared,
                    backend: Backend::File { storage, presence },
                })
            }
            #[cfg(not(feature = "file"))]
            StoreUrl::File(_) => Err(session_core::SessionError::InvalidArgument {
                what: format!(
                    "`{url}` needs the feature `file` of `sessionkit`, which this build leaves out"
                ),
            }),
            StoreUrl::Memory => {
                let storage = Arc::new(MemoryStorage::new());
                let presence: Arc<dyn Presence> = Arc::new(ProcessPresence::default());
                let manager =
                    PersistentSessionManager::open(Arc::clone(&storage), Arc::clone(&presence), options)
                        .await?;
                Ok(Self { url, manager: Arc::new(manager), presence, backend: Backend::Memory(storage) })
            }
        }
    }

    /// Where it is.
    #[must_use]
    pub const fn url(&self) -> &StoreUrl {
        &self.url
    }

    /// The manager.
    #[must_use]
    pub const fn manager(&self) -> &Arc<dyn SessionManager> {
        &self.manager
    }

    /// The same store with something around its manager: an
    /// [`ObservableSessionManager`](session_core::ObservableSessionManager), for example.
    #[must_use]
    pub fn map_manager(
        mut self,
        around: impl FnOnce(Arc<dyn SessionManager>) -> Arc<dyn SessionManager>,
    ) -> Self {
        self.manager = around(self.manager);
        self
    }

    /// The storage below the manager, to follow logs without one.
    #[must_use]
    pub fn storage(&self) -> Arc<dyn SessionStorage> {
        match &self.backend {
            #[cfg(feature = "file")]
            Backend::File { storage, .. } => Arc::new(storage.clone()),
            Backend::Memory(storage) => Arc::<MemoryStorage>::clone(storage),
        }
    }

    /// Where the output of its sessions' programs is kept, beside their logs; `None` for a store that has no folder.
    #[cfg(feature = "runner")]
    #[must_use]
    pub fn output(&self) -> Option<Arc<dyn session_runner::OutputStorage>> {
        match &self.backend {
            #[cfg(feature = "file")]
            Backend::File { storage, .. } => {
                let sessions = storage.path().join("sessions");
                Some(Arc::new(session_runner::FileOutput::beside_logs(sessions)))
            }
            Backend::Memory(_) => None,
        }
    }

    /// Runs programs as sessions of this store: output is kept beside the logs, and no program runs twice at once.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` where the store's path is no text: programs could not be told where their sessions are.
    #[cfg(feature = "runner")]
    pub fn runner(&self) -> Result<session_runner::Runner> {
        let runner = session_runner::Runner::new(&*self.manager);
        let runner = match self.output() {
            Some(output) => runner.output(output),
            None => runner,
        };
        match &self.backend {
            #[cfg(feature = "file")]
            Backend::File { presence, .. } => {
                let url = self.url.to_os_string().into_string().map_err(|_| {
                    session_core::SessionError::InvalidArgument {
                        what: format!(
                            "the path of {} is not UTF-8, as that of a store which runs programs has to be",
                            self.url
                        ),
                    }
                })?;
                Ok(runner.locks(presence.clone()).store(url))
            }
            // Nobody but this process can look into it.
            Backend::Memory(_) => Ok(runner),
        }
    }

    /// Who is alive.
    #[must_use]
    pub const fn presence(&self) -> &Arc<dyn Presence> {
        &self.presence
    }

    /// What keeps the logs.
    #[must_use]
    pub const fn backend(&self) -> &Backend {
        &self.backend
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("url", &self.url)
            .field("backend", &self.backend)
            .finish_non_exhaustive()
    }
}
