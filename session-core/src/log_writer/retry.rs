//! The limit of attempts after conflicts.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Result, SessionError};
use crate::id::SessionId;

/// The time until which a change is tried again after conflicts.
pub(super) struct Retry {
    id: SessionId,
    deadline: Instant,
}

impl Retry {
    pub(super) fn within(id: SessionId, timeout: Duration) -> Self {
        Self { id, deadline: Instant::now() + timeout }
    }

    /// # Errors
    /// `CONFLICT` once the time has passed.
    pub(super) fn check(&self) -> Result<()> {
        if Instant::now() < self.deadline { Ok(()) } else { Err(SessionError::Contended { id: self.id }) }
    }
}
