//! Mending a session whose storage was damaged, so that its log tells what was lost.

use serde_json::json;
use session_core::{
    AcceptedLoss, Batch, Chain, Clock as _, Durability, ErrorCode, Evidence, Expected, Head, Liveness, Loss,
    RepairReport, Result, SessionError, SessionEvent, SessionId, SessionStorage, StorageError, SystemClock,
    UnsealedRecord,
};

use crate::store::Store;

/// How often others may append to a session while its loss is noted; nobody does to one whose owner is dead.
const ROUNDS: usize = 16;

/// Whether records that were acknowledged as flushed may be given up for lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LossPolicy {
    /// They may not: a session that has such losses stays as it is.
    #[default]
    Refuse,
    /// They may, if whoever owns the session is proven dead.
    Accept,
}

impl Store {
    /// Mends what is stored of a session. What is cut is kept apart. Where flushed records are given up for lost, the log
    /// says so: the session is `interrupted`, if it was owned, and has a note of the kind `session.loss`.
    ///
    /// # Errors
    /// `CORRUPT` where flushed records are gone and that is not accepted; `STORAGE_UNAVAILABLE` where an owner lives, or
    /// may; `INVALID_LOG` and `UNSUPPORTED_FORMAT`, for which there is no repair; `INVALID_ARGUMENT` for a store that
    /// has nothing to mend.
    pub async fn repair(&self, id: SessionId, losses: LossPolicy) -> Result<RepairReport> {
        let (Some(storage), presence) = (self.maintenance(), self.presence()) else {
            return Err(SessionError::InvalidArgument {
                what: format!("{} keeps nothing that could be repaired", self.url()),
            });
        };
        let acceptance = match losses {
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
        let repaired = storage.repair(id, acceptance).await?;
        if let Some(loss) = &repaired.loss
            && repaired.tip.is_some()
        {
            note(&**storage, id, loss).await?;
            // The log tells of it now, so that nothing else has to.
            storage.repair(id, AcceptedLoss::None).await?;
        }
        Ok(repaired)
    }
}

async fn note(storage: &dyn SessionStorage, id: SessionId, loss: &Loss) -> Result<()> {
    for _ in 0..ROUNDS {
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

/// Events sealed for the end of a log, with the head that they lead to.
fn batch(id: SessionId, mut head: Head, events: Vec<SessionEvent>) -> Result<Batch> {
    let mut chain = Chain::at(id, head.tip);
    let mut records = Vec::new();
    for event in events {
        let attempt = head.lifecycle.attempt_for(event.kind());
        let draft = UnsealedRecord { at: SystemClock.now(), attempt, flushed: head.flushed, event };
        let (stored, record) = chain.seal(draft)?;
        head.apply(&record).map_err(|source| SessionError::Transition { id, source })?;
        records.push(stored);
    }
    Ok(Batch::new(records, head))
}
