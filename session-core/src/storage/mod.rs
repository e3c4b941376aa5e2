//! The storage port: a conditional append, a conditional delete and three reads. A contract for implementers;
//! conveniences for users are in `ext`.

mod batch;
mod error;
mod ext;
pub(crate) mod load;
mod maintenance;
mod memory;
pub(crate) mod spool;
mod types;
mod watch;

use std::num::NonZeroUsize;

use async_trait::async_trait;

pub use self::batch::{Batch, BatchRecords};
pub use self::ext::{Heads, LogPages, SessionStorageExt};
pub use self::maintenance::{
    AcceptedLoss, Condition, Loss, ReconcileReport, RepairReport, SessionHealth, StorageMaintenance,
    StoreHealth,
};
pub use self::types::{
    ChangeFeed, Durability, Expected, HeadPage, ListOrder, PAGE_BYTES, PageRoom, RecordPage, SessionFilter,
    Sharing, StorageProfile,
};
pub use self::{error::StorageError, memory::MemoryStorage, watch::Watch};

use crate::head::Head;
use crate::id::SessionId;
use crate::record::Tip;

/// Page size of the functions that read a whole log or list.
pub(crate) const PAGE: NonZeroUsize = NonZeroUsize::new(256).expect("256 is not 0");

/// Storage of session logs. Every write names the end of the log that it expects.
///
/// # Laws
/// 1. A batch is appended in order, together with its head. After a crash, a prefix of an unacknowledged batch may be
///    stored; never a batch with a gap, never another order.
/// 2. `append` succeeds only if `expected` names what is stored, by revision and sum. Otherwise it returns
///    [`Conflict`](StorageError::Conflict) and changes nothing. An append within a limit succeeds only if fewer other
///    sessions hold a place, and no two appends get the same one; otherwise it returns
///    [`MaxSessions`](StorageError::MaxSessions) and changes nothing.
/// 3. After `Ok`, every later read by any process sees the records. `Flushed` survives power loss, `Buffered` the
///    death of the process, as far as [`profile`](Self::profile) promises.
/// 4. A dropped future leaves a state that law 1 allows.
/// 5. Records are returned byte-identical and in order, without gaps or repeats. A list contains each session that
///    existed throughout exactly once.
/// 6. A failed flush is never retried on the same file. Until the log has been rebuilt from what is known to be good,
///    no process acknowledges anything on top of it.
/// 7. Damage is never silent: acknowledged records are returned, or the error reports that they are gone.
/// 8. Damage to one session does not affect another.
///
/// Each law is a test in `session-testkit`; a backend runs all of them with one line.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait SessionStorage: Send + Sync + std::fmt::Debug {
    /// Appends all records of the batch, or none, if the log ends at `expected`. Returns the new tip.
    ///
    /// With [`Durability::Flushed`], the whole log survives power loss once this returns, including records that were
    /// appended earlier as buffered or by other processes. An empty batch with `Flushed` only flushes.
    ///
    /// # Errors
    /// `Conflict`, `MaxSessions`, and failures of the backend. After [`OutcomeUnknown`](StorageError::OutcomeUnknown)
    /// the records may or may not be stored: read the log.
    async fn append(
        &self,
        id: SessionId,
        expected: Expected,
        batch: Batch,
        durability: Durability,
    ) -> Result<Tip, StorageError>;

    /// Returns the head of a session: the fold of its whole log. `None` if the session does not exist.
    ///
    /// # Errors
    /// Failures of the backend. Of a damaged log, the head is the fold of the readable prefix; `Corrupt` and `Invalid`
    /// are returned only if no prefix can be read.
    async fn head(&self, id: SessionId) -> Result<Option<Head>, StorageError>;

    /// Returns up to `limit` records after revision `after`, ascending. A page ends early with the record that
    /// brings its lines to [`PAGE_BYTES`]. An empty page means the end of the log.
    ///
    /// # Errors
    /// `NotFound`; `Corrupt` if the records that follow are damaged.
    async fn records(
        &self,
        id: SessionId,
        after: u64,
        limit: NonZeroUsize,
    ) -> Result<RecordPage, StorageError>;

    /// Returns up to `limit` heads that match the filter and have an id above `after`, ascending by id.
    ///
    /// # Errors
    /// Failures of the storage as a whole. A session that cannot be read is named in the page and hides no other.
    async fn list(
        &self,
        filter: &SessionFilter,
        after: Option<SessionId>,
        limit: NonZeroUsize,
    ) -> Result<HeadPage, StorageError>;

    /// Deletes a session with its log, if the log ends at `tip`.
    ///
    /// # Errors
    /// `NotFound`, `Conflict`, and failures of the backend.
    async fn delete(&self, id: SessionId, tip: Tip) -> Result<(), StorageError>;

    /// Returns the guarantees of this storage.
    fn profile(&self) -> StorageProfile;

    /// Returns the backend's change notifications. Callers poll if this is `None`.
    fn change_feed(&self) -> Option<std::sync::Arc<dyn ChangeFeed>>;
}
