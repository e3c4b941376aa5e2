//! `cancel`: asks for the end of a session, and waits a while for it.

use std::time::Duration;

use sessionkit::{CancelRequest, Liveness, SessionState};

use crate::args::Cancel;
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::{hints, ids};

/// Longer than a program is given to end by itself; work of a library may take any time.
const OWNER_TIMEOUT: Duration = Duration::from_secs(8);

pub(crate) async fn run(args: &Cancel, context: &Context) -> Result<u8> {
    let store = context.open().await?;
    let manager = &**store.manager();
    let id = ids::resolve(manager, &args.id).await?;
    let mut request = CancelRequest::new(&args.reason, super::by());
    if args.force {
        request = request.force();
    }
    let failed = |error| Failure::from(error).about(id);
    let head = manager.get_head(id).await.map_err(failed)?;
    if !head.state().is_final() && !matches!(super::liveness(manager, id).await, Some(Liveness::Alive)) {
        super::end_leftovers(context, &store, id).await?;
    }
    let asked = manager.cancel_session(id, request).await.map_err(failed)?;
    let state = match tokio::time::timeout(OWNER_TIMEOUT, manager.wait_for(id, &[])).await {
        Ok(head) => head.map_err(failed)?.lifecycle.state,
        Err(_) => asked,
    };
    match state {
        SessionState::Completed { .. } | SessionState::Failed { .. } => {
            context.hint("it ended by itself before the request was seen", &[id], &["show", &id.to_string()]);
        }
        SessionState::Cancelled { .. } => {}
        SessionState::Created | SessionState::Running { .. } | SessionState::Paused { .. } => {
            context.hint("it was asked to end and has not answered yet", &[id], &["show", &id.to_string()]);
        }
    }
    super::print_session(context, manager, id).await?;
    hints::report_crashed(context, manager, Some(id)).await?;
    Ok(0)
}
