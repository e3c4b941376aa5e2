//! Cooperative cancellation: one side requests it, the other side observes it and stops at a suitable point.
//!
//! A [`CancellationSource`] cancels, a [`CancellationToken`] only observes. Both are built on `tokio-util`'s token, and
//! add a reason, callbacks, and separate types for the two sides.

mod node;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use self::node::Node;
use crate::callback::CallbackGuard;
use crate::error::SessionError;

/// The controlling side of a cancellation. A cheap handle: clones control the same cancellation.
///
/// Dropping it cancels nothing.
///
/// ```
/// use session_core::CancellationSource;
///
/// let server = CancellationSource::new();
/// let request = server.child();                   // ends with the server, or by itself
/// let _guard = request.token().on_cancelled(|reason| println!("stopping: {reason}"));
/// assert!(server.cancel("shutdown"));
/// assert!(request.is_cancelled());
/// assert!(!request.cancel("too late"), "the first reason counts");
/// ```
#[derive(Clone)]
pub struct CancellationSource {
    node: Arc<Node>,
}

/// The observing side of a cancellation. A cheap handle: clones observe the same cancellation.
///
/// Once it is cancelled, the reason is available and all its children are cancelled.
///
/// ```
/// use session_core::{CancellationSource, CancellationToken, CancelledError};
///
/// fn work(token: &CancellationToken) -> Result<(), CancelledError> {
///     for _ in 0..3 {
///         token.check()?;                         // in loops; in a `select!`, wait for `token.cancelled()`
///     }
///     Ok(())
/// }
///
/// let source = CancellationSource::new();
/// let part = source.token().child_source();       // a part of the work that can be cancelled alone
/// part.cancel("not needed");
/// assert!(work(&source.token()).is_ok() && !source.token().is_cancelled());
/// assert_eq!(part.token().reason().as_deref(), Some("not needed"));
/// assert!(work(&part.token()).is_err());
/// ```
#[derive(Clone)]
pub struct CancellationToken {
    node: Arc<Node>,
}

/// The error of cancelled work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the work was cancelled: {reason}")]
#[non_exhaustive]
pub struct CancelledError {
    /// The reason.
    pub reason: String,
}

impl CancellationSource {
    /// Creates a source that is not cancelled.
    #[must_use]
    pub fn new() -> Self {
        Self { node: Node::root() }
    }

    /// Creates a source that cancels itself after `timeout`, unless it is cancelled before. The timer runs as long as a
    /// source, a token or a child exists.
    ///
    /// # Panics
    /// Outside a tokio runtime with time enabled.
    #[must_use]
    pub fn with_timeout(timeout: Duration) -> Self {
        let source = Self::new();
        source.node.cancel_after(timeout);
        source
    }

    /// Cancels this source and all its children. Returns `true` if this call was the first; the first reason is kept.
    /// On return, every token and every child is cancelled; callbacks started by another thread may still be running
    /// there.
    pub fn cancel(&self, reason: impl Into<String>) -> bool {
        self.node.cancel(reason.into().into())
    }

    /// Returns a token that observes this source.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        CancellationToken { node: Arc::clone(&self.node) }
    }

    /// Creates a source that is cancelled with this one, for the same reason. Cancelling it does not affect this one.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { node: self.node.child() }
    }

    /// Returns `true` if it is cancelled.
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
    /// Returns `true` if it is cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.node.is_cancelled()
    }

    /// Returns the reason of the cancellation; `None` while it is not cancelled.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        self.node.reason().map(str::to_owned)
    }

    /// Returns an error once it is cancelled. Use it with `?` in loops.
    ///
    /// # Errors
    /// [`CancelledError`] once it is cancelled.
    pub fn check(&self) -> Result<(), CancelledError> {
        match self.node.reason() {
            None => Ok(()),
            Some(reason) => Err(CancelledError { reason: reason.to_owned() }),
        }
    }

    /// Waits until it is cancelled, and returns the reason. Dropping the future is harmless, so it can be used in a
    /// `select!`.
    pub fn cancelled(&self) -> impl Future<Output = String> + Send + use<> {
        let node = Arc::clone(&self.node);
        async move { node.cancelled().await.to_owned() }
    }

    /// Registers a callback that is called once with the reason on cancellation, or immediately if it is already
    /// cancelled. It runs on the cancelling thread and must not block. If it panics, the other callbacks still run.
    ///
    /// A callback that holds this token keeps itself alive until the cancellation or until its guard is dropped.
    pub fn on_cancelled(&self, callback: impl FnOnce(&str) + Send + 'static) -> CallbackGuard {
        let Some(key) = self.node.register(Box::new(callback)) else {
            return CallbackGuard::spent();
        };
        // Weak: a guard keeps nothing alive.
        let node = Arc::downgrade(&self.node);
        CallbackGuard::new(move || {
            if let Some(node) = node.upgrade() {
                node.unregister(key);
            }
        })
    }

    /// Creates a source that is cancelled with this token, so that a part of the work can be cancelled separately.
    /// Cancelling it does not affect this token.
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
