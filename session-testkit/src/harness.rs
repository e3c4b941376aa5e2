//! What a backend gives to the suite: a store to open, and what can be done to that store from outside.

use std::sync::Arc;

use async_trait::async_trait;
use session_core::{SessionId, SessionStorage, StorageError};

/// One store under test, empty at first.
///
/// Every method is required: what cannot be done to a store is declared, with the reason, and the laws that need it
/// are reported as skipped with that reason.
#[async_trait]
pub trait Harness: Send + Sync {
    /// A new handle on the store. Each is as independent of the others as those of different processes are, as far
    /// as the storage can be shared.
    ///
    /// # Errors
    /// Whatever keeps the store from being opened. The suite takes that for a violation.
    async fn open(&self) -> Result<Arc<dyn SessionStorage>, StorageError>;

    /// Ends all handles at once, without a goodbye. They are not used again, only dropped: what they held, such as
    /// kernel locks, is free when this returns, and dropping them later changes nothing.
    ///
    /// # Errors
    /// [`NotSupported`], where this cannot be done to the store.
    async fn crash(&self, crash: Crash) -> Result<(), NotSupported>;

    /// Makes the next flush of a log's records fail, once. As on real systems, what was to be flushed counts as
    /// written from then on: it can be read, another flush of the same file succeeds without storing it, and power
    /// loss takes it.
    ///
    /// # Errors
    /// [`NotSupported`], where this cannot be done to the store.
    async fn fail_next_flush(&self) -> Result<(), NotSupported>;

    /// Damages what is stored of one session, behind the storage's back. No handle is open then.
    ///
    /// # Errors
    /// [`NotSupported`], where this cannot be done to the store.
    async fn damage(&self, id: SessionId, damage: Damage) -> Result<(), NotSupported>;
}

/// The reason why something cannot be done to a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotSupported(pub &'static str);

/// How all handles end at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Crash {
    /// Every process that has the store open is killed. What it gave to the system stays.
    Kill,
    /// The power goes.
    PowerLoss(Kept),
}

/// What power loss leaves of all that was written and never flushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kept {
    /// Nothing.
    Nothing,
    /// Everything: it was on its way anyway.
    Everything,
    /// Some of it, chosen by this seed: parts of writes, in any order that the system below allows.
    Some(u64),
}

/// What happens to the stored records of one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Damage {
    /// One bit of a record's line is the other way round.
    Flip {
        /// The record.
        revision: u64,
        /// Which bit, counted from the line's first; one beyond the line's end counts on from its start again.
        bit: usize,
    },
    /// A record is missing; those behind it have moved up.
    Lose {
        /// The record.
        revision: u64,
    },
    /// A record is there twice; those behind it have moved down.
    Double {
        /// The record.
        revision: u64,
    },
    /// A record and the one behind it have changed places.
    Swap {
        /// The first of the two.
        revision: u64,
    },
    /// All records behind this one are missing.
    Cut {
        /// The last one that is left.
        after: u64,
    },
}

impl Damage {
    /// Does it to the lines of a log, wherever a backend keeps them: `bytes` gets at those of one line, without its end.
    /// What names a record that is not there does nothing.
    pub fn apply<L: Clone>(self, lines: &mut Vec<L>, bytes: impl FnOnce(&mut L) -> &mut [u8]) {
        let at = |revision: u64| usize::try_from(revision).unwrap_or(usize::MAX).saturating_sub(1);
        match self {
            Self::Flip { revision, bit } => {
                if let Some(line) = lines.get_mut(at(revision)).map(bytes) {
                    let len = line.len().max(1);
                    if let Some(byte) = line.get_mut(bit / 8 % len) {
                        *byte ^= 1 << (bit % 8);
                    }
                }
            }
            Self::Lose { revision } if at(revision) < lines.len() => drop(lines.remove(at(revision))),
            Self::Double { revision } if at(revision) < lines.len() => {
                lines.extend_from_within(at(revision)..=at(revision));
                if let Some(behind) = lines.get_mut(at(revision + 1)..) {
                    behind.rotate_right(1);
                }
            }
            Self::Swap { revision } if at(revision) + 1 < lines.len() => {
                lines.swap(at(revision), at(revision) + 1);
            }
            Self::Lose { .. } | Self::Double { .. } | Self::Swap { .. } => {}
            Self::Cut { after } => lines.truncate(at(after.saturating_add(1))),
        }
    }
}
