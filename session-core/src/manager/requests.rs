//! Changes to a session by its id: the appended events depend on the owner of the session.

use std::sync::Arc;

use super::engine::Engine;
use super::ownership::{OwnerStatus, owned_error};
use super::session::RequestHandling;
use crate::error::{Result, SessionError};
use crate::event::{Role, SessionEvent};
use crate::head::Head;
use crate::id::SessionId;
use crate::machine::StateName;
use crate::record::Tip;
use crate::storage::Durability;

impl Engine {
    /// Appends to a session, whichever process owns it: `here` decides if this manager owns it, else `elsewhere`, which
    /// receives the owner.
    pub(crate) async fn change(
        &self,
        id: SessionId,
        here: impl Fn(&Head, RequestHandling) -> Result<Vec<SessionEvent>> + Send + Sync,
        elsewhere: impl Fn(&Head, &OwnerStatus) -> Result<Vec<SessionEvent>> + Send + Sync,
    ) -> Result<Head> {
        self.check_open()?;
        let entry = self.entry(id);
        let mut state = entry.state.lock().await;
        let owned = state.owned.as_ref().map(|(owned, _)| Arc::clone(owned));
        if let Some(owned) = owned {
            let request_handling = owned.request_handling();
            let mut before = None;
            let result = self
                .append_owned(&mut state, id, Durability::Flushed, |head| {
                    before = Some(head.clone());
                    here(head, request_handling)
                })
                .await;
            match result {
                // Another process ended the session in the meantime: continue as for a session that is not ours.
                Err(SessionError::Fenced { .. }) if state.owned.is_none() => {}
                result => {
                    result?;
                    return Ok(owned.view().borrow().clone());
                }
            }
        }
        let mut tail = self.load(id).await?;
        self.commit_as_claimant(&mut tail, elsewhere).await?;
        Ok(tail.head)
    }

    /// Appends events that only the owner may append. If this manager does not own the session, fails with the error of
    /// the state machine if the state does not allow the events for any process, else with `FENCED`.
    pub(crate) async fn as_owner(
        &self,
        id: SessionId,
        durability: Durability,
        decide: impl Fn(&Head) -> Result<Vec<SessionEvent>> + Send + Sync,
    ) -> Result<Tip> {
        self.check_open()?;
        let entry = self.entry(id);
        let mut state = entry.state.lock().await;
        if state.owned.is_some() {
            return self.append_owned(&mut state, id, durability, decide).await;
        }
        let mut tail = self.load(id).await?;
        self.commit(&mut tail, durability, |head| {
            let events = decide(head)?;
            let claimant_may_append = |event: &SessionEvent| event.kind().role() == Role::OwnerOrClaimant;
            match (&head.lifecycle.owner, head.state().name()) {
                (Some(owner), _) => Err(SessionError::Fenced { id, what: format!("{owner} owns it") }),
                (None, StateName::Paused) if !events.iter().all(claimant_may_append) => {
                    Err(SessionError::Fenced { id, what: "no process owns it: resume it first".to_owned() })
                }
                (None, _) => Ok(events),
            }
        })
        .await
    }
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
