//! Batches of records to append. A complete log that is long stays in a file, so that it can be imported without being
//! held in memory.

use std::borrow::Cow;
use std::sync::Arc;

use super::spool::{SpooledLines, SpooledRecords};
use super::{Expected, StorageError};
use crate::head::Head;
use crate::id::SessionId;
use crate::record::{StoredRecord, Tip};

/// Consecutive records with the head that results from them. The core creates it; a backend stores it unchanged.
#[derive(Debug, Clone)]
pub struct Batch {
    content: Content,
    head: Option<Head>,
}

#[derive(Debug, Clone)]
enum Content {
    Memory(Vec<StoredRecord>),
    /// A complete log, in a file.
    Spooled(Arc<SpooledLines>),
}

/// The records of a [`Batch`], ascending. Those of a long import are read from a file, one at a time.
#[derive(Debug)]
pub struct BatchRecords<'a>(Source<'a>);

#[derive(Debug)]
enum Source<'a> {
    Memory(std::slice::Iter<'a, StoredRecord>),
    Spooled(SpooledRecords<'a>),
}

impl<'a> Iterator for BatchRecords<'a> {
    type Item = Result<Cow<'a, StoredRecord>, StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            Source::Memory(records) => records.next().map(|record| Ok(Cow::Borrowed(record))),
            Source::Spooled(records) => records.next().map(|record| record.map(Cow::Owned)),
        }
    }
}

impl Batch {
    /// Creates a batch of consecutive records with the head of the log that ends with the last one.
    ///
    /// # Panics
    /// If there are no records, if their revisions have a gap, or if the head does not belong to the last one: a bug of
    /// the caller that would otherwise break each backend differently.
    #[must_use]
    pub fn new(records: Vec<StoredRecord>, head: Head) -> Self {
        assert_eq!(
            records.last().map(StoredRecord::tip),
            Some(head.tip),
            "the head belongs to the last record"
        );
        let first = records.first().map_or(0, StoredRecord::revision);
        assert!(
            (first..).zip(&records).all(|(revision, record)| record.revision() == revision),
            "records have a gap"
        );
        Self { content: Content::Memory(records), head: Some(head) }
    }

    /// Creates a batch of a complete log whose lines are in a file.
    pub(crate) fn spooled(lines: SpooledLines, head: Head) -> Self {
        Self { content: Content::Spooled(Arc::new(lines)), head: Some(head) }
    }

    /// Creates a batch without records. Appended with [`Durability::Flushed`](super::Durability::Flushed), it only
    /// flushes the log.
    #[must_use]
    pub const fn empty() -> Self {
        Self { content: Content::Memory(Vec::new()), head: None }
    }

    /// Returns the records, ascending. Each call starts with the first one.
    ///
    /// # Errors
    /// Each record has its own: those of reading the file in which a long import waits. Records in memory have none.
    #[must_use]
    pub fn records(&self) -> BatchRecords<'_> {
        BatchRecords(match &self.content {
            Content::Memory(records) => Source::Memory(records.iter()),
            Content::Spooled(lines) => Source::Spooled(lines.records()),
        })
    }

    /// Returns all records, ascending, in memory, however long they are.
    ///
    /// # Errors
    /// Those of [`records`](Self::records).
    pub fn load(&self) -> Result<Vec<StoredRecord>, StorageError> {
        self.records().map(|record| record.map(Cow::into_owned)).collect()
    }

    /// Returns the number of records.
    #[must_use]
    pub fn len(&self) -> u64 {
        match &self.content {
            Content::Memory(records) => records.len() as u64,
            Content::Spooled(_) => self.head.as_ref().map_or(0, |head| head.tip.revision),
        }
    }

    /// Returns `true` if there are no records.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.head.is_none()
    }

    /// Returns the size of all lines in bytes, each with a line end.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        match &self.content {
            Content::Memory(records) => records.iter().map(|record| record.line().len() as u64 + 1).sum(),
            Content::Spooled(lines) => lines.bytes(),
        }
    }

    /// Returns the head after the last record; `None` if and only if there are no records.
    #[must_use]
    pub const fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }

    /// Returns `true` if this batch continues at `expected`: with record 1 for an absent log, else with the one after
    /// the tip.
    #[must_use]
    pub fn fits(&self, expected: Expected) -> bool {
        let first = match &self.content {
            Content::Memory(records) => records.first().map(StoredRecord::revision),
            Content::Spooled(_) => Some(1),
        };
        match (first, expected.tip()) {
            (None, tip) => tip.is_some_and(|tip| tip.revision > 0),
            (Some(first), None) => first == 1,
            (Some(first), Some(tip)) => first == tip.revision + 1,
        }
    }

    /// Checks that this batch may be appended to a log that ends with `actual` (`None`: no log). Backends call it in
    /// the critical section in which they append. `held` counts the other sessions that hold a place, and is called only
    /// for an append within a limit.
    ///
    /// # Errors
    /// `Conflict`, `MaxSessions`; `InvalidArgument` if the batch does not continue at `expected`; errors of `held`.
    pub fn check(
        &self,
        id: SessionId,
        expected: Expected,
        actual: Option<Tip>,
        held: impl FnOnce() -> Result<usize, StorageError>,
    ) -> Result<(), StorageError> {
        let wanted = expected.tip();
        if actual != wanted {
            return Err(StorageError::Conflict { id, expected: wanted, actual });
        }
        if let Some(limit) = expected.limit()
            && held()? >= limit.get()
        {
            return Err(StorageError::MaxSessions { limit: limit.get() });
        }
        if self.fits(expected) {
            return Ok(());
        }
        Err(StorageError::InvalidArgument { what: format!("the batch does not start at {expected:?}") })
    }
}
