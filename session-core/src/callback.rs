//! Callbacks that belong to others: taken back by a guard, and kept from harming whoever calls them.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Takes its callback back when it is dropped. One that runs at that moment on another thread is not waited for.
#[must_use = "dropping the guard takes the callback back; `forget` keeps it"]
pub struct CallbackGuard {
    unregister: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl CallbackGuard {
    pub(crate) fn new(unregister: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self { unregister: Some(Box::new(unregister)) }
    }

    /// For a callback that already ran and never will again.
    pub(crate) const fn spent() -> Self {
        Self { unregister: None }
    }

    /// Keeps the callback for as long as there is anything that can call it.
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

/// Runs a callback whose panic is its own: it is reported, and nobody else hears of it.
pub(crate) fn isolated(kind: &'static str, callback: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(callback)).is_err() {
        tracing::error!(kind, "a callback panicked");
    }
}
