//! The owner of a session as seen by this manager, and decisions that depend on it.

use super::identity::Identity;
use crate::error::{Result, SessionError};
use crate::event::SessionEvent;
use crate::head::Head;
use crate::log_writer::Decide;
use crate::owner::{Evidence, Owner};
use crate::presence::{Liveness, this_process};

/// The owner of a session, as seen by this manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OwnerStatus {
    /// No owner: the process that requests something also carries it out.
    Unowned,
    /// This manager.
    Mine,
    /// An owner that is dead. After an `interrupted`, the session is treated as unowned.
    Orphaned(Evidence),
    /// Another owner that is alive, or may be.
    Foreign {
        /// `true` if the owner is known to be alive.
        proven: bool,
    },
}

impl OwnerStatus {
    /// Checks that the session has no owner that is alive, or may be.
    ///
    /// # Errors
    /// `CONFLICT` with that owner.
    pub(crate) fn check_unowned(&self, head: &Head) -> Result<()> {
        match self {
            Self::Foreign { proven } => Err(owned_error(head, *proven)),
            Self::Unowned | Self::Mine | Self::Orphaned(_) => Ok(()),
        }
    }
}

/// Determines the owner of a session. The result may be stale; the append that follows names the tip and so detects
/// that.
pub(crate) async fn owner_status(identity: &Identity, head: &Head) -> Result<OwnerStatus> {
    let Some(owner) = &head.lifecycle.owner else { return Ok(OwnerStatus::Unowned) };
    if identity.is_me(owner) {
        return Ok(OwnerStatus::Mine);
    }
    Ok(match identity.liveness(owner).await? {
        Liveness::Dead { evidence } => OwnerStatus::Orphaned(evidence),
        Liveness::Alive => OwnerStatus::Foreign { proven: true },
        Liveness::Unknown { .. } => OwnerStatus::Foreign { proven: false },
    })
}

/// A decision for a session that this manager does not own. It depends on the owner, which is determined again for
/// each head.
pub(crate) struct AsClaimant<'a, F> {
    pub(crate) identity: &'a Identity,
    pub(crate) decide: F,
}

impl<F> Decide for AsClaimant<'_, F>
where
    F: FnMut(&Head, &OwnerStatus) -> Result<Vec<SessionEvent>> + Send,
{
    async fn decide(&mut self, head: &Head) -> Result<Option<Vec<SessionEvent>>> {
        let owner_status = match owner_status(self.identity, head).await? {
            // The log names this manager as the owner, but it holds no such session: the call that acquired it was
            // dropped.
            OwnerStatus::Mine => OwnerStatus::Orphaned(Evidence::Dropped),
            status @ (OwnerStatus::Unowned | OwnerStatus::Orphaned(_) | OwnerStatus::Foreign { .. }) => {
                status
            }
        };
        let mut events = (self.decide)(head, &owner_status)?;
        if let OwnerStatus::Orphaned(evidence) = owner_status
            && !events.is_empty()
        {
            let at = events.iter().position(|event| !is_request(event)).unwrap_or(events.len());
            events.insert(at, SessionEvent::Interrupted { evidence });
        }
        Ok(Some(events))
    }
}

/// Returns `true` for a request. Requests go before the `interrupted` of a dead owner, all other events after it.
const fn is_request(event: &SessionEvent) -> bool {
    matches!(
        event,
        SessionEvent::CancelRequested { .. }
            | SessionEvent::PauseRequested { .. }
            | SessionEvent::ResumeRequested { .. }
            | SessionEvent::InputProvided { .. }
    )
}

/// Creates the error for a session whose owner is alive, or may be.
pub(crate) fn owned_error(head: &Head, proven: bool) -> SessionError {
    let id = head.id;
    match &head.lifecycle.owner {
        Some(owner) if proven && is_this_process(owner) => SessionError::OwnedHere { id },
        Some(owner) => SessionError::Owned { id, owner: Box::new(owner.clone()), proven },
        None => SessionError::Contended { id },
    }
}

/// Returns `true` for an owner in this process: this manager, or another one.
fn is_this_process(owner: &Owner) -> bool {
    let same_start = |me: Owner| {
        (me.start_time, &me.boot, me.pid_namespace) == (owner.start_time, &owner.boot, owner.pid_namespace)
    };
    // Owners that only this process can know have no start time.
    owner.pid == std::process::id() && (owner.start_time == 0 || this_process().is_ok_and(same_start))
}
