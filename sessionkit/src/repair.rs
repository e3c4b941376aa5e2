//! Repair of a damaged session, with the loss recorded in its log.

use session_core::maintenance::{AcceptedLoss, RepairReport, record_loss};
use session_core::{Liveness, Result, SessionError, SessionId};

use crate::store::Store;

/// Permission to discard records that were acknowledged as flushed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LossPolicy {
    /// Do not discard: a session that has such losses stays as it is.
    #[default]
    Refuse,
    /// Discard, if the session's owner is proven dead.
    Accept,
}

impl Store {
    /// Repairs the stored data of a session. Bytes that are cut off are quarantined. If flushed records are discarded,
    /// the log records it: the session is `interrupted`, if it was owned, and gets a note of the kind `session.loss`.
    ///
    /// # Errors
    /// `CORRUPT` if flushed records are gone and the loss is not accepted; `STORAGE_UNAVAILABLE` if an owner is or may
    /// be alive; `INVALID_LOG` and `UNSUPPORTED_FORMAT`, which cannot be repaired; `INVALID_ARGUMENT` for a store in
    /// memory, which has nothing to repair.
    pub async fn repair(&self, id: SessionId, losses: LossPolicy) -> Result<RepairReport> {
        let (Some(storage), presence) = (self.maintenance(), self.presence()) else {
            return Err(SessionError::InvalidArgument {
                what: format!("{} stores nothing that could be repaired", self.url()),
            });
        };
        let accepted = match losses {
            LossPolicy::Refuse => AcceptedLoss::None,
            LossPolicy::Accept => {
                let mut dead = Vec::new();
                for owner in storage.verify(id).await?.owners {
                    if let Liveness::Dead { .. } = presence.liveness(&owner).await? {
                        dead.push(owner.instance);
                    }
                }
                AcceptedLoss::Of { dead }
            }
        };
        let repaired = storage.repair(id, accepted).await?;
        if let Some(loss) = &repaired.loss
            && repaired.tip.is_some()
        {
            record_loss(&**storage, id, loss).await?;
            // The log records the loss now, so the storage can drop its own note of it.
            storage.repair(id, AcceptedLoss::None).await?;
        }
        Ok(repaired)
    }
}
