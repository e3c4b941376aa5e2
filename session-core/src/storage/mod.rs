//! The storage port: a conditional append and four ways to look. A contract for implementers; conveniences for
//! users are in `ext`.

mod error;
mod ext;
mod import;
mod load;
mod maintenance;
mod memory;
mod types;
mod watch;

use std::num::NonZeroUsize;

use async_trait::async_trait;

pub use self::error::StorageError;
pub use self::ext::{Heads, SessionStorageExt};
pub use self::import::Imported;
pub use self::maintenance::{
    AcceptedLoss, Condition, Loss, ReconcileReport, RepairReport, SessionHealth, StorageMaintenance,
    StoreHealth,
};
pub use self::memory::MemoryStorage;
pub use self::types::{
    Batch, ChangeFeed, Durability, Expected, HeadPage, RecordPage, SessionFilter, Sharing, StorageProfile,
};
pub use self::watch::Watch;

use crate::head::Head;
use crate::id::SessionId;
use crate::record::Tip;

/// Records or heads read per page by the functions that read a whole log or list.
const PAGE: NonZeroUsize = NonZeroUsize::new(256).expect("256 is not 0");

/// A place where logs are kept.
///
/// # Laws
/// 1. A batch is added in order, with its head. After a crash a prefix of an unacknowledged batch may be there;
///    never a hole, never another order.
/// 2. `append` succeeds only if `expected` names what is stored, revision and sum; else
///    [`Conflict`](StorageError::Conflict) and nothing changed.
/// 3. After `Ok`, every later read by anyone sees it. `Flushed` survives power loss, `Buffered` the death of the
///    process, as far as `profile()` promises.
/// 4. A dropped future leaves a state that law 1 allows.
/// 5. Records come back byte-identical and in order, without gaps or repeats; a list shows each session that
///    existed throughout exactly once.
/// 6. A flush that failed is never retried on the same file, and nothing is acknowledged on top of it, by anyone,
///    until the log has been made anew from what is known to be good.
/// 7. Damage is never silent: what was acknowledged is returned, or the error says that it is gone.
/// 8. One session's damage does not touch another session.
///
/// Each law is a test in `session-testkit`; a backend runs all of them with one line.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait SessionStorage: Send + Sync + std::fmt::Debug {
    /// Adds records to the end of a log, all or none, if the log ends where `expected` says. Returns the new tip.
    ///
    /// With [`Durability::Flushed`] everything that the log holds, records of earlier buffered appends and of other
    /// processes included, survives power loss once this returns. An empty batch with `Flushed` is just the flush.
    ///
    /// # Errors
    /// `Conflict`, `MaxSessions`, and whatever the storage suffers. After
    /// [`OutcomeUnknown`](StorageError::OutcomeUnknown) the records may or may not be there: read the log.
    async fn append(
        &self,
        id: SessionId,
        expected: Expected,
        batch: Batch,
        durability: Durability,
    ) -> Result<Tip, StorageError>;

    /// The session's head: the fold of all that is in its log. `None` where there is no such session.
    ///
    /// # Errors
    /// Whatever the storage suffers; `Corrupt` and `Invalid` do not come from here as long as a prefix can be read:
    /// then the head is the fold of that prefix.
    async fn head(&self, id: SessionId) -> Result<Option<Head>, StorageError>;

    /// At most `limit` records after revision `after`, ascending. An empty page is the end of the log.
    ///
    /// # Errors
    /// `NotFound`; `Corrupt` where the records that should follow are damaged.
    async fn records(
        &self,
        id: SessionId,
        after: u64,
        limit: NonZeroUsize,
    ) -> Result<RecordPage, StorageError>;

    /// At most `limit` heads that the filter lets through, with ids above `after`, ascending by id.
    ///
    /// # Errors
    /// What concerns the storage as a whole. A session that cannot be read is named in the page, and hides no other.
    async fn list(
        &self,
        filter: &SessionFilter,
        after: Option<SessionId>,
        limit: NonZeroUsize,
    ) -> Result<HeadPage, StorageError>;

    /// Removes a session whole, if its log ends with `tip`.
    ///
    /// # Errors
    /// `NotFound`, `Conflict`, and whatever the storage suffers.
    async fn delete(&self, id: SessionId, tip: Tip) -> Result<(), StorageError>;

    /// What the storage promises.
    fn profile(&self) -> StorageProfile;

    /// A way to hear of changes, where the storage has one. Without it, one polls.
    fn change_feed(&self) -> Option<std::sync::Arc<dyn ChangeFeed>>;
}
