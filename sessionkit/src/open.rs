//! From the text that names a store to a manager over it.

use std::sync::Arc;

use session_core::{ManagerOptions, Result, SessionManager};

use crate::store::Store;
use crate::url::StoreUrl;

/// Opens a store with a manager that behaves as managers do unless told otherwise: what has crashed is paused, for
/// somebody to resume. Nothing is created before the first session is.
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
/// `INVALID_ARGUMENT` where the text names no store, `STORAGE_UNAVAILABLE` and `UNSUPPORTED_FORMAT` where what is
/// there is none that this version can use, and whatever the recovery as a whole suffers.
pub async fn open(url: &str) -> Result<Arc<dyn SessionManager>> {
    builder(url).open().await
}

/// As [`open`], for a manager that is to behave in another way.
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
    Builder { url: url.parse(), options: ManagerOptions::default() }
}

/// A manager that is yet to be opened.
#[derive(Debug)]
#[must_use = "nothing is opened before `open`"]
pub struct Builder {
    /// That a text names no store is told when it is opened.
    url: Result<StoreUrl>,
    options: ManagerOptions,
}

impl Builder {
    /// Over this store.
    pub fn new(url: StoreUrl) -> Self {
        Self { url: Ok(url), options: ManagerOptions::default() }
    }

    /// Over the user's default store; see [`StoreUrl::user_default`].
    pub fn user_default() -> Self {
        Self { url: StoreUrl::user_default(), options: ManagerOptions::default() }
    }

    /// How the manager behaves.
    pub fn options(mut self, options: ManagerOptions) -> Self {
        self.options = options;
        self
    }

    /// Opens the store.
    ///
    /// # Errors
    /// As [`open`].
    pub async fn open(self) -> Result<Arc<dyn SessionManager>> {
        Ok(Arc::clone(self.open_store().await?.manager()))
    }

    /// Opens the store, and keeps what is special about its backend within reach.
    ///
    /// # Errors
    /// As [`open`].
    pub async fn open_store(self) -> Result<Store> {
        Store::open(self.url?, self.options).await
    }
}
