//! Import of a log from another store, after checking all of it.

use std::ops::Deref;

use super::LogWriter;
use crate::head::Head;
use crate::id::SessionId;
use crate::record::{Chain, Tip};
use crate::storage::spool::{CompleteLog, Spool};
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

/// A complete log on its way into a storage: each line is checked as it is added. The lines of a long log wait in a
/// temporary file, in the folder that TMPDIR names, else in `/var/tmp` or `/tmp`; the file has no name, so that nothing
/// is left of it.
///
/// ```
/// use session_core::backend::{CheckedLog, Imported, MemoryStorage, SessionStorageExt as _};
/// # use session_core::{SessionConfig, SessionManager as _};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let manager = session_core::InMemorySessionManager::new();
/// # let id = manager.create_session(SessionConfig::new("work")).await?;
/// let (from, to) = (manager.storage(), MemoryStorage::new());
/// let (mut log, mut pages) = (CheckedLog::new(id), from.log(id, 0));
/// while let Some(page) = pages.next_page().await? {
///     for record in page {
///         log.add(record.line().as_bytes())?;
///     }
/// }
/// assert!(matches!(to.import_log(log).await?, Imported::New(_)));
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct CheckedLog {
    id: SessionId,
    chain: Chain,
    head: Option<Head>,
    lines: Spool,
}

impl CheckedLog {
    /// Creates a log without records.
    #[must_use]
    pub fn new(id: SessionId) -> Self {
        Self { id, chain: Chain::start(id), head: None, lines: Spool::default() }
    }

    /// Returns the session.
    #[must_use]
    pub const fn id(&self) -> SessionId {
        self.id
    }

    /// Returns the last record; `None` if there are no records.
    #[must_use]
    pub const fn tip(&self) -> Option<Tip> {
        self.chain.tip()
    }

    /// Adds the next line, without its line end: checks its sum and folds its event. Blocks while a temporary file is
    /// written.
    ///
    /// # Errors
    /// `Corrupt` and `Invalid` if it is not the next record; `UnsupportedFormat` if a newer version wrote it; `Full`
    /// and `Io` if the temporary file cannot be written. No line can be added after an error.
    pub fn add(&mut self, line: &[u8]) -> Result<(), StorageError> {
        let (id, readable) = (self.id, self.chain.revision());
        let record = self.chain.check(line).map_err(|broken| StorageError::Corrupt {
            id,
            readable,
            what: format!("revision {}: {broken}", readable + 1),
        })?;
        let revision = record.revision();
        let decoded = record.decode().map_err(|error| StorageError::undecodable(id, revision, error))?;
        Head::fold(&mut self.head, id, &decoded).map_err(|source| StorageError::Invalid {
            id,
            revision,
            source,
        })?;
        self.lines.add(record)
    }

    fn into_batch(self) -> Result<Batch, StorageError> {
        let empty = || StorageError::InvalidArgument { what: "the log has no records".to_owned() };
        let head = self.head.ok_or_else(empty)?;
        Ok(match self.lines.finish()? {
            CompleteLog::Memory(records) => Batch::new(records, head),
            CompleteLog::File(lines) => Batch::spooled(lines, head),
        })
    }
}

impl<P> LogWriter<P>
where
    P: Deref<Target: SessionStorage> + Send + Sync,
{
    /// Stores a complete log; see [`SessionStorageExt::import`](crate::backend::SessionStorageExt::import).
    pub(crate) async fn import(&self, log: CheckedLog) -> Result<Imported, StorageError> {
        let id = log.id();
        let batch = log.into_batch()?;
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
