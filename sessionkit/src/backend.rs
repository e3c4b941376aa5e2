//! Backends of other crates: the ports that they implement, and the [`Backend`] that [`register`](crate::register) takes.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

pub use session_core::backend::*;
use session_core::maintenance::StorageMaintenance;
use session_core::{Result, SessionError};

pub use crate::schemes::registered_schemes;

/// The owners of this process, for storages that no other process can have open.
static THIS_PROCESS: LazyLock<ProcessPresence> = LazyLock::new(ProcessPresence::default);

/// An open backend: a storage, and what a store needs besides. The opener of a [registered](crate::register) backend
/// returns it.
///
/// A storage alone keeps sessions. With a [`folder`](Self::folder) it also keeps the output of programs, and knows which
/// owners in other processes are alive: `sessionctl` needs both.
#[derive(Clone)]
#[must_use = "a store is opened from it"]
pub struct Backend {
    pub(crate) storage: Arc<dyn SessionStorage>,
    pub(crate) maintenance: Option<Arc<dyn StorageMaintenance>>,
    pub(crate) names: Option<Arc<dyn NameCounter>>,
    pub(crate) local: Option<LocalFolders>,
    presence: Option<Arc<dyn Presence>>,
}

/// The folders of a backend on this machine.
#[derive(Debug, Clone)]
pub(crate) struct LocalFolders {
    /// Lock files of owners, and of sessions whose programs are running.
    pub(crate) owners: PathBuf,
    /// A folder for each session.
    #[cfg(all(feature = "runner", target_os = "linux"))]
    pub(crate) sessions: PathBuf,
    #[cfg(all(feature = "runner", target_os = "linux"))]
    pub(crate) layout: SessionFolders,
}

/// The part that creates and removes the folder of a session.
#[cfg(all(feature = "runner", target_os = "linux"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SessionFolders {
    /// The storage creates and removes it with the session.
    #[cfg_attr(not(feature = "file"), expect(dead_code, reason = "only the file backend does"))]
    Managed,
    /// The storage removes it with the session; it is created when it is needed.
    Removed,
    /// The storage does not know it; the store removes it after the session.
    Unknown,
}

impl Backend {
    /// Creates a backend of a storage alone.
    pub fn new(storage: Arc<dyn SessionStorage>) -> Self {
        Self { storage, maintenance: None, names: None, local: None, presence: None }
    }

    /// Creates a backend of a storage that implements [`StorageMaintenance`]: `verify` checks and repairs it, and its
    /// folders are those that it names.
    pub fn with_maintenance<S: StorageMaintenance + 'static>(storage: Arc<S>) -> Self {
        let local = LocalFolders {
            owners: storage.owners_dir(),
            #[cfg(all(feature = "runner", target_os = "linux"))]
            sessions: storage.sessions_dir(),
            #[cfg(all(feature = "runner", target_os = "linux"))]
            layout: SessionFolders::Removed,
        };
        let maintenance: Arc<dyn StorageMaintenance> = Arc::<S>::clone(&storage);
        Self { local: Some(local), maintenance: Some(maintenance), ..Self::new(storage) }
    }

    /// Sets a folder on this machine for what is kept next to the storage: the output of programs, and locks that show
    /// which owners are alive. It is created when it is needed, and has to be the same for all processes that share the
    /// storage.
    pub fn folder(mut self, path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        self.local = Some(LocalFolders {
            owners: path.join("owners"),
            #[cfg(all(feature = "runner", target_os = "linux"))]
            sessions: path.join("sessions"),
            #[cfg(all(feature = "runner", target_os = "linux"))]
            layout: SessionFolders::Unknown,
        });
        self
    }

    /// Sets the presence; by default, the locks in the [folder](Self::folder).
    pub fn presence(mut self, presence: Arc<dyn Presence>) -> Self {
        self.presence = Some(presence);
        self
    }

    /// Sets the cache of automatic names; without one, sessions are counted.
    pub fn names(mut self, names: Arc<dyn NameCounter>) -> Self {
        self.names = Some(names);
        self
    }

    /// Sets the part that creates and removes the folders of sessions.
    #[cfg(all(feature = "file", feature = "runner", target_os = "linux"))]
    pub(crate) fn session_folders(mut self, layout: SessionFolders) -> Self {
        self.local.iter_mut().for_each(|local| local.layout = layout);
        self
    }

    /// Returns the presence to use.
    pub(crate) fn chosen_presence(&self) -> Result<Arc<dyn Presence>> {
        let profile = self.storage.profile();
        match (&self.presence, &self.local) {
            (Some(presence), _) => Ok(Arc::clone(presence)),
            (None, Some(local)) => Ok(Arc::new(LocalPresence::new(&local.owners))),
            (None, None) if profile.sharing == Sharing::Process => Ok(Arc::new(THIS_PROCESS.clone())),
            // Owners in other processes would be taken for dead.
            (None, None) => Err(SessionError::InvalidArgument {
                what: format!(
                    "the backend `{}` is shared by several processes, but has no way to find out which of them are \
                     alive: call `Backend::folder` or `Backend::presence`",
                    profile.name
                ),
            }),
        }
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { storage, maintenance: _, names, local, presence } = self;
        f.debug_struct("Backend")
            .field("storage", storage)
            .field("names", names)
            .field("local", local)
            .field("presence", presence)
            .finish_non_exhaustive()
    }
}
