//! The port beside the logs: how what is stored is, and mending it. For `verify` and `recover`, not for daily work.

use std::fmt;
use std::path::PathBuf;

use async_trait::async_trait;

use super::{SessionStorage, StorageError};
use crate::id::{InstanceId, SessionId};
use crate::owner::Owner;
use crate::record::Tip;

/// A storage on this machine that outlives its processes: what it can tell and do about its own health, and the folders
/// that belong to it.
///
/// A session is judged alike everywhere: by the chain of its sums, by what is known to have been flushed, and by the
/// rules of the machine. What [`verify`](Self::verify) says is what the other verbs of the storage act on.
#[async_trait]
pub trait StorageMaintenance: SessionStorage {
    /// How what is stored of a session is. Changes nothing.
    ///
    /// # Errors
    /// `NotFound`, and whatever keeps one from looking; damage is in the answer.
    async fn verify(&self, id: SessionId) -> Result<SessionHealth, StorageError>;

    /// How all of it is. Changes nothing.
    ///
    /// # Errors
    /// What concerns the store as a whole.
    async fn verify_all(&self) -> Result<StoreHealth, StorageError>;

    /// Mends a session, and acknowledges what it lost earlier. What is cut is kept apart.
    ///
    /// A loss that was accepted stays marked, so that [`verify`](Self::verify) says `degraded`, until another call
    /// acknowledges it: the caller first notes it in the log.
    ///
    /// # Errors
    /// `Corrupt` where flushed records are gone and `acceptance` does not cover that; `Unavailable` where it does
    /// and an owner is not among the dead; `Invalid` and `UnsupportedFormat`, for which there is no repair.
    async fn repair(&self, id: SessionId, acceptance: AcceptedLoss) -> Result<RepairReport, StorageError>;

    /// Mends what crashes left, and rebuilds caches. Writes nothing to a healthy store. One bad session does not keep the
    /// others from it.
    ///
    /// # Errors
    /// What concerns the store as a whole.
    async fn reconcile(&self) -> Result<ReconcileReport, StorageError>;

    /// The folder for the lock files of owners. Made by whoever needs it first.
    fn owners_dir(&self) -> PathBuf;

    /// The folder of folders, each named by the id of its session, for what belongs to sessions beside their logs, such as
    /// the `output` of their programs. A session's folder goes when the session is deleted.
    fn sessions_dir(&self) -> PathBuf;
}

/// What a session's files show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Condition {
    /// Everything that was written is there.
    Healthy,
    /// A crash cut the last write short. Nothing acknowledged as flushed is gone; the next append mends it.
    Torn,
    /// Records are gone that were acknowledged, but never as flushed. It may be written.
    Degraded,
    /// Records are gone that were acknowledged as flushed. It is read-only until that is accepted.
    Corrupt,
    /// All sums hold and a rule of the machine is broken. It is read-only.
    Invalid,
    /// A newer version wrote it. It is read-only.
    Unsupported,
}

impl Condition {
    /// The word for it, lower case.
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

/// What a look at one session shows.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SessionHealth {
    /// The session.
    pub id: SessionId,
    /// What follows from the rest. A session whose loss nobody has acknowledged yet is degraded, its log may be whole.
    pub condition: Condition,
    /// The last record that can be read; `None` if not even the first one can.
    pub tip: Option<Tip>,
    /// The highest revision that is known to have been flushed.
    pub flushed: u64,
    /// The highest revision that is known to have been there since the machine was started.
    pub seen: u64,
    /// Bytes of the log behind the last record that can be read.
    pub behind: u64,
    /// A flush began and is not known to have ended well: the next append makes the log anew.
    pub untrusted: bool,
    /// Why it can not be written, or not be read to its end.
    pub problem: Option<StorageError>,
    /// Whoever owns the session, as far as its files say. More than one where they contradict each other.
    pub owners: Vec<Owner>,
    /// Losses that nobody has acknowledged yet: what was cut from the log, one file each.
    pub losses: Vec<PathBuf>,
}

impl SessionHealth {
    /// A session of which nothing more is known than this.
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

    /// How many records can be read.
    #[must_use]
    pub fn readable(&self) -> u64 {
        self.tip.map_or(0, |tip| tip.revision)
    }
}

/// What a look at a whole store shows.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct StoreHealth {
    /// The sessions, ascending by id.
    pub sessions: Vec<SessionHealth>,
    /// Sessions that could not be looked at.
    pub failed: Vec<(SessionId, StorageError)>,
    /// What is wrong with the store as a whole, beside its sessions: a sentence each.
    pub problems: Vec<String>,
    /// Names among the sessions that are none.
    pub foreign: Vec<String>,
    /// Unended sessions without a marker: lists of active sessions do not show them until the store is recovered.
    pub unmarked: Vec<SessionId>,
}

/// What may be given up to make a session writable again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AcceptedLoss {
    /// Nothing that was acknowledged as flushed.
    #[default]
    None,
    /// Whatever is lost. The session's owners must be proven dead by the caller.
    Of {
        /// The owners that are.
        dead: Vec<InstanceId>,
    },
}

/// What mending a session did.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RepairReport {
    /// What was found.
    pub before: Condition,
    /// The end of the log now; `None` if nothing could be read and the session was put away whole.
    pub tip: Option<Tip>,
    /// What was given up.
    pub loss: Option<Loss>,
    /// How many earlier losses were acknowledged.
    pub acknowledged: usize,
}

impl RepairReport {
    /// A repair that gave nothing up.
    #[must_use]
    pub const fn new(before: Condition, tip: Option<Tip>) -> Self {
        Self { before, tip, loss: None, acknowledged: 0 }
    }

    /// It gave this up.
    #[must_use]
    pub fn loss(mut self, loss: Loss) -> Self {
        self.loss = Some(loss);
        self
    }

    /// It acknowledged so many earlier losses.
    #[must_use]
    pub const fn acknowledged(mut self, losses: usize) -> Self {
        self.acknowledged = losses;
        self
    }
}

/// Records that were acknowledged as flushed and are gone. Who repairs a session notes that in its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// The last record that is left.
    pub readable: u64,
    /// The last one that was known to be flushed.
    pub flushed: u64,
    /// What was there instead, in bytes.
    pub bytes: u64,
    /// Whether the log as it is now has an owner, who is dead.
    pub owned: bool,
    /// Where what was cut is kept.
    pub kept: PathBuf,
}

/// What recovering a store did.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct ReconcileReport {
    /// Unended sessions that were mended, with what was found.
    pub repaired: Vec<(SessionId, Condition)>,
    /// Unended sessions that could not be, with the reason.
    pub failed: Vec<(SessionId, StorageError)>,
    /// Markers that were missing.
    pub marked: Vec<SessionId>,
    /// Markers that stood for no unended session.
    pub unmarked: Vec<SessionId>,
}
