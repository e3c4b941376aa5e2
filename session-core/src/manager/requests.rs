//! Changes of a session by its id, by whoever may make them: what is appended depends on who answers for the session.

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
    /// Appends to a session, wherever it is owned: `here` decides for one that runs in this manager, `elsewhere` for any
    /// other, knowing who answers for it.
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
                // The session ended from elsewhere while this was decided: it is judged like any other.
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

    /// Appends what only the owner can. Where the session is not owned here, the machine's own refusal is given for a
    /// state that refuses it to everybody, else `FENCED`.
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
            let theirs = |event: &SessionEvent| event.kind().role() == Role::OwnerOrClaimant;
            match (&head.lifecycle.owner, head.state().name()) {
                (Some(owner), _) => Err(SessionError::Fenced { id, what: format!("{owner} runs it") }),
                (None, StateName::Paused) if !events.iter().all(theirs) => {
                    Err(SessionError::Fenced { id, what: "nobody runs it: resume it first".to_owned() })
                }
                (None, _) => Ok(events),
            }
        })
        .await
    }
}

/// What ends a session: by its owner, or by whoever finds it unowned.
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
