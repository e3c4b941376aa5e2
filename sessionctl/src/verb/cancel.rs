//! `cancel`: requests the cancellation of a session, or of a family of sessions, and waits for its end for a short time.

use std::collections::HashSet;
use std::time::Duration;

use sessionkit::manager::Liveness;
use sessionkit::{CancelRequest, SessionFilter, SessionId, SessionManager, SessionState, Store};

use crate::args::Cancel;
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::{hints, ids};

/// Time to wait for the end: longer than the default grace period of a program. Work of a library may take any time.
const OWNER_TIMEOUT: Duration = Duration::from_secs(8);

pub(crate) async fn run(args: &Cancel, context: &Context) -> Result<u8> {
    let store = context.open().await?;
    let manager = &**store.manager();
    let id = ids::resolve(context, manager, &args.id, ids::Purpose::Cancel).await?;
    let head = manager.get_head(id).await.map_err(|error| Failure::from(error).about(id))?;
    if head.state().is_final() && args.children {
        super::print_session(context, manager, id).await?;
    } else {
        cancel(args, context, &store, id).await?;
    }
    if args.children {
        let mut seen = HashSet::from([id]);
        // Again after each: a session may start others until it has ended.
        while let Some(child) = next_descendant(manager, id, &seen).await? {
            seen.insert(child);
            if let Err(failure) = cancel(args, context, &store, child).await {
                let head = manager.get_head(child).await;
                // It may have ended by itself in between.
                if !head.is_ok_and(|head| head.state().is_final()) {
                    return Err(failure);
                }
            }
        }
    }
    hints::report_crashed(context, &store, Some(id)).await?;
    Ok(0)
}

async fn cancel(args: &Cancel, context: &Context, store: &Store, id: SessionId) -> Result<()> {
    let manager = &**store.manager();
    let mut request = CancelRequest::new(&args.reason, super::requester());
    if args.force {
        request = request.force();
    }
    let failed = |error| Failure::from(error).about(id);
    let head = manager.get_head(id).await.map_err(failed)?;
    if !head.state().is_final() && !matches!(super::liveness(manager, id).await, Some(Liveness::Alive)) {
        super::end_leftovers(context, store, id).await?;
    }
    let requested = manager.cancel_session(id, request).await.map_err(failed)?;
    let state = match tokio::time::timeout(OWNER_TIMEOUT, manager.wait_for(id, &[])).await {
        Ok(head) => head.map_err(failed)?.lifecycle.state,
        Err(_) => requested,
    };
    match state {
        SessionState::Completed { .. } | SessionState::Failed { .. } => {
            context.hint("it ended before the request was seen", &[id], &["show", &id.to_string()]);
        }
        SessionState::Cancelled { .. } => {}
        SessionState::Created | SessionState::Running { .. } | SessionState::Paused { .. } => {
            let text = "cancellation requested, but the session has not ended yet";
            context.hint(text, &[id], &["show", &id.to_string()]);
        }
    }
    super::print_session(context, manager, id).await?;
    Ok(())
}

/// Returns an active session that was started inside a session or inside a descendant of it, without those in `seen`.
async fn next_descendant(
    manager: &dyn SessionManager,
    id: SessionId,
    seen: &HashSet<SessionId>,
) -> Result<Option<SessionId>> {
    // Ended ones too: they may have started others.
    let heads = manager.list_sessions(SessionFilter::all()).await?.heads;
    let mut family = HashSet::from([id]);
    loop {
        let before = family.len();
        family.extend(
            heads
                .iter()
                .filter(|head| head.parent.is_some_and(|parent| family.contains(&parent)))
                .map(|head| head.id)
                .collect::<Vec<_>>(),
        );
        if family.len() == before {
            break;
        }
    }
    let is_next = |head: &&sessionkit::Head| {
        family.contains(&head.id) && !seen.contains(&head.id) && !head.state().is_final()
    };
    Ok(heads.iter().find(is_next).map(|head| head.id))
}
