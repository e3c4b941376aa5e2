//! Changes of a session by its id, by whoever may make them: what is appended depends on who answers for the session.

use std::sync::Arc;

use super::engine::Engine;
use super::session::RequestHandling;
use super::takeover::{Custody, owned};
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
        elsewhere: impl Fn(&Head, &Custody) -> Result<Vec<SessionEvent>> + Send + Sync,
    ) -> Result<Head> {
        self.check_open()?;
        let cell = self.cell(id);
        let mut state = cell.state.lock().await;
        let owned = state.owned.as_ref().map(|(live, _)| Arc::clone(live));
        if let Some(live) = owned {
            let request_handling = live.request_handling();
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
                    return Ok(live.view().borrow().clone());
                }
            }
        }
        let mut writer = self.load(id).await?;
        self.commit_judged(&mut writer, elsewhere).await?;
        Ok(writer.head)
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
        let cell = self.cell(id);
        let mut state = cell.state.lock().await;
        if state.owned.is_some() {
            return self.append_owned(&mut state, id, durability, decide).await;
        }
        let mut writer = self.load(id).await?;
        self.commit(&mut writer, durability, |head| {
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
pub(crate) fn finder(head: &Head, custody: &Custody, ending: SessionEvent) -> Result<Vec<SessionEvent>> {
    match custody {
        Custody::Other { proven } => Err(owned(head, *proven)),
        Custody::Nobody | Custody::Me | Custody::Dead(_) => Ok(vec![ending]),
    }
}
