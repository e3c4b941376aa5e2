//! Callbacks of users: unregistered by a guard, with their panics isolated from the caller.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Unregisters its callback when dropped. Does not wait for a call in progress on another thread.
#[must_use = "dropping the guard unregisters the callback; `forget` keeps it"]
pub struct CallbackGuard {
    unregister: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl CallbackGuard {
    pub(crate) fn new(unregister: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self { unregister: Some(Box::new(unregister)) }
    }

    /// Creates the guard of a callback that has run and will not run again.
    pub(crate) const fn spent() -> Self {
        Self { unregister: None }
    }

    /// Keeps the callback registered for the lifetime of its source.
    pub fn forget(mut self) {
        self.unregister = None;
    }
}

impl Drop for CallbackGuard {
    fn drop(&mut self) {
        if let Some(unregister) = self.unregister.take() {
            unregister();
        }
    }
}

impl fmt::Debug for CallbackGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallbackGuard").field("spent", &self.unregister.is_none()).finish()
    }
}

/// Runs a callback and logs its panic instead of propagating it.
pub(crate) fn isolated(kind: &'static str, callback: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(callback)).is_err() {
        tracing::error!(kind, "a callback panicked");
    }
}
