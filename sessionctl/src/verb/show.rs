//! `show`: shows one session.

use sessionkit::backend::SessionStorageExt as _;
use sessionkit::storage::Condition;
use sessionkit::{ErrorCode, SessionId, SessionState, Store};

use crate::args::Show;
use crate::attachable_terminals::AttachableTerminals;
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::{hints, ids};

pub(crate) async fn run(args: &Show, context: &Context) -> Result<u8> {
    let store = context.open().await?;
    let manager = &**store.manager();
    let id = ids::resolve(context, manager, &args.id, ids::Purpose::Use).await?;
    // If the log cannot be read to its end, the rest of the session is shown, and `check` reports the damage.
    let history = store.storage().history(id).await.ok();
    let terminals = AttachableTerminals::default();
    let session = super::print_session_with(context, manager, id, history, &terminals).await?;
    let id = id.to_string();
    let viewed = terminals.viewed(&session.head);
    match session.state {
        _ if context.term.json => {}
        SessionState::Failed { .. } | SessionState::Cancelled { .. } => {
            context.hint("its log has the details", &[], &["events", &id]);
        }
        SessionState::Running { .. } if viewed == Some(false) => {
            context.hint("its terminal has no viewer", &[], &["attach", &id]);
        }
        SessionState::Created
        | SessionState::Running { .. }
        | SessionState::Paused { .. }
        | SessionState::Completed { .. } => {}
    }
    hints::report_crashed(context, &store, None).await?;
    check(&store, session.head.id).await?;
    Ok(0)
}

/// Checks the stored data of the session, so that the loss of a part of it is reported and not hidden.
async fn check(store: &Store, id: SessionId) -> Result<()> {
    let Some(storage) = store.maintenance() else { return Ok(()) };
    let health = storage.verify(id).await.map_err(|error| Failure::from(error).about(id))?;
    match (health.condition, health.problem) {
        (Condition::Healthy | Condition::Torn | Condition::Unsupported, _) => Ok(()),
        (_, Some(problem)) => Err(Failure::from(problem).about(id)),
        (verdict, None) => {
            let message = format!("session {id} is {verdict}: only its readable part is shown");
            Err(Failure::new(ErrorCode::Corrupt, message).about(id))
        }
    }
}
