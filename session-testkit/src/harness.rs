//! The interface that a backend implements for the suite: opening, crashing and damaging a store.

use std::sync::Arc;

use async_trait::async_trait;
use session_core::backend::SessionStorage;
use session_core::{SessionId, StorageError};

/// A store under test, empty at first.
///
/// Every method is required. A method that the store cannot support returns [`NotSupported`] with the reason, and the
/// laws that need it are reported as skipped with that reason.
#[async_trait]
pub trait Harness: Send + Sync {
    /// Opens a new handle to the store. Handles are as independent of each other as those of different processes, as
    /// far as the storage can be shared.
    ///
    /// # Errors
    /// Any error of opening the store. The suite treats it as a violation.
    async fn open(&self) -> Result<Arc<dyn SessionStorage>, StorageError>;

    /// Ends all handles without closing them. Afterwards the suite only drops them. What they held, such as kernel
    /// locks, must be free when this returns, and dropping them later must change nothing.
    ///
    /// # Errors
    /// [`NotSupported`] if the harness cannot do this.
    async fn crash(&self, crash: Crash) -> Result<(), NotSupported>;

    /// Lets the next flush of a log's records fail, once. As on real systems, the data of the failed flush can still be
    /// read, another flush of the same file succeeds without storing it, and power loss removes it.
    ///
    /// # Errors
    /// [`NotSupported`] if the harness cannot do this.
    async fn fail_next_flush(&self) -> Result<(), NotSupported>;

    /// Damages the stored data of one session, bypassing the storage. No handle is open during the call.
    ///
    /// # Errors
    /// [`NotSupported`] if the harness cannot do this.
    async fn damage(&self, id: SessionId, damage: Damage) -> Result<(), NotSupported>;
}

/// The reason why a harness does not support an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotSupported(pub &'static str);

/// An abrupt end of all handles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Crash {
    /// Every process that has the store open is killed. Data that it has written to the operating system stays.
    Kill,
    /// Power loss.
    PowerLoss(Kept),
}

/// The part of written but unflushed data that survives power loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kept {
    /// Nothing.
    Nothing,
    /// Everything: the system had written it back.
    Everything,
    /// Some of it, chosen by this seed: parts of writes, in any order that the operating system allows.
    Some(u64),
}

/// A kind of damage to the stored records of one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Damage {
    /// One bit of a record's line is flipped.
    Flip {
        /// The record.
        revision: u64,
        /// The bit, counted from the start of the line, modulo the line's length.
        bit: usize,
    },
    /// A record is removed; those behind it move up.
    Lose {
        /// The record.
        revision: u64,
    },
    /// A record is duplicated; those behind it move down.
    Double {
        /// The record.
        revision: u64,
    },
    /// A record and the next one are swapped.
    Swap {
        /// The first of the two.
        revision: u64,
    },
    /// All records behind this one are removed.
    Cut {
        /// The last remaining record.
        after: u64,
    },
}

impl Damage {
    /// Applies the damage to the lines of a log. `bytes` returns the bytes of one line, without its line feed. Damage
    /// to a record that does not exist changes nothing.
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
