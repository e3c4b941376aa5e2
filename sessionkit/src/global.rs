//! The manager of the whole process: the user's default store, unless somebody set another one first.

use std::sync::Arc;

use session_core::{Result, SessionManager};
use tokio::sync::OnceCell;

static GLOBAL: OnceCell<Arc<dyn SessionManager>> = OnceCell::const_new();

/// There is a global manager already, or it is being opened at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the global manager is set already; set it before its first use")]
pub struct GlobalIsSet;

/// The global manager. The first use opens the user's default store (see
/// [`StoreUrl::user_default`](crate::StoreUrl::user_default)), however many come at once; a use that failed leaves it
/// to the next one to try again.
///
/// The manager's background tasks live in the runtime of the first use: a program has one runtime, tests that each
/// have their own open managers of their own.
///
/// # Errors
/// As [`open`](crate::open).
pub async fn global() -> Result<Arc<dyn SessionManager>> {
    GLOBAL.get_or_try_init(|| crate::Builder::user_default().open()).await.cloned()
}

/// Makes a manager the global one.
///
/// # Errors
/// [`GlobalIsSet`] where there is one already.
pub fn set_global(manager: Arc<dyn SessionManager>) -> Result<(), GlobalIsSet> {
    GLOBAL.set(manager).map_err(|_| GlobalIsSet)
}
