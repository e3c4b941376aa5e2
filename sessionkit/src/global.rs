//! The process-wide manager: over the user's default store, unless another one was set first.

use std::sync::Arc;

use session_core::{Result, SessionManager};
use tokio::sync::OnceCell;

static GLOBAL: OnceCell<Arc<dyn SessionManager>> = OnceCell::const_new();

/// The global manager is already set, or is being opened right now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the global manager is already set: set it before its first use")]
pub struct GlobalIsSet;

/// Returns the global manager. The first call opens the user's default store (see
/// [`StoreUrl::user_default`](crate::StoreUrl::user_default)). Concurrent first calls open it once. If opening fails,
/// the next call tries again.
///
/// The manager's background tasks run in the runtime of the first call. Tests, which have a runtime each, should open
/// managers of their own.
///
/// # Errors
/// The errors of [`open`](crate::open).
pub async fn global() -> Result<Arc<dyn SessionManager>> {
    GLOBAL.get_or_try_init(|| crate::Builder::user_default().open()).await.cloned()
}

/// Sets the global manager.
///
/// # Errors
/// [`GlobalIsSet`] if there is one already.
pub fn set_global(manager: Arc<dyn SessionManager>) -> Result<(), GlobalIsSet> {
    GLOBAL.set(manager).map_err(|_| GlobalIsSet)
}
