//! The port for who is alive. Liveness is evidence, never age.

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

/// Whether an owner lives.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Liveness {
    /// It lives: running, slow, stopped or asleep.
    Alive,
    /// It is dead.
    Dead {
        /// How that is known.
        evidence: Evidence,
    },
    /// It cannot be known from here.
    Unknown {
        /// When it was last known to live, where anything says so.
        last_seen: Option<Timestamp>,
    },
}

/// What an owner holds for as long as it wants to be known as alive.
pub trait PresenceGuard: Send + Sync + std::fmt::Debug {
    /// Ends the announcement for good and takes its traces away: nothing unended names this owner any more. A guard
    /// that is only dropped leaves what others need to prove the death.
    fn retire(self: Box<Self>);
}

/// Who is alive.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Presence: Send + Sync + std::fmt::Debug {
    /// The facts of this process under a new instance, not yet announced.
    ///
    /// # Errors
    /// Where the system does not tell them.
    fn identify(&self) -> Result<Owner, StorageError>;

    /// Makes an owner of this process known as alive, until the guard goes or the process dies.
    ///
    /// # Errors
    /// Where that cannot be made known.
    async fn announce(&self, owner: &Owner) -> Result<Box<dyn PresenceGuard>, StorageError>;

    /// Whether an owner lives.
    ///
    /// # Errors
    /// Where looking failed; that an answer cannot be known is [`Liveness::Unknown`], no error.
    async fn liveness(&self, owner: &Owner) -> Result<Liveness, StorageError>;

    /// Takes away what dead owners left behind, those aside that `keep` says are still named by a session.
    ///
    /// # Errors
    /// Where looking failed.
    async fn sweep(
        &self,
        keep: &std::collections::HashSet<crate::id::InstanceId>,
    ) -> Result<(), StorageError>;
}
