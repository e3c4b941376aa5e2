//! Cancellation: one side asks for the end, the other side hears of it and stops where it can.
//!
//! A [`CancellationSource`] controls, a [`CancellationToken`] only observes. What wakes the waiting is `tokio-util`'s
//! token; what is added is a reason, callbacks, and that the two sides are two types.

mod node;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use self::node::Node;
use crate::callback::CallbackGuard;
use crate::error::SessionError;

/// Controls a cancellation. A cheap handle: clones control the same one.
///
/// Dropping it cancels nothing.
#[derive(Clone)]
pub struct CancellationSource {
    node: Arc<Node>,
}

/// Observes a cancellation, and cannot cause one. A cheap handle: clones observe the same one.
///
/// Whoever sees it cancelled sees the reason, and sees all its children cancelled.
#[derive(Clone)]
pub struct CancellationToken {
    node: Arc<Node>,
}

/// The work was cancelled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cancelled: {reason}")]
#[non_exhaustive]
pub struct CancelledError {
    /// Why.
    pub reason: String,
}

impl CancellationSource {
    /// A source that is not cancelled.
    #[must_use]
    pub fn new() -> Self {
        Self { node: Node::root() }
    }

    /// A source that cancels itself once `timeout` has passed, unless somebody was faster. The time-out lives as long
    /// as anything can see it: the source, a token, a child.
    ///
    /// # Panics
    /// Outside a tokio runtime with time.
    #[must_use]
    pub fn with_timeout(timeout: Duration) -> Self {
        let source = Self::new();
        source.node.cancel_after(timeout);
        source
    }

    /// Cancels, with all children. The first reason stays; whether this was the first is returned. When it returns,
    /// every token and every child is cancelled; callbacks that another thread has begun may still run there.
    pub fn cancel(&self, reason: impl Into<String>) -> bool {
        self.node.cancel(reason.into().into())
    }

    /// What observes this source.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        CancellationToken { node: Arc::clone(&self.node) }
    }

    /// A source that is cancelled with this one, for the same reason. Cancelling it leaves this one alone.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { node: self.node.child() }
    }

    /// Whether it is cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.node.is_cancelled()
    }
}

impl Default for CancellationSource {
    fn default() -> Self {
        Self::new()
    }
}

impl CancellationToken {
    /// Whether it is cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.node.is_cancelled()
    }

    /// Why it is cancelled; `None` while it is not.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        self.node.reason().map(str::to_owned)
    }

    /// Nothing while the work may go on: for loops, with `?`.
    ///
    /// # Errors
    /// [`CancelledError`] once it is cancelled.
    pub fn check(&self) -> Result<(), CancelledError> {
        match self.node.reason() {
            None => Ok(()),
            Some(reason) => Err(CancelledError { reason: reason.to_owned() }),
        }
    }

    /// Waits until it is cancelled; resolves to the reason. Dropping the future is harmless, so it fits a `select!`.
    pub fn cancelled(&self) -> impl Future<Output = String> + Send + use<> {
        let node = Arc::clone(&self.node);
        async move { node.cancelled().await.to_owned() }
    }

    /// Calls `callback` with the reason, once, when it is cancelled; at once if it already is. It runs on the thread
    /// that cancels and must not block; if it panics, the others run all the same.
    ///
    /// A callback that holds this very token keeps itself alive until the cancellation or until its guard is dropped.
    pub fn on_cancelled(&self, callback: impl FnOnce(&str) + Send + 'static) -> CallbackGuard {
        let Some(key) = self.node.register(Box::new(callback)) else {
            return CallbackGuard::spent();
        };
        // Weak: what only waits to be taken back keeps nothing alive.
        let node = Arc::downgrade(&self.node);
        CallbackGuard::new(move || {
            if let Some(node) = node.upgrade() {
                node.unregister(key);
            }
        })
    }

    /// A source that is cancelled with this token: to end a part of the work by itself. It has no power over what
    /// this token observes.
    #[must_use]
    pub fn child_source(&self) -> CancellationSource {
        CancellationSource { node: self.node.child() }
    }
}

impl From<CancelledError> for SessionError {
    fn from(CancelledError { reason }: CancelledError) -> Self {
        Self::Cancelled { reason }
    }
}

impl fmt::Debug for CancellationSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancellationSource").field("reason", &self.node.reason()).finish()
    }
}

impl fmt::Debug for CancellationToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancellationToken").field("reason", &self.node.reason()).finish()
    }
}
