//! What goes through the storage port: batches, expectations, pages, filters, promises.

use std::fmt;
use std::num::NonZeroUsize;

use async_trait::async_trait;

use crate::head::Head;
use crate::id::SessionId;
use crate::machine::StateName;
use crate::record::{StoredRecord, Tip};
use crate::time::Timestamp;

use super::StorageError;

/// What must be stored already for an append to succeed. There is no blind write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// No such session: the append creates it.
    Absent,
    /// No such session, and fewer than this many sessions that have not ended, counted in the same critical section.
    AbsentWithin(NonZeroUsize),
    /// A log that ends with this tip.
    At(Tip),
}

/// How safe an append is once it returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Durability {
    /// Survives the death of the process.
    Buffered,
    /// Survives power loss.
    Flushed,
}

/// Records in a row, with the head that they lead to. The core makes it; a backend stores it as it is.
#[derive(Debug, Clone)]
pub struct Batch {
    records: Vec<StoredRecord>,
    head: Option<Head>,
}

impl Batch {
    /// Records in a row and the head of the log that ends with the last of them.
    ///
    /// # Panics
    /// If there are no records, if they do not follow each other, or if the head is that of another log: a mistake of
    /// the caller's that would break each backend in its own way.
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
        Self { records, head: Some(head) }
    }

    /// No records: with [`Durability::Flushed`] the flush of what is there.
    #[must_use]
    pub const fn empty() -> Self {
        Self { records: Vec::new(), head: None }
    }

    /// The records, ascending.
    #[must_use]
    pub fn records(&self) -> &[StoredRecord] {
        &self.records
    }

    /// The head after the last record; `None` exactly if there are no records.
    #[must_use]
    pub const fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }

    /// Whether `expected` can be where this batch begins: record 1 for an absent log, else the one after the tip.
    #[must_use]
    pub fn fits(&self, expected: Expected) -> bool {
        let next = match expected {
            Expected::Absent | Expected::AbsentWithin(_) => 1,
            Expected::At(tip) if self.records.is_empty() => return tip.revision > 0,
            Expected::At(tip) => tip.revision + 1,
        };
        self.records.first().is_some_and(|record| record.revision() == next)
    }

    /// Whether this batch may be added to a log that ends with `actual`; `None` is no log. For backends, in the critical
    /// section in which they then add it. `active` counts the sessions that have not ended, and is asked only where a
    /// session is created within a limit.
    ///
    /// # Errors
    /// `Conflict`, `MaxSessions`; `InvalidArgument` for a batch that begins elsewhere; those of `active`.
    pub fn check(
        &self,
        id: SessionId,
        expected: Expected,
        actual: Option<Tip>,
        active: impl FnOnce() -> Result<usize, StorageError>,
    ) -> Result<(), StorageError> {
        let wanted = match expected {
            Expected::Absent | Expected::AbsentWithin(_) => None,
            Expected::At(tip) => Some(tip),
        };
        if actual != wanted {
            return Err(StorageError::Conflict { id, expected: wanted, actual });
        }
        if let Expected::AbsentWithin(limit) = expected
            && active()? >= limit.get()
        {
            return Err(StorageError::MaxSessions { limit: limit.get() });
        }
        if self.fits(expected) {
            return Ok(());
        }
        Err(StorageError::InvalidArgument {
            what: format!("the batch does not begin where {expected:?} ends"),
        })
    }
}

/// Some records of a log, ascending.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct RecordPage {
    /// The records.
    pub records: Vec<StoredRecord>,
}

impl RecordPage {
    /// A page of these records.
    #[must_use]
    pub const fn new(records: Vec<StoredRecord>) -> Self {
        Self { records }
    }
}

/// Some heads, ascending by id, and the sessions between them that could not be read.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct HeadPage {
    /// The heads.
    pub heads: Vec<Head>,
    /// Sessions that are there and cannot be read, whatever the filter says, each with the reason.
    pub unreadable: Vec<(SessionId, StorageError)>,
    /// The last id that was looked at: go on after it. `None` at the end of the list.
    pub next: Option<SessionId>,
}

impl HeadPage {
    /// A page of these heads; `next` is where to go on.
    #[must_use]
    pub const fn new(
        heads: Vec<Head>,
        unreadable: Vec<(SessionId, StorageError)>,
        next: Option<SessionId>,
    ) -> Self {
        Self { heads, unreadable, next }
    }
}

/// Which sessions a list shows. An empty filter lets all through.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct SessionFilter {
    /// Only sessions in one of these states; empty means any.
    pub states: Vec<StateName>,
    /// Only sessions of exactly this name.
    pub name: Option<String>,
    /// Only sessions with all of these labels.
    pub labels: Vec<(String, String)>,
    /// Only sessions with a record sealed at or after this instant.
    pub updated_since: Option<Timestamp>,
}

impl SessionFilter {
    /// All sessions.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Sessions that have not ended.
    #[must_use]
    pub fn active() -> Self {
        Self {
            states: StateName::ALL.iter().copied().filter(|state| !state.is_final()).collect(),
            ..Self::default()
        }
    }

    /// Also those in this state.
    #[must_use]
    pub fn state(mut self, state: StateName) -> Self {
        self.states.push(state);
        self
    }

    /// Only those of exactly this name.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Only those with this label.
    #[must_use]
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.push((key.into(), value.into()));
        self
    }

    /// Only those with a record sealed at or after this instant.
    #[must_use]
    pub fn updated_since(mut self, at: Timestamp) -> Self {
        self.updated_since = Some(at);
        self
    }

    /// The name that is asked for as heads keep it, for a backend that looks for it in an index.
    #[must_use]
    pub fn kept_name(&self) -> Option<String> {
        self.name.as_deref().map(|name| crate::text::cut(name, crate::limits::HEAD_TEXT))
    }

    /// Whether no ended session can pass, so that a backend need not look at those.
    #[must_use]
    pub fn only_active(&self) -> bool {
        !self.states.is_empty() && self.states.iter().all(|state| !state.is_final())
    }

    /// Whether the filter lets a head through.
    #[must_use]
    pub fn matches(&self, head: &Head) -> bool {
        let Self { states, name, labels, updated_since } = self;
        (states.is_empty() || states.contains(&head.state().name()))
            && name.as_ref().is_none_or(|name| head.is_named(name))
            && labels.iter().all(|(key, value)| head.labels.get(key) == Some(value))
            && updated_since.is_none_or(|since| head.updated_at >= since)
    }
}

/// Who can share a storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sharing {
    /// Only one process.
    Process,
    /// All processes of one machine.
    Machine,
    /// Processes of many machines.
    Machines,
}

/// What a storage promises.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StorageProfile {
    /// The backend's name.
    pub name: &'static str,
    /// What an acknowledged append survives at best; `None` where it does not outlive the process.
    pub durability: Option<Durability>,
    /// Who can share it.
    pub sharing: Sharing,
}

impl StorageProfile {
    /// These promises.
    #[must_use]
    pub const fn new(name: &'static str, durability: Option<Durability>, sharing: Sharing) -> Self {
        Self { name, durability, sharing }
    }
}

/// A hint that something changed. It may come late, come for several changes at once, or come for none.
#[async_trait]
pub trait ChangeFeed: Send + Sync + fmt::Debug {
    /// Waits until the session's log may have grown beyond `seen`. Dropping the future is harmless.
    async fn changed(&self, id: SessionId, seen: Tip);
}
