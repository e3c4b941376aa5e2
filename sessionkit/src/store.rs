//! An open store: its manager, storage, maintenance, output and presence.

use std::sync::Arc;

use session_core::{
    LocalPresence, ManagerOptions, MemoryStorage, PersistentSessionManager, Presence, ProcessPresence,
    Result, SessionError, SessionManager, SessionStorage, StorageMaintenance,
};

use crate::url::StoreUrl;

/// An open store. Most programs only need its manager, which [`open`](crate::open) returns directly.
#[derive(Clone)]
pub struct Store {
    url: StoreUrl,
    manager: Arc<dyn SessionManager>,
    presence: Arc<dyn Presence>,
    storage: Arc<dyn SessionStorage>,
    local: Option<LocalStore>,
}

/// The parts of a store that lie on this machine's disk.
#[derive(Debug, Clone)]
struct LocalStore {
    maintenance: Arc<dyn StorageMaintenance>,
    /// Also locks the sessions whose programs are running.
    presence: LocalPresence,
    #[cfg(feature = "runner")]
    output: session_runner::FileOutput,
}

/// The purpose for which a store is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Everything, which needs an intact store.
    Work,
    /// Verification and repair of a store that may itself be damaged.
    Repair,
}

impl LocalStore {
    /// For a backend with a folder for each session: output goes into the session's folder.
    #[cfg(feature = "file")]
    fn with_session_folders(storage: Arc<dyn StorageMaintenance>) -> Self {
        Self {
            presence: LocalPresence::new(storage.owners_dir()),
            #[cfg(feature = "runner")]
            output: session_runner::FileOutput::in_session_folders(storage.sessions_dir()),
            maintenance: storage,
        }
    }

    /// For a database: output goes into folders of its own, next to the database.
    #[cfg(any(feature = "sled", feature = "sqlite"))]
    fn with_database(storage: Arc<dyn StorageMaintenance>) -> Self {
        Self {
            presence: LocalPresence::new(storage.owners_dir()),
            #[cfg(feature = "runner")]
            output: session_runner::FileOutput::new(storage.sessions_dir()),
            maintenance: storage,
        }
    }

    /// Opens the backend that the URL names; `None` for memory.
    fn open(
        url: &StoreUrl,
        options: ManagerOptions,
        purpose: Purpose,
    ) -> Result<(Option<Self>, ManagerOptions)> {
        let local = match url {
            #[cfg(feature = "file")]
            StoreUrl::File(path) => {
                use session_storage_file::{FileStorage, FileStorageOptions};
                let file_options = FileStorageOptions::new(path);
                let storage = Arc::new(match purpose {
                    Purpose::Work => FileStorage::open(file_options)?,
                    Purpose::Repair => FileStorage::open_for_repair(file_options)?,
                });
                let names = Arc::<FileStorage>::clone(&storage);
                return Ok((Some(Self::with_session_folders(storage)), options.names(names)));
            }
            #[cfg(feature = "sled")]
            StoreUrl::Sled(path) => {
                use session_storage_sled::{SledStorage, SledStorageOptions};
                let sled_options = SledStorageOptions::new(path);
                Some(Self::with_database(Arc::new(match purpose {
                    Purpose::Work => SledStorage::open(sled_options)?,
                    Purpose::Repair => SledStorage::open_for_repair(sled_options)?,
                })))
            }
            #[cfg(feature = "sqlite")]
            StoreUrl::Sqlite(path) => {
                // Its identity is in the database.
                use session_storage_sqlite::{SqliteStorage, SqliteStorageOptions};
                Some(Self::with_database(Arc::new(SqliteStorage::open(SqliteStorageOptions::new(path))?)))
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
        Ok((local, options))
    }
}

impl Store {
    pub(crate) async fn open(url: StoreUrl, options: ManagerOptions, purpose: Purpose) -> Result<Self> {
        let (local, options) = LocalStore::open(&url, options, purpose)?;
        let (storage, presence): (Arc<dyn SessionStorage>, Arc<dyn Presence>) = match &local {
            Some(local) => {
                (Arc::<dyn StorageMaintenance>::clone(&local.maintenance), Arc::new(local.presence.clone()))
            }
            None => (Arc::new(MemoryStorage::new()), Arc::new(ProcessPresence::default())),
        };
        let (logs, alive) = (Arc::clone(&storage), Arc::clone(&presence));
        let manager = Arc::new(PersistentSessionManager::open_dyn(logs, alive, options).await?);
        Ok(Self { url, manager, presence, storage, local })
    }

    /// Returns the store's URL.
    #[must_use]
    pub const fn url(&self) -> &StoreUrl {
        &self.url
    }

    /// Returns the manager.
    #[must_use]
    pub const fn manager(&self) -> &Arc<dyn SessionManager> {
        &self.manager
    }

    /// Wraps the manager, for example in an
    /// [`ObservableSessionManager`](session_core::ObservableSessionManager).
    #[must_use]
    pub fn map_manager(
        mut self,
        wrap: impl FnOnce(Arc<dyn SessionManager>) -> Arc<dyn SessionManager>,
    ) -> Self {
        self.manager = wrap(self.manager);
        self
    }

    /// Returns the storage below the manager, for following logs directly.
    #[must_use]
    pub const fn storage(&self) -> &Arc<dyn SessionStorage> {
        &self.storage
    }

    /// Returns the interface for verifying and repairing stored data; `None` for a store in memory.
    #[must_use]
    pub fn maintenance(&self) -> Option<&Arc<dyn StorageMaintenance>> {
        self.local.as_ref().map(|local| &local.maintenance)
    }

    /// Returns the storage of captured output; `None` for a store in memory.
    #[cfg(feature = "runner")]
    #[must_use]
    pub fn output(&self) -> Option<Arc<dyn session_runner::OutputStorage>> {
        let output = self.local.as_ref()?.output.clone();
        Some(Arc::new(output))
    }

    /// Returns a runner for programs as sessions of this store. It stores their output, and never runs one session's
    /// program twice at the same time.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if the store's path is not UTF-8: the store's URL is passed to the programs as text.
    #[cfg(feature = "runner")]
    pub fn runner(&self) -> Result<session_runner::Runner> {
        let runner = session_runner::Runner::new(&*self.manager);
        // No other process can read a store in memory, so its URL is not passed on.
        let Some(LocalStore { presence, output, .. }) = &self.local else { return Ok(runner) };
        let url = self.url.to_os_string().into_string().map_err(|_| SessionError::InvalidArgument {
            what: format!("the path of {} is not UTF-8, which a store that runs programs needs", self.url),
        })?;
        Ok(runner.output(Arc::new(output.clone())).locks(presence.clone()).store(url))
    }

    /// Returns the presence, which determines whether an owner is alive.
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
