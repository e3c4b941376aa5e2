//! `signal`: sends a signal to the program of a session.

use sessionkit::ErrorCode;
use sessionkit::manager::Liveness;
use sessionkit::runner::{SignalTarget, signal_program};

use crate::args::Signal;
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::{hints, ids};

pub(crate) async fn run(args: &Signal, context: &Context) -> Result<u8> {
    let store = context.open().await?;
    let manager = &**store.manager();
    let id = ids::resolve(context, manager, &args.id, ids::Purpose::Use).await?;
    let head = manager.get_head(id).await.map_err(|error| Failure::from(error).about(id))?;
    let typed = id.to_string();
    let next = ["why", &typed];
    let Some(owner) = &head.lifecycle.owner else {
        let (status, _) = super::status_of(manager, &head).await;
        let text = format!("session {id} is {} and has no owner", status.name());
        return Err(Failure::new(ErrorCode::IllegalTransition, text).about(id).next(&next));
    };
    if let Some(Liveness::Dead { evidence }) = super::liveness(manager, id).await {
        let text = format!("session {id} has crashed: {evidence}");
        return Err(Failure::new(ErrorCode::Crashed, text).about(id).next(&next));
    }
    let target = if args.group { SignalTarget::Group } else { SignalTarget::FirstProcess };
    signal_program(id, owner, args.number as i32, target)
        .map_err(|error| Failure::chain(error.code(), &error).about(id).next(&next))?;
    if context.term.json {
        super::print_session(context, manager, id).await?;
    }
    hints::report_crashed(context, &store, Some(id)).await?;
    Ok(0)
}
