//! The identity of a manager as an owner, and the liveness of other owners.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

use crate::error::Result;
use crate::owner::Owner;
use crate::presence::{Liveness, Presence, PresenceGuard};
use crate::storage::StorageError;

/// The identity of a manager, announced by its presence.
#[derive(Debug)]
pub(crate) struct Identity {
    presence: Arc<dyn Presence>,
    announced: OnceCell<Announced>,
}

#[derive(Debug)]
struct Announced {
    owner: Owner,
    guard: Mutex<Option<Box<dyn PresenceGuard>>>,
}

impl Identity {
    pub(crate) fn new(presence: Arc<dyn Presence>) -> Self {
        Self { presence, announced: OnceCell::new() }
    }

    pub(crate) fn presence(&self) -> &Arc<dyn Presence> {
        &self.presence
    }

    /// Returns this manager as an owner. The first call announces it, so that a manager that only reads leaves no
    /// trace.
    pub(crate) async fn me(&self) -> Result<&Owner> {
        let announced = self
            .announced
            .get_or_try_init(|| async {
                let mut owner = self.presence.identify()?;
                let guard = self.presence.announce(&mut owner).await?;
                Ok::<_, StorageError>(Announced { owner, guard: Mutex::new(Some(guard)) })
            })
            .await?;
        Ok(&announced.owner)
    }

    /// Returns this manager as an owner, if it was announced.
    pub(crate) fn announced(&self) -> Option<&Owner> {
        self.announced.get().map(|announced| &announced.owner)
    }

    /// Returns `true` if `owner` is this manager.
    pub(crate) fn is_me(&self, owner: &Owner) -> bool {
        self.announced().is_some_and(|me| me.instance == owner.instance)
    }

    /// Returns the liveness of an owner, which may be this manager.
    pub(crate) async fn liveness(&self, owner: &Owner) -> Result<Liveness> {
        if self.is_me(owner) {
            return Ok(Liveness::Alive);
        }
        Ok(self.presence.liveness(owner).await?)
    }

    /// Returns the requester recorded in logs.
    pub(crate) fn requester(&self) -> String {
        self.presence.identify().map_or_else(|_| "unknown".to_owned(), |me| me.to_string())
    }

    /// Withdraws the announcement.
    pub(crate) fn retire(&self) {
        if let Some(announced) = self.announced.get()
            && let Some(guard) = announced.guard.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            guard.retire();
        }
    }
}
