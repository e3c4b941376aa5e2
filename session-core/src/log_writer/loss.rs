//! The record of a repair's loss, in the log that was repaired.

use serde_json::json;

use super::LogWriter;
use crate::error::Result;
use crate::event::SessionEvent;
use crate::head::Head;
use crate::id::SessionId;
use crate::owner::Evidence;
use crate::storage::{Durability, Loss, SessionStorage};

/// Records in a session's log what its repair gave up: the session is `interrupted`, if it was owned, and gets a note of
/// the kind `session.loss`. A session that has ended is left as it is. Call it only when its owner is known to be dead.
///
/// # Errors
/// `NOT_FOUND`; `CONFLICT` if other processes kept appending for 5 seconds; failures of the backend.
pub async fn record_loss(storage: &dyn SessionStorage, id: SessionId, loss: &Loss) -> Result<()> {
    let writer = LogWriter::of(storage);
    let mut tail = writer.load(id).await?;
    let data = json!({ "readable": loss.readable, "flushed": loss.flushed, "bytes": loss.bytes });
    let decide = |head: &Head| {
        if head.state().is_final() {
            return Ok(Vec::new());
        }
        let owned = head.lifecycle.owner.is_some();
        let interrupted = owned.then_some(SessionEvent::Interrupted { evidence: Evidence::Repaired });
        let noted = SessionEvent::Noted { kind: "session.loss".to_owned(), data: data.clone() };
        Ok(interrupted.into_iter().chain([noted]).collect())
    };
    writer.commit(&mut tail, Durability::Flushed, decide).await?;
    Ok(())
}
