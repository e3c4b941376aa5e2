//! `cancel`: requests the cancellation of a session, and waits for its end for a short time.

use std::time::Duration;

use sessionkit::{CancelRequest, Liveness, SessionState};

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
    let mut request = CancelRequest::new(&args.reason, super::requester());
    if args.force {
        request = request.force();
    }
    let failed = |error| Failure::from(error).about(id);
    let head = manager.get_head(id).await.map_err(failed)?;
    if !head.state().is_final() && !matches!(super::liveness(manager, id).await, Some(Liveness::Alive)) {
        super::end_leftovers(context, &store, id).await?;
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
    hints::report_crashed(context, &store, Some(id)).await?;
    Ok(0)
}
