//! The presence port: detects which owners are alive. Liveness rests on evidence, never on age.

mod local;
mod lock_dir;
mod lock_root;
mod process;
mod session_lock;
mod system;

#[cfg(test)]
mod tests;

use async_trait::async_trait;

pub use self::local::LocalPresence;
pub use self::process::ProcessPresence;
pub use self::session_lock::{HeldSessionLock, SessionLock};
pub use self::system::{FileSystem, file_system, this_process};

use crate::owner::{Evidence, Owner};
use crate::storage::StorageError;
use crate::time::Timestamp;

/// The liveness of an owner.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Liveness {
    /// Alive: running, slow, stopped or asleep.
    Alive,
    /// Dead.
    Dead {
        /// The evidence.
        evidence: Evidence,
    },
    /// Not known to this process.
    Unknown {
        /// The time at which the owner was last known to be alive, if there is a trace of it.
        last_seen: Option<Timestamp>,
    },
}

/// The announcement of an owner. Other processes see the owner as alive while it is held.
pub trait PresenceGuard: Send + Sync + std::fmt::Debug {
    /// Withdraws the announcement and removes its traces, once no active session names this owner any more. A guard
    /// that is only dropped leaves the traces that other processes need to prove the death.
    fn retire(self: Box<Self>);
}

/// Liveness detection for owners.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Presence: Send + Sync + std::fmt::Debug {
    /// Returns the identity of this process under a new instance id, not yet announced.
    ///
    /// # Errors
    /// If the system does not provide it.
    fn identify(&self) -> Result<Owner, StorageError>;

    /// Announces an owner of this process as alive until the guard is dropped or the process dies. Adds to `owner` what
    /// identifies the place of the announcement: logs record the owner as it is afterwards.
    ///
    /// # Errors
    /// If the announcement fails.
    async fn announce(&self, owner: &mut Owner) -> Result<Box<dyn PresenceGuard>, StorageError>;

    /// Returns the liveness of an owner.
    ///
    /// # Errors
    /// If the check fails. An undecidable liveness is [`Liveness::Unknown`], not an error.
    async fn liveness(&self, owner: &Owner) -> Result<Liveness, StorageError>;

    /// Removes the traces of dead owners, except those in `keep`, which sessions still name.
    ///
    /// # Errors
    /// If a trace cannot be read or removed.
    async fn sweep(
        &self,
        keep: &std::collections::HashSet<crate::id::InstanceId>,
    ) -> Result<(), StorageError>;
}
