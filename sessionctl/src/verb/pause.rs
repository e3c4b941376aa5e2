//! `pause`: requests a pause, and waits until the session is paused.

use sessionkit::manager::Liveness;
use sessionkit::{ErrorCode, StateName};

use super::owner_response::wait_for_owner;
use crate::args::Pause;
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::{hints, ids};

pub(crate) async fn run(args: &Pause, context: &Context) -> Result<u8> {
    let store = context.open().await?;
    let manager = &**store.manager();
    let id = ids::resolve(context, manager, &args.id, ids::Purpose::Use).await?;
    let typed = id.to_string();
    if let Some(Liveness::Dead { evidence }) = super::liveness(manager, id).await {
        // A request without an owner to act on it would take effect, unexpectedly, after the next resume.
        let text = format!("session {id} has crashed: {evidence}");
        return Err(Failure::new(ErrorCode::Conflict, text).about(id).next(&["why", &typed]));
    }
    manager.pause_session(id, args.reason.clone()).await.map_err(|error| Failure::from(error).about(id))?;
    let head = wait_for_owner(context, manager, id, &[StateName::Paused]).await?;
    if head.state().is_final() {
        let (status, _) = super::status_of(manager, &head).await;
        let text = format!("session {id} ended before it could be paused: it is {}", status.name());
        return Err(Failure::new(ErrorCode::IllegalTransition, text).about(id));
    }
    super::print_session(context, manager, id).await?;
    hints::report_crashed(context, &store, Some(id)).await?;
    Ok(0)
}
