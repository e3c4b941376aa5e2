//! Arguments and results of the storage port: batches, expectations, pages, filters, guarantees.

use std::fmt;
use std::num::NonZeroUsize;

use async_trait::async_trait;

use crate::head::Head;
use crate::id::SessionId;
use crate::machine::StateName;
use crate::record::{StoredRecord, Tip};
use crate::time::Timestamp;

use super::StorageError;

/// The state that an append requires. There is no unconditional write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// The session does not exist: the append creates it.
    Absent,
    /// The session does not exist, and fewer than this many sessions hold a place ([`Head::holds_place`]), counted in
    /// the same critical section.
    AbsentWithin(NonZeroUsize),
    /// The log ends with this tip.
    At(Tip),
    /// The log ends with this tip, and fewer than this many other sessions hold a place, counted in the same critical
    /// section: a session without an owner gets one.
    AtWithin(Tip, NonZeroUsize),
}

impl Expected {
    /// Returns the tip that the log must end with; `None` if the session must not exist.
    #[must_use]
    pub const fn tip(self) -> Option<Tip> {
        match self {
            Self::Absent | Self::AbsentWithin(_) => None,
            Self::At(tip) | Self::AtWithin(tip, _) => Some(tip),
        }
    }

    /// Returns the limit of sessions that hold a place, if the append needs a free one.
    #[must_use]
    pub const fn limit(self) -> Option<NonZeroUsize> {
        match self {
            Self::Absent | Self::At(_) => None,
            Self::AbsentWithin(limit) | Self::AtWithin(_, limit) => Some(limit),
        }
    }
}

/// Durability of an append once it has returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Durability {
    /// Survives the death of the process.
    Buffered,
    /// Survives power loss.
    Flushed,
}

/// Consecutive records with the head that results from them. The core creates it; a backend stores it unchanged.
#[derive(Debug, Clone)]
pub struct Batch {
    records: Vec<StoredRecord>,
    head: Option<Head>,
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
        Self { records, head: Some(head) }
    }

    /// Creates a batch without records. Appended with [`Durability::Flushed`], it only flushes the log.
    #[must_use]
    pub const fn empty() -> Self {
        Self { records: Vec::new(), head: None }
    }

    /// Returns the records, ascending.
    #[must_use]
    pub fn records(&self) -> &[StoredRecord] {
        &self.records
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
        let next = match expected.tip() {
            None => 1,
            Some(tip) if self.records.is_empty() => return tip.revision > 0,
            Some(tip) => tip.revision + 1,
        };
        self.records.first().is_some_and(|record| record.revision() == next)
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

/// One page of a log: records, ascending.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct RecordPage {
    /// The records.
    pub records: Vec<StoredRecord>,
}

impl RecordPage {
    /// Creates a page of these records.
    #[must_use]
    pub const fn new(records: Vec<StoredRecord>) -> Self {
        Self { records }
    }
}

/// One page of a list: heads, ascending by id, and the sessions in between that could not be read.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct HeadPage {
    /// The heads.
    pub heads: Vec<Head>,
    /// Sessions that exist but cannot be read, each with the reason. The filter does not apply to them.
    pub unreadable: Vec<(SessionId, StorageError)>,
    /// The id after which the next page begins. `None` at the end of the list.
    pub next: Option<SessionId>,
}

impl HeadPage {
    /// Creates a page of these heads; the next page begins after `next`.
    #[must_use]
    pub const fn new(
        heads: Vec<Head>,
        unreadable: Vec<(SessionId, StorageError)>,
        next: Option<SessionId>,
    ) -> Self {
        Self { heads, unreadable, next }
    }
}

