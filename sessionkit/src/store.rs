//! An open store: the manager, and what is below and beside it.

use std::sync::Arc;

use session_core::{
    LocalPresence, ManagerOptions, MemoryStorage, PersistentSessionManager, Presence, ProcessPresence,
    Result, SessionError, SessionManager, SessionStorage, StorageMaintenance,
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

impl Machine {
    /// Around logs that have a folder each, where the output of their programs has a place too.
    #[cfg(feature = "file")]
    fn of_folders(storage: Arc<dyn StorageMaintenance>) -> Self {
        Self {
            presence: LocalPresence::new(storage.owners_dir()),
            #[cfg(feature = "runner")]
            output: session_runner::FileOutput::in_session_folders(storage.sessions_dir()),
            maintenance: storage,
        }
    }

    /// Around a database, beside which output makes folders of its own.
    #[cfg(any(feature = "sled", feature = "sqlite"))]
    fn of_database(storage: Arc<dyn StorageMaintenance>) -> Self {
        Self {
            presence: LocalPresence::new(storage.owners_dir()),
            #[cfg(feature = "runner")]
            output: session_runner::FileOutput::new(storage.sessions_dir()),
            maintenance: storage,
        }
    }

    /// Opens what the text names; `None` for memory.
    fn open(url: &StoreUrl, options: ManagerOptions) -> Result<(Option<Self>, ManagerOptions)> {
        let machine = match url {
            #[cfg(feature = "file")]
            StoreUrl::File(path) => {
                use session_storage_file::{FileStorage, FileStorageOptions};
                let storage = Arc::new(FileStorage::open(FileStorageOptions::new(path))?);
                let names = Arc::<FileStorage>::clone(&storage);
                return Ok((Some(Self::of_folders(storage)), options.names(names)));
            }
            #[cfg(feature = "sled")]
            StoreUrl::Sled(path) => {
                use session_storage_sled::{SledStorage, SledStorageOptions};
                Some(Self::of_database(Arc::new(SledStorage::open(SledStorageOptions::new(path))?)))
            }
            #[cfg(feature = "sqlite")]
            StoreUrl::Sqlite(path) => {
                use session_storage_sqlite::{SqliteStorage, SqliteStorageOptions};
                Some(Self::of_database(Arc::new(SqliteStorage::open(SqliteStorageOptions::new(path))?)))
            }
            StoreUrl::Memory => None,
            #[cfg(not(all(feature = "file", feature = "sled", feature = "sqlite")))]
            other => {
                let feature = other.scheme();
                return Err(SessionError::InvalidArgument {
                    what: format!(
                        "`{url}` needs the feature `{feature}` of `sessionkit`, which this build leaves out"
                    ),
                });
            }
        };
        Ok((machine, options))
    }
}

impl Store {
    pub(crate) async fn open(url: StoreUrl, options: ManagerOptions) -> Result<Self> {
        let (machine, options) = Machine::open(&url, options)?;
        let (storage, presence): (Arc<dyn SessionStorage>, Arc<dyn Presence>) = match &machine {
            Some(machine) => (
                Arc::<dyn StorageMaintenance>::clone(&machine.maintenance),
                Arc::new(machine.presence.clone()),
            ),
            None => (Arc::new(MemoryStorage::new()), Arc::new(ProcessPresence::default())),
        };
        let (logs, alive) = (Arc::clone(&storage), Arc::clone(&presence));
        let manager = Arc::new(PersistentSessionManager::open_dyn(logs, alive, options).await?);
        Ok(Self { url, manager, presence, storage, machine })
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

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("url", &self.url)
            .field("storage", &self.storage)
            .finish_non_exhaustive()
    }
}
