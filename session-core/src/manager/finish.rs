//! The end of a session by its owner: its last events in one batch.

use std::sync::Arc;

use super::engine::Engine;
use super::locked_session::LockedSession;
use crate::error::Result;
use crate::event::{EventKind, SessionEvent};
use crate::head::Head;
use crate::machine::{SessionState, step_refused};
use crate::storage::Durability;

/// Appends the last events of a session, the ending last, on behalf of the owner.
pub(super) async fn finish(
    engine: &Engine,
    locked: &mut LockedSession<'_>,
    last: &[SessionEvent],
) -> Result<()> {
    let me = engine.identity.me().await?.clone();
    let owned = locked.owned().map(Arc::clone);
    let needs_running = |event: &SessionEvent| {
        !matches!(
            event.kind(),
            EventKind::Noted | EventKind::CommandExecuted | EventKind::Failed | EventKind::Cancelled
        )
    };
    let decide = |head: &Head| {
        let resumed = SessionEvent::Resumed { owner: me.clone() };
        let refusal = owned.as_ref().and_then(|owned| owned.unrecorded_refusal(head));
        // Work that continued after a step was refused has not done everything.
        let fails = head.lifecycle.step_refused || refusal.is_some();
        let ending = |event: &SessionEvent| {
            let is_refused = fails && event.kind() == EventKind::Completed;
            if is_refused { SessionEvent::Failed { error: step_refused() } } else { event.clone() }
        };
        let last: Vec<SessionEvent> = last.iter().map(ending).collect();
        let resumed = (is_paused(head) && last.iter().any(needs_running)).then_some(resumed);
        Ok(resumed.into_iter().chain(refusal).chain(last).collect())
    };
    locked.append_as_owner(Durability::Flushed, decide).await?;
    Ok(())
}

pub(super) const fn is_paused(head: &Head) -> bool {
    matches!(head.lifecycle.state, SessionState::Paused { .. })
}
