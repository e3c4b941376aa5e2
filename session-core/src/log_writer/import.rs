//! Import of a log from another store, after checking all of it.

use std::ops::Deref;

use super::LogWriter;
use crate::head::Head;
use crate::id::SessionId;
use crate::record::{Chain, Tip};
use crate::storage::{Batch, Durability, Expected, SessionStorage, StorageError};

/// The outcome of an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Imported {
    /// The log was stored.
    New(Tip),
    /// The same log was already stored.
    AlreadyThere(Tip),
}

/// Returns the lines as one batch, with every sum checked and every event folded.
fn checked<L: AsRef<[u8]>>(id: SessionId, lines: &[L]) -> Result<Batch, StorageError> {
    let (mut chain, mut head) = (Chain::start(id), None);
    let mut records = Vec::with_capacity(lines.len());
    for line in lines {
        let readable = chain.revision();
        let record = chain.check(line.as_ref()).map_err(|broken| StorageError::Corrupt {
            id,
            readable,
            what: format!("revision {}: {broken}", readable + 1),
        })?;
        let revision = record.revision();
        let decoded = record.decode().map_err(|error| StorageError::undecodable(id, revision, error))?;
        Head::fold(&mut head, id, &decoded).map_err(|source| StorageError::Invalid {
            id,
            revision,
            source,
        })?;
        records.push(record);
    }
    let head =
        head.ok_or_else(|| StorageError::InvalidArgument { what: "the log has no records".to_owned() })?;
    Ok(Batch::new(records, head))
}

impl<P> LogWriter<P>
where
    P: Deref<Target: SessionStorage> + Send + Sync,
{
    /// Stores a complete log; see [`SessionStorageExt::import`](crate::backend::SessionStorageExt::import).
    pub(crate) async fn import<L: AsRef<[u8]>>(
        &self,
        id: SessionId,
        lines: &[L],
    ) -> Result<Imported, StorageError> {
        let batch = checked(id, lines)?;
        let batch_tip = batch.head().map(|head| head.tip);
        match self.storage.append(id, Expected::Absent, batch, Durability::Flushed).await {
            Ok(tip) => Ok(Imported::New(tip)),
            Err(StorageError::Conflict { actual: Some(tip), .. }) if batch_tip == Some(tip) => {
                // Another process may have stored it without a flush.
                self.flush(id, tip).await?;
                Ok(Imported::AlreadyThere(tip))
            }
            Err(error) => Err(error),
        }
    }
}
