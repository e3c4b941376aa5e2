//! Waiting for whoever runs a session to answer what was asked in its log.

use std::time::Duration;

use sessionkit::{ErrorCode, Head, Liveness, SessionId, SessionManager, StateName};

use crate::context::Context;
use crate::fail::{Failure, Result};

/// After which it is said that nobody has answered yet.
const SILENCE: Duration = Duration::from_secs(3);
/// How often is looked whether there still is somebody who could answer.
const LOOK: Duration = Duration::from_millis(250);

/// Waits until a session is in one of these states, or has ended.
///
/// # Errors
/// `CONFLICT` where its owner dies before.
pub(crate) async fn answer(
    context: &Context,
    manager: &dyn SessionManager,
    id: SessionId,
    states: &[StateName],
) -> Result<Head> {
    let typed = id.to_string();
    let mut reached = manager.wait_for(id, states);
    let silence = tokio::time::sleep(SILENCE);
    tokio::pin!(silence);
    let (mut told, mut look) = (false, tokio::time::interval(LOOK));
    loop {
        tokio::select! {
            biased;
            head = &mut reached => return head.map_err(|error| Failure::from(error).about(id)),
            _ = look.tick() => {
                if let Some(Liveness::Dead { evidence }) = super::liveness(manager, id).await {
                    let text = format!("nobody runs it any more: {evidence}");
                    return Err(Failure::new(ErrorCode::Conflict, text).about(id).next(&["resume", &typed]));
                }
            }
            () = &mut silence, if !told => {
                told = true;
                context.hint("its owner was asked and has not answered yet", &[id], &["why", &typed]);
            }
        }
    }
}
