//! Opening a store and its manager by URL.

use std::sync::Arc;

use session_core::{ManagerOptions, ObservableSessionManager, Result, SessionManager, SessionObserver};

use crate::store::{Purpose, Store};
use crate::url::StoreUrl;

/// Opens a store and returns its manager, with default options: crashed sessions are paused, and can then be resumed.
/// Nothing is created on disk before the first session is.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> sessionkit::Result<()> {
/// let manager = sessionkit::open("memory:").await?;
/// assert!(manager.list_active_sessions().await?.heads.is_empty());
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// `INVALID_ARGUMENT` if the URL is invalid, `STORAGE_UNAVAILABLE` or `UNSUPPORTED_FORMAT` if this version cannot use
/// what is stored there, `CORRUPT` if the store itself is damaged (`sessionctl verify --repair`), and the errors of the
/// recovery.
pub async fn open(url: &str) -> Result<Arc<dyn SessionManager>> {
    builder(url).open().await
}

/// Opens a store with default options: its manager, and all that belongs to it. Crashed sessions are paused, as by
/// [`open`].
///
/// ```
/// # #[cfg(feature = "file")] mod example {
/// # #[tokio::main(flavor = "current_thread")]
/// # pub async fn main() -> sessionkit::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let url = format!("file:{}", folder.path().join("sessions").display());
/// # let url = url.as_str();
/// let store = sessionkit::open_store(url).await?;                     // "file:.sessions"
/// let active = store.manager().list_active_sessions().await?;
/// # assert!(active.heads.is_empty());
/// # Ok(())
/// # }
/// # }
/// # #[cfg(feature = "file")] example::main().unwrap();
/// ```
///
/// # Errors
/// The errors of [`open`].
pub async fn open_store(url: &str) -> Result<Store> {
    builder(url).open_store().await
}

/// Returns a builder for a manager with other options than those of [`open`].
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> sessionkit::Result<()> {
/// use sessionkit::ManagerOptions;
/// let options = ManagerOptions::new().recovery(None).max_attempts(10);
/// let manager = sessionkit::builder("memory:").options(options).open().await?;
/// # drop(manager);
/// # Ok(())
/// # }
/// ```
pub fn builder(url: &str) -> Builder {
    Builder { url: url.parse(), options: ManagerOptions::default(), observers: Vec::new() }
}

/// A store and manager to be opened.
#[must_use = "nothing is opened before `open`"]
pub struct Builder {
    /// An invalid URL is reported by `open`, so that the setters cannot fail.
    url: Result<StoreUrl>,
    options: ManagerOptions,
    observers: Vec<(String, Arc<dyn SessionObserver>)>,
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&String> = self.observers.iter().map(|(name, _)| name).collect();
        f.debug_struct("Builder")
            .field("url", &self.url)
            .field("options", &self.options)
            .field("observers", &names)
            .finish()
    }
}

impl Builder {
    /// Creates a builder for this store.
    pub fn new(url: StoreUrl) -> Self {
        Self { url: Ok(url), options: ManagerOptions::default(), observers: Vec::new() }
    }

    /// Creates a builder for the user's default store; see [`StoreUrl::user_default`].
    pub fn user_default() -> Self {
        Self { url: StoreUrl::user_default(), options: ManagerOptions::default(), observers: Vec::new() }
    }

    /// Sets the manager's options.
    pub fn options(mut self, options: ManagerOptions) -> Self {
        self.options = options;
        self
    }

    /// Adds an observer, which first receives the report of the recovery at opening. The name is for people.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> sessionkit::Result<()> {
    /// use std::sync::Arc;
    /// use sessionkit::manager::RecoveryReport;
    /// use sessionkit::{EventContext, SessionEvent, SessionObserver};
    ///
    /// struct Alerts;
    ///
    /// impl SessionObserver for Alerts {
    ///     fn on_event(&self, _: &EventContext, _: &SessionEvent) {}
    ///
    ///     fn on_recovery(&self, report: &RecoveryReport) {
    ///         report.recovered.iter().for_each(|(id, outcome)| println!("{id}: {outcome:?}"));
    ///     }
    /// }
    ///
    /// let manager = sessionkit::builder("memory:").observe("alerts", Arc::new(Alerts)).open().await?;
    /// # drop(manager);
    /// # Ok(())
    /// # }
    /// ```
    pub fn observe(mut self, name: &str, observer: Arc<dyn SessionObserver>) -> Self {
        self.observers.push((name.to_owned(), observer));
        self
    }

    /// Opens the store and returns its manager.
    ///
    /// # Errors
    /// The errors of [`open`].
    pub async fn open(self) -> Result<Arc<dyn SessionManager>> {
        Ok(Arc::clone(self.open_store().await?.manager()))
    }

    /// Opens the store and returns it with its manager, maintenance and output.
    ///
    /// # Errors
    /// The errors of [`open`].
    pub async fn open_store(self) -> Result<Store> {
        let store = Store::open(self.url?, self.options, Purpose::Work).await?;
        if self.observers.is_empty() {
            return Ok(store);
        }
        Ok(store.map_manager(|manager| {
            let observed = ObservableSessionManager::new(manager);
            let add = |observed: ObservableSessionManager, (name, observer): (String, _)| {
                observed.observe(&name, observer)
            };
            Arc::new(self.observers.into_iter().fold(observed, add))
        }))
    }

    /// Opens a store that may itself be damaged, to verify and repair it: its sessions can be read, nothing is
    /// recovered, and nothing can be written before [`reconcile`](session_core::maintenance::StorageMaintenance::reconcile) has
    /// repaired the store.
    ///
    /// # Errors
    /// The errors of [`open`]; `CORRUPT` if the damage is too great for that, too.
    pub async fn open_for_repair(self) -> Result<Store> {
        Store::open(self.url?, self.options.recovery(None), Purpose::Repair).await
    }
}
