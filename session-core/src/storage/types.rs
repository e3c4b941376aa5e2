//! Arguments and results of the storage port: expectations, pages, filters, guarantees. Batches are in `batch`.

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

    /// Creates a page of the first of these records: up to `limit`, and until their lines have [`PAGE_BYTES`].
    #[must_use]
    pub fn within(limit: NonZeroUsize, records: impl IntoIterator<Item = StoredRecord>) -> Self {
        let mut room = PageRoom::new(limit);
        Self::new(records.into_iter().take_while(|record| room.take(record.line().len())).collect())
    }
}

/// Bytes of lines with which a page of records ends, even if the limit of the caller is higher: memory must not grow with
/// the log. A record is below [`RECORD_BYTES`](crate::limits::RECORD_BYTES), so a page is below twice that.
pub const PAGE_BYTES: usize = 1024 * 1024;

/// The room that is left on a page of records: up to the limit of the caller, and up to [`PAGE_BYTES`] of lines. The
/// record that exceeds the bytes is the last one of its page, so a page is below twice that.
///
/// ```
/// use session_core::backend::PageRoom;
///
/// # fn main() {
/// let stored = ["first", "second", "third"];
/// let (mut page, mut room) = (Vec::new(), PageRoom::new(2.try_into().unwrap()));
/// for line in stored {
///     if !room.take(line.len()) {
///         break;
///     }
///     page.push(line);
/// }
/// assert_eq!(page, ["first", "second"]);
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct PageRoom {
    records: usize,
    bytes: usize,
}

impl PageRoom {
    /// Creates the room of an empty page of up to `limit` records.
    #[must_use]
    pub const fn new(limit: NonZeroUsize) -> Self {
        Self { records: limit.get(), bytes: PAGE_BYTES }
    }

    /// Takes the room of a record whose line has this many bytes. Returns `false` if there was none left.
    pub const fn take(&mut self, line: usize) -> bool {
        let is_left = self.is_left();
        self.records = self.records.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(line);
        is_left
    }

    /// Returns `true` if another record fits.
    #[must_use]
    pub const fn is_left(&self) -> bool {
        self.records > 0 && self.bytes > 0
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
