//! An open store: the manager, and what is below and beside it.

use std::path::Path;
use std::sync::Arc;

use session_core::{
    LocalPresence, ManagerOptions, MemoryStorage, NameCounter, PersistentSessionManager, Presence,
    ProcessPresence, Result, SessionError, SessionManager, SessionStorage, StorageMaintenance,
};

use crate::url::StoreUrl;

/// An open store. Most programs need no more of it than the manager, which [`open`](crate::open) returns at once.
#[derive(Clone)]
pub struct Store {
    url: StoreUrl,
    manager: Arc<dyn SessionManager>,
    presence: Arc<dyn Presence>,
    storage: Arc<dyn SessionStorage>,
    machine: Option<Machine>,
}

/// What a store has that is kept on this machine.
#[derive(Debug, Clone)]
struct Machine {
    maintenance: Arc<dyn StorageMaintenance>,
    /// Also the locks of sessions whose programs run.
    presence: LocalPresence,
    #[cfg(feature = "runner")]
    output: session_runner::FileOutput,
}

impl Store {
    pub(crate) async fn open(url: StoreUrl, options: ManagerOptions) -> Result<Self> {
        match &url {
            StoreUrl::File(path) => Self::file(&url, path, options).await,
            StoreUrl::Sled(_) => Err(left_out(&url, "sled")),
            StoreUrl::Sqlite(_) => Err(left_out(&url, "sqlite")),
            StoreUrl::Memory => {
                let storage: Arc<dyn SessionStorage> = Arc::new(MemoryStorage::new());
                let presence: Arc<dyn Presence> = Arc::new(ProcessPresence::default());
                Self::over(url, storage, presence, None, options).await
            }
        }
    }

    async fn over(
        url: StoreUrl,
        storage: Arc<dyn SessionStorage>,
        presence: Arc<dyn Presence>,
        machine: Option<Machine>,
        options: ManagerOptions,
    ) -> Result<Self> {
        let (logs, alive) = (Arc::clone(&storage), Arc::clone(&presence));
        let manager = Arc::new(PersistentSessionManager::open_dyn(logs, alive, options).await?);
        Ok(Self { url, manager, presence, storage, machine })
    }

    #[cfg(feature = "file")]
    async fn file(url: &StoreUrl, path: &Path, options: ManagerOptions) -> Result<Self> {
        use session_storage_file::{FileStorage, FileStorageOptions};

        let storage = Arc::new(FileStorage::open(FileStorageOptions::new(path))?);
        #[cfg(feature = "runner")]
        let output = session_runner::FileOutput::beside_logs(storage.sessions_dir());
        let names: Arc<dyn NameCounter> = Arc::<FileStorage>::clone(&storage);
        let machine = Machine {
            presence: LocalPresence::new(storage.owners_dir()),
            #[cfg(feature = "runner")]
            output,
            maintenance: Arc::<FileStorage>::clone(&storage),
        };
        let presence: Arc<dyn Presence> = Arc::new(machine.presence.clone());
        Self::over(url.clone(), storage, presence, Some(machine), options.names(names)).await
    }

    #[cfg(not(feature = "file"))]
    async fn file(url: &StoreUrl, _: &Path, _: ManagerOptions) -> Result<Self> {
        Err(left_out(url, "file"))
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
    pub const fn storage(&self) -> &Arc<dyn SessionStorage> {
        &self.storage
    }

    /// How what is stored is, and mending it; `None` for a store in memory, of which nothing is stored.
    #[must_use]
    pub fn maintenance(&self) -> Option<&Arc<dyn StorageMaintenance>> {
        self.machine.as_ref().map(|machine| &machine.maintenance)
    }

    /// Where the output of its sessions' programs is kept, beside their logs; `None` for a store in memory.
    #[cfg(feature = "runner")]
    #[must_use]
    pub fn output(&self) -> Option<Arc<dyn session_runner::OutputStorage>> {
        let output = self.machine.as_ref()?.output.clone();
        Some(Arc::new(output))
    }

    /// Runs programs as sessions of this store: output is kept beside the logs, and no program runs twice at once.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` where the store's path is no text: programs could not be told where their sessions are.
    #[cfg(feature = "runner")]
    pub fn runner(&self) -> Result<session_runner::Runner> {
        let runner = session_runner::Runner::new(&*self.manager);
        // Nobody but this process can look into a store in memory.
        let Some(Machine { presence, output, .. }) = &self.machine else { return Ok(runner) };
        let url = self.url.to_os_string().into_string().map_err(|_| SessionError::InvalidArgument {
            what: format!(
                "the path of {} is not UTF-8, as that of a store which runs programs has to be",
                self.url
            ),
        })?;
        Ok(runner.output(Arc::new(output.clone())).locks(presence.clone()).store(url))
    }

    /// Who is alive.
    #[must_use]
    pub const fn presence(&self) -> &Arc<dyn Presence> {
        &self.presence
    }
}

fn left_out(url: &StoreUrl, feature: &str) -> SessionError {
    SessionError::InvalidArgument {
        what: format!("`{url}` needs the feature `{feature}` of `sessionkit`, which this build leaves out"),
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("url", &self.url)
            .field("storage", &self.storage)
            .finish_non_exhaustive()
    }
}
