//! What the work of a session leaves on this machine when its owner dies: usually the processes of a program.

use async_trait::async_trait;

use super::engine::Engine;
use super::ownership::{OwnerStatus, owner_status};
use crate::error::Result;
use crate::id::SessionId;

/// Ends what sessions without an owner have left behind on this machine. The manager calls it before it records the end of
/// such a session, and before it deletes one: after that, nobody would look for it.
#[async_trait]
pub trait Leftovers: Send + Sync + std::fmt::Debug {
    /// Returns once nothing is left, or returns an error after a limited time: then the session keeps its state.
    ///
    /// # Errors
    /// [`SessionError::StillRunning`](crate::SessionError::StillRunning) if something is left, or errors of finding out.
    async fn end(&self, id: SessionId) -> Result<()>;
}

impl Engine {
    /// Ends what a session has left behind that has lost its owner. Does nothing for a session whose owner is alive, or may
    /// be.
    pub(crate) async fn end_leftovers(&self, id: SessionId) -> Result<()> {
        let Some(leftovers) = &self.leftovers else { return Ok(()) };
        if !self.has_lost_owner(id).await? {
            return Ok(());
        }
        match leftovers.end(id).await {
            // Another process runs it again meanwhile.
            Err(_) if !self.has_lost_owner(id).await? => Ok(()),
            ended => ended,
        }
    }

    async fn has_lost_owner(&self, id: SessionId) -> Result<bool> {
        let Some(head) = self.storage().head(id).await? else { return Ok(false) };
        Ok(match owner_status(&self.identity, &head).await? {
            OwnerStatus::Orphaned(_) => true,
            OwnerStatus::Unowned => head.lifecycle.loss.is_some(),
            OwnerStatus::Mine | OwnerStatus::Foreign { .. } => false,
        })
    }
}
