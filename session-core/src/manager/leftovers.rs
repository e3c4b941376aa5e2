//! Orphans whose work may have left something behind, usually the processes of a program.

use super::engine::Engine;
use super::ownership::{OwnerStatus, owner_status};
use crate::error::Result;
use crate::id::SessionId;

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
