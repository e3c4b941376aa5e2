//! Changes to a session by its id: the appended events depend on the owner of the session.

use std::sync::Arc;

use super::engine::Engine;
use super::locked_session::LockedSession;
use super::ownership::{OwnerStatus, owned_error};
use super::request_handling::RequestHandling;
use crate::error::{Result, SessionError};
use crate::event::{Role, SessionEvent};
use crate::head::Head;
use crate::id::SessionId;
use crate::machine::StateName;
use crate::record::Tip;
use crate::storage::Durability;

/// Appends to a session, whichever process owns it: `here` decides if this manager owns it, else `elsewhere`, which
/// receives the owner.
pub(crate) async fn change(
    engine: &Engine,
    id: SessionId,
    here: impl Fn(&Head, RequestHandling) -> Result<Vec<SessionEvent>> + Send + Sync,
    elsewhere: impl Fn(&Head, &OwnerStatus) -> Result<Vec<SessionEvent>> + Send + Sync,
) -> Result<Head> {
    engine.check_open()?;
    let mut session = LockedSession::lock(engine, id).await;
    if let Some(owned) = session.owned().map(Arc::clone) {
        let request_handling = owned.request_handling();
        let result = session.append_as_owner(Durability::Flushed, |head| here(head, request_handling)).await;
        match result {
            // Another process took the session in the meantime: continue as for a session that is not ours.
            Err(SessionError::Fenced { .. }) if session.owned().is_none() => {}
            result => {
                result?;
                return Ok(owned.view().borrow().clone());
            }
        }
    }
    Ok(session.append_as_claimant(elsewhere).await?.head)
}

/// Appends events that only the owner may append to a session that this manager does not own: fails with the error of
/// the state machine if the state does not allow the events for any process, else with `FENCED`. A note in an unowned
/// session is allowed.
pub(crate) async fn append_unowned(
    session: &mut LockedSession<'_>,
    durability: Durability,
    events: &[SessionEvent],
) -> Result<Tip> {
    let decide = |head: &Head| {
        let id = head.id;
        let claimant_may_append = |event: &SessionEvent| event.kind().role() == Role::OwnerOrClaimant;
        match (&head.lifecycle.owner, head.state().name()) {
            (Some(owner), _) => Err(SessionError::Fenced { id, what: format!("{owner} owns it") }),
            (None, StateName::Paused) if !events.iter().all(claimant_may_append) => {
                Err(SessionError::Fenced { id, what: "no process owns it: resume it first".to_owned() })
            }
            (None, _) => Ok(events.to_vec()),
        }
    };
    Ok(session.append(durability, decide).await?.head.tip)
}

/// Returns the event that ends a session, if the session is unowned or its owner is dead.
pub(crate) fn end_if_unowned(
    head: &Head,
    owner_status: &OwnerStatus,
    ending: SessionEvent,
) -> Result<Vec<SessionEvent>> {
    match owner_status {
        OwnerStatus::Foreign { proven } => Err(owned_error(head, *proven)),
        OwnerStatus::Unowned | OwnerStatus::Mine | OwnerStatus::Orphaned(_) => Ok(vec![ending]),
    }
}
