//! The maintenance port: checking and repairing stored data. For the verbs `verify` and `recover`, not for daily work.

use std::fmt;
use std::path::PathBuf;

use async_trait::async_trait;

use super::{SessionStorage, StorageError};
use crate::id::{InstanceId, SessionId};
use crate::owner::Owner;
use crate::record::Tip;

/// Maintenance of a persistent storage on this machine: health checks, repair, and the folders that belong to it.
///
/// Every backend classifies a session by the same criteria: the chain of its sums, the tip that is known to have been
/// flushed, and the rules of the state machine. The other methods act on the condition that [`verify`](Self::verify)
/// reports.
#[async_trait]
pub trait StorageMaintenance: SessionStorage {
    /// Checks the stored data of one session. Read-only.
    ///
    /// # Errors
    /// `NotFound`, and failures to read. Damage is part of the result, not an error.
    async fn verify(&self, id: SessionId) -> Result<SessionHealth, StorageError>;

    /// Checks the whole store. Read-only.
    ///
    /// # Errors
    /// Failures of the store as a whole.
    async fn verify_all(&self) -> Result<StoreHealth, StorageError>;

    /// Repairs a session, and acknowledges its earlier losses. Bytes that are cut off are kept in a separate file.
    ///
    /// An accepted loss stays marked, so that [`verify`](Self::verify) reports `degraded`, until a later call
    /// acknowledges it. Callers note the loss in the log before that call.
    ///
    /// # Errors
    /// `Corrupt` if flushed records are gone and `acceptance` does not cover that; `Unavailable` if it does but an
    /// owner is not listed as dead; `Invalid` and `UnsupportedFormat`, which cannot be repaired.
    async fn repair(&self, id: SessionId, acceptance: AcceptedLoss) -> Result<RepairReport, StorageError>;

    /// Repairs leftovers of crashes, and rebuilds caches. Writes nothing to a healthy store. A session that cannot be
    /// repaired does not block the others.
    ///
    /// # Errors
    /// Failures of the store as a whole.
    async fn reconcile(&self) -> Result<ReconcileReport, StorageError>;

    /// Returns the folder for the lock files of owners. The first process that needs it creates it.
    fn owners_dir(&self) -> PathBuf;

    /// Returns the folder with one subfolder per session, named by its id, for data next to the log, such as the
    /// `output` of its program. Deleting a session deletes its subfolder.
    fn sessions_dir(&self) -> PathBuf;
}

/// The condition of a session's stored data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Condition {
    /// Everything that was written is stored.
    Healthy,
    /// A crash cut the last write short. No record acknowledged as flushed is gone; the next append repairs the log.
    Torn,
    /// Records that were acknowledged, but never as flushed, are gone. The session is writable.
    Degraded,
    /// Records that were acknowledged as flushed are gone. The session is read-only until the loss is accepted.
    Corrupt,
    /// All sums are valid, but the log violates a rule of the state machine. The session is read-only.
    Invalid,
    /// A newer version wrote the session. It is read-only.
    Unsupported,
}

impl Condition {
    /// Returns the name, lower case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Torn => "torn",
            Self::Degraded => "degraded",
            Self::Corrupt => "corrupt",
            Self::Invalid => "invalid",
            Self::Unsupported => "unsupported",
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The result of checking one session.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SessionHealth {
    /// The session.
    pub id: SessionId,
    /// The condition that follows from the other fields. A session with an unacknowledged loss is degraded, even if its
    /// log is intact.
    pub condition: Condition,
    /// The last readable record; `None` if there is none.
    pub tip: Option<Tip>,
    /// The highest revision that is known to have been flushed.
    pub flushed: u64,
    /// The highest revision that is known to have been stored since the machine started.
    pub seen: u64,
    /// Bytes of the log after the last readable record.
    pub behind: u64,
    /// `true` if a flush began and is not known to have succeeded: the next append rebuilds the log.
    pub untrusted: bool,
    /// The reason why the session is not writable, or not readable to its end.
    pub problem: Option<StorageError>,
    /// The session's owner according to its files; several if they contradict each other.
    pub owners: Vec<Owner>,
    /// Losses that have not been acknowledged yet: one file for each part that was cut off the log.
    pub losses: Vec<PathBuf>,
}

impl SessionHealth {
    /// Creates a result with this condition and nothing else known.
    #[must_use]
    pub const fn new(id: SessionId, condition: Condition) -> Self {
        Self {
            id,
            condition,
            tip: None,
            flushed: 0,
            seen: 0,
            behind: 0,
            untrusted: false,
            problem: None,
            owners: Vec::new(),
            losses: Vec::new(),
        }
    }

    /// Returns the number of readable records.
    #[must_use]
    pub fn readable(&self) -> u64 {
        self.tip.map_or(0, |tip| tip.revision)
    }
}

/// The result of checking a whole store.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct StoreHealth {
    /// The sessions, ascending by id.
    pub sessions: Vec<SessionHealth>,
    /// Sessions that could not be checked.
    pub failed: Vec<(SessionId, StorageError)>,
    /// Problems of the store itself, apart from its sessions: one sentence each.
    pub problems: Vec<String>,
    /// Names of entries among the sessions that are not sessions.
    pub foreign: Vec<String>,
    /// Active sessions without a marker: lists of active sessions omit them until the store is reconciled.
    pub unmarked: Vec<SessionId>,
}

/// The loss that a repair may accept to make a session writable again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AcceptedLoss {
    /// No loss of records that were acknowledged as flushed.
    #[default]
    None,
    /// Any loss. The caller must have proven that the session's owners are dead.
    Of {
        /// The owners that are proven dead.
        dead: Vec<InstanceId>,
    },
}

/// The result of repairing a session.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RepairReport {
    /// The condition before the repair.
    pub before: Condition,
    /// The end of the log now; `None` if no record was readable and the whole session was quarantined.
    pub tip: Option<Tip>,
    /// The loss that was accepted.
    pub loss: Option<Loss>,
    /// The number of earlier losses that were acknowledged.
    pub acknowledged: usize,
}

impl RepairReport {
    /// Creates a report of a repair without loss.
    #[must_use]
    pub const fn new(before: Condition, tip: Option<Tip>) -> Self {
        Self { before, tip, loss: None, acknowledged: 0 }
    }

    /// Sets the loss that was accepted.
    #[must_use]
    pub fn loss(mut self, loss: Loss) -> Self {
        self.loss = Some(loss);
        self
    }

    /// Sets the number of earlier losses that were acknowledged.
    #[must_use]
    pub const fn acknowledged(mut self, losses: usize) -> Self {
        self.acknowledged = losses;
        self
    }
}

/// Records that were acknowledged as flushed and are gone. The caller of the repair notes the loss in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// The last revision that is left.
    pub readable: u64,
    /// The last revision that was known to be flushed.
    pub flushed: u64,
    /// The size of the data found in place of the lost records, in bytes.
    pub bytes: u64,
    /// `true` if the remaining log names an owner, which is dead.
    pub owned: bool,
    /// The file that keeps the data that was cut off.
    pub kept: PathBuf,
}

/// The result of reconciling a store.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct ReconcileReport {
    /// Repairs of the store itself, apart from its sessions: one sentence each.
    pub store: Vec<String>,
    /// Active sessions that were repaired, each with its condition before.
    pub repaired: Vec<(SessionId, Condition)>,
    /// Active sessions that could not be repaired, each with the reason.
    pub failed: Vec<(SessionId, StorageError)>,
    /// Sessions whose missing marker was created.
    pub marked: Vec<SessionId>,
    /// Sessions whose marker was removed because they are not active.
    pub unmarked: Vec<SessionId>,
}