/// Selection of sessions for a list. The empty filter matches all.
///
/// ```
/// use std::time::Duration;
/// use session_core::{Clock as _, InMemorySessionManager, ListOrder, SessionFilter, SessionManager as _, StateName, SystemClock};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), session_core::SessionError> {
/// # let manager = InMemorySessionManager::new();
/// let failed = SessionFilter::all()
///     .state(StateName::Failed)
///     .state(StateName::Cancelled)                // either
///     .label("team", "data")                      // and
///     .updated_since(SystemClock.now().before(Duration::from_secs(3600)))
///     .order(ListOrder::Created);
/// for head in manager.list_sessions(failed).await?.heads {
///     println!("{} {}", head.id, head.state().name());
/// }
/// let active = manager.list_sessions(SessionFilter::active().name("nightly-import")).await?;
/// assert!(active.heads.is_empty());
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct SessionFilter {
    /// Only sessions in one of these states; empty means any state.
    pub states: Vec<StateName>,
    /// Only sessions with exactly this name.
    pub name: Option<String>,
    /// Only sessions with all of these labels.
    pub labels: Vec<(String, String)>,
    /// Only sessions with a record sealed at or after this instant.
    pub updated_since: Option<Timestamp>,
    /// The order in which a manager lists the sessions. Pages of a storage are always ascending by id.
    pub order: ListOrder,
}

/// The order of a list of sessions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ListOrder {
    /// By the time of creation, the newest last.
    #[default]
    Created,
    /// By id.
    Id,
}

impl SessionFilter {
    /// Creates a filter that matches all sessions.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Creates a filter that matches active sessions: those that have not ended.
    #[must_use]
    pub fn active() -> Self {
        Self {
            states: StateName::ALL.iter().copied().filter(|state| !state.is_final()).collect(),
            ..Self::default()
        }
    }

    /// Adds a state to those that match.
    #[must_use]
    pub fn state(mut self, state: StateName) -> Self {
        self.states.push(state);
        self
    }

    /// Restricts the filter to sessions with exactly this name.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Restricts the filter to sessions with this label.
    #[must_use]
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.push((key.into(), value.into()));
        self
    }

    /// Restricts the filter to sessions with a record sealed at or after this instant.
    #[must_use]
    pub fn updated_since(mut self, at: Timestamp) -> Self {
        self.updated_since = Some(at);
        self
    }

    /// Sets the order of the list.
    #[must_use]
    pub fn order(mut self, order: ListOrder) -> Self {
        self.order = order;
        self
    }

    /// Returns the requested name in the form stored in heads, for backends that search an index for it.
    #[must_use]
    pub fn kept_name(&self) -> Option<String> {
        self.name.as_deref().map(|name| crate::text::cut(name, crate::limits::HEAD_TEXT))
    }

    /// Returns `true` if no ended session can match, so that a backend may skip those.
    #[must_use]
    pub fn only_active(&self) -> bool {
        !self.states.is_empty() && self.states.iter().all(|state| !state.is_final())
    }

    /// Returns `true` if a head matches.
    #[must_use]
    pub fn matches(&self, head: &Head) -> bool {
        let Self { states, name, labels, updated_since, order: _ } = self;
        (states.is_empty() || states.contains(&head.state().name()))
            && name.as_ref().is_none_or(|name| head.is_named(name))
            && labels.iter().all(|(key, value)| head.labels.get(key) == Some(value))
            && updated_since.is_none_or(|since| head.updated_at >= since)
    }
}

/// The processes that may share a storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sharing {
    /// One process.
    Process,
    /// All processes of one machine.
    Machine,
    /// Processes of many machines.
    Machines,
}

/// The guarantees of a storage.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StorageProfile {
    /// The backend's name.
    pub name: &'static str,
    /// The strongest durability of an acknowledged append; `None` if nothing outlives the process.
    pub durability: Option<Durability>,
    /// The processes that may share it.
    pub sharing: Sharing,
}

impl StorageProfile {
    /// Creates a profile of these guarantees.
    #[must_use]
    pub const fn new(name: &'static str, durability: Option<Durability>, sharing: Sharing) -> Self {
        Self { name, durability, sharing }
    }
}

/// Change notifications of a storage. They are hints: one may be late, cover several changes, or be spurious.
#[async_trait]
pub trait ChangeFeed: Send + Sync + fmt::Debug {
    /// Waits until the session's log may have grown beyond `seen`. Dropping the future is harmless.
    async fn changed(&self, id: SessionId, seen: Tip);
}
