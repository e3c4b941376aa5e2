//! Repair of a damaged session, with the loss recorded in its log.

use serde_json::json;
use session_core::backend::{Batch, Chain, Expected, SessionStorage, UnsealedRecord};
use session_core::maintenance::{AcceptedLoss, Loss, RepairReport};
use session_core::{
    Clock as _, Durability, ErrorCode, Evidence, Head, Liveness, Result, SessionError, SessionEvent,
    SessionId, StorageError, SystemClock,
};

use crate::store::Store;

/// Attempts to append the record of the loss. Conflicts are not expected, because the owner is dead.
const MAX_ATTEMPTS: usize = 16;

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

async fn record_loss(storage: &dyn SessionStorage, id: SessionId, loss: &Loss) -> Result<()> {
    for _ in 0..MAX_ATTEMPTS {
        let Some(head) = storage.head(id).await? else { return Err(StorageError::NotFound { id }.into()) };
        if head.state().is_final() {
            return Ok(());
        }
        let mut events = Vec::new();
        if head.lifecycle.owner.is_some() {
            events.push(SessionEvent::Interrupted { evidence: Evidence::Repaired });
        }
        let data = json!({ "readable": loss.readable, "flushed": loss.flushed, "bytes": loss.bytes });
        events.push(SessionEvent::Noted { kind: "session.loss".to_owned(), data });
        let expected = Expected::At(head.tip);
        match storage.append(id, expected, batch(id, head, events)?, Durability::Flushed).await {
            Err(error) if error.code() == ErrorCode::Conflict => {}
            result => return Ok(result.map(drop)?),
        }
    }
    Err(SessionError::Contended { id })
}

/// Seals events behind a head and returns them with the resulting head.
fn batch(id: SessionId, mut head: Head, events: Vec<SessionEvent>) -> Result<Batch> {
    let mut chain = Chain::at(id, head.tip);
    let mut records = Vec::new();
    for event in events {
        let attempt = head.lifecycle.attempt_for(event.kind());
        let unsealed = UnsealedRecord { at: SystemClock.now(), attempt, flushed: head.flushed, event };
        let (stored, record) = chain.seal(unsealed)?;
        head.apply(&record).map_err(|source| SessionError::Transition { id, source })?;
        records.push(stored);
    }
    Ok(Batch::new(records, head))
}
