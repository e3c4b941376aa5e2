//! An open store: its manager, storage, maintenance, output and presence.

use std::sync::Arc;

#[cfg(not(all(feature = "file", feature = "sled", feature = "sqlite")))]
use session_core::SessionError;
use session_core::backend::{MemoryStorage, Presence, SessionStorage};
use session_core::maintenance::StorageMaintenance;
use session_core::{ManagerOptions, PersistentSessionManager, Result, SessionManager};

use crate::backend::Backend;
#[cfg(all(feature = "file", feature = "runner", target_os = "linux"))]
use crate::backend::SessionFolders;
#[cfg(all(feature = "runner", target_os = "linux"))]
use crate::programs::Programs;
use crate::registry;
use crate::url::StoreUrl;

/// An open store. Programs that run no other programs only need its manager, which [`open`](crate::open) returns
/// directly.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> sessionkit::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let url = format!("file:{}", folder.path().join(".sessions").display());
/// # let url = url.as_str();
/// # #[cfg(feature = "file")] {
/// let store = sessionkit::open_store(url).await?;  // "file:.sessions"
/// println!("{} holds {} sessions", store.url(), store.manager().list_active_sessions().await?.heads.len());
/// if let Some(maintenance) = store.maintenance() {
///     let health = maintenance.verify_all().await?;
///     println!("{} sessions were checked", health.sessions.len());
/// }
/// # }
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Store {
    url: StoreUrl,
    manager: Arc<dyn SessionManager>,
    presence: Arc<dyn Presence>,
    storage: Arc<dyn SessionStorage>,
    maintenance: Option<Arc<dyn StorageMaintenance>>,
    #[cfg(all(feature = "runner", target_os = "linux"))]
    programs: Programs,
}

/// The purpose for which a store is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Everything, which needs an intact store.
    Work,
    /// Verification and repair of a store that may itself be damaged.
    Repair,
}

/// Opens the backend that the URL names.
#[cfg_attr(
    not(any(feature = "file", feature = "sled")),
    expect(unused_variables, reason = "only these backends open a damaged store in another way")
)]
async fn open_backend(url: &StoreUrl, purpose: Purpose) -> Result<Backend> {
    match url {
        #[cfg(feature = "file")]
        StoreUrl::File(path) => {
            use session_storage_file::{FileStorage, FileStorageOptions};
            let options = FileStorageOptions::new(path);
            let storage = Arc::new(match purpose {
                Purpose::Work => FileStorage::open(options)?,
                Purpose::Repair => FileStorage::open_for_repair(options)?,
            });
            let names = Arc::<FileStorage>::clone(&storage);
            let backend = Backend::with_maintenance(storage).names(names);
            #[cfg(all(feature = "runner", target_os = "linux"))]
            let backend = backend.session_folders(SessionFolders::Managed);
            Ok(backend)
        }
        #[cfg(feature = "sled")]
        StoreUrl::Sled(path) => {
            use session_storage_sled::{SledStorage, SledStorageOptions};
            let options = SledStorageOptions::new(path);
            Ok(Backend::with_maintenance(Arc::new(match purpose {
                Purpose::Work => SledStorage::open(options)?,
                Purpose::Repair => SledStorage::open_for_repair(options)?,
            })))
        }
        #[cfg(feature = "sqlite")]
        StoreUrl::Sqlite(path) => {
            use session_storage_sqlite::{SqliteStorage, SqliteStorageOptions};
            let storage = Arc::new(SqliteStorage::open(SqliteStorageOptions::new(path))?);
            let names = Arc::<SqliteStorage>::clone(&storage);
            Ok(Backend::with_maintenance(storage).names(names))
        }
        StoreUrl::Memory => Ok(Backend::new(Arc::new(MemoryStorage::new()))),
        StoreUrl::Registered { scheme, .. } => registry::open(scheme, url).await,
        #[cfg(not(all(feature = "file", feature = "sled", feature = "sqlite")))]
        other => {
            let feature = other.scheme();
            Err(SessionError::InvalidArgument {
                what: format!(
                    "`{url}` needs the feature `{feature}` of `sessionkit`, which this build leaves out"
                ),
            })
        }
    }
}

impl Store {
    pub(crate) async fn open(url: StoreUrl, options: ManagerOptions, purpose: Purpose) -> Result<Self> {
        let backend = open_backend(&url, purpose).await?;
        let presence = backend.chosen_presence()?;
        let options = match &backend.names {
            Some(names) => options.names(Arc::clone(names)),
            None => options,
        };
        #[cfg(all(feature = "runner", target_os = "linux"))]
        let (storage, programs) = Programs::of(&backend);
        #[cfg(all(feature = "runner", target_os = "linux"))]
        let options = match programs.leftovers() {
            Some(leftovers) => options.leftovers(leftovers),
            None => options,
        };
        #[cfg(not(all(feature = "runner", target_os = "linux")))]
        let storage = backend.storage;
        let (logs, alive) = (Arc::clone(&storage), Arc::clone(&presence));
        let manager = Arc::new(PersistentSessionManager::open_dyn(logs, alive, options).await?);
        Ok(Self {
            url,
            manager,
            presence,
            storage,
            maintenance: backend.maintenance,
            #[cfg(all(feature = "runner", target_os = "linux"))]
            programs,
        })
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

    /// Returns the interface for verifying and repairing stored data; `None` for a store in memory, and for one of a
    /// backend without it.
    #[must_use]
    pub const fn maintenance(&self) -> Option<&Arc<dyn StorageMaintenance>> {
        self.maintenance.as_ref()
    }

    /// Returns the presence, which determines whether an owner is alive.
    #[must_use]
    pub const fn presence(&self) -> &Arc<dyn Presence> {
        &self.presence
    }
}

/// Programs as sessions.
#[cfg(all(feature = "runner", target_os = "linux"))]
impl Store {
    /// Returns the storage of captured output; `None` for a store without a folder on this machine, such as one in
    /// memory.
    #[must_use]
    pub fn output(&self) -> Option<Arc<dyn session_runner::OutputStorage>> {
        self.programs.output()
    }

    /// Returns a runner for programs as sessions of this store. It stores their output, and never runs one session's
    /// program twice at the same time.
    ///
    /// ```no_run
    /// use sessionkit::{SessionConfig, runner::Command};
    ///
    /// #[sessionkit::main]
    /// async fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     let store = sessionkit::open_store("file:.sessions").await?;
    ///     let build = Command::new("make").arg("-j8");
    ///     let mut running = store.runner()?.spawn(SessionConfig::new("build"), build).await?;
    ///     println!("exit code {}", running.wait().await?.exit_code());
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if the store's path is not UTF-8: the store's URL is passed to the programs as text.
    pub fn runner(&self) -> Result<session_runner::Runner> {
        self.programs.runner(&*self.manager, &self.url)
    }

    /// Follows the output of all programs of this store from now on, as one stream: also of sessions that start later,
    /// and of those that other processes run. See [`Outputs`](crate::storage::Outputs).
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = sessionkit::open_store("file:.sessions").await?;
    /// let mut outputs = store.outputs().await?;
    /// loop {
    ///     let event = outputs.next().await?;
    ///     println!("{} {}: {} bytes", event.session, event.chunk.stream.name(), event.chunk.bytes.len());
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a store that keeps no output; errors of the storage.
    pub async fn outputs(&self) -> Result<crate::outputs::Outputs> {
        self.programs.outputs(Arc::clone(&self.storage), &*self.manager, &self.url).await
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
