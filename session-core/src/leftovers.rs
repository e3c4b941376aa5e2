//! The port for ending processes that sessions have left behind.

use async_trait::async_trait;

use crate::error::Result;
use crate::id::SessionId;

/// Ends what sessions without an owner have left behind on this machine, usually the processes of a program. The manager
/// calls it before it records the end of such a session, and before it deletes one: after that, nobody would look for it.
#[async_trait]
pub trait Leftovers: Send + Sync + std::fmt::Debug {
    /// Returns once nothing is left, or returns an error after a limited time: then the session keeps its state.
    ///
    /// # Errors
    /// [`SessionError::StillRunning`](crate::SessionError::StillRunning) if something is left, or errors of finding out.
    async fn end(&self, id: SessionId) -> Result<()>;
}
