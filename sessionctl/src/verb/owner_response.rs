//! Waiting for the owner of a session to act on a request in its log.

use std::time::Duration;

use sessionkit::manager::Liveness;
use sessionkit::{ErrorCode, Head, SessionId, SessionManager, StateName};

use crate::advice::advise;
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::unknown_owner::{DECLARE_DEAD, UNKNOWN_OWNER};

/// Time after which a hint says that the owner has not responded yet.
const HINT_AFTER: Duration = Duration::from_secs(3);
/// Interval of checks that the owner is alive.
const LIVENESS_CHECK: Duration = Duration::from_millis(250);

/// Waits until a session is in one of these states, or has ended.
///
/// # Errors
/// `CONFLICT` if its owner dies before that.
pub(crate) async fn wait_for_owner(
    context: &Context,
    manager: &dyn SessionManager,
    id: SessionId,
    states: &[StateName],
) -> Result<Head> {
    let typed = id.to_string();
    let mut reached = manager.wait_for(id, states);
    let hint_due = tokio::time::sleep(HINT_AFTER);
    tokio::pin!(hint_due);
    let (mut hinted, mut liveness_check) = (false, tokio::time::interval(LIVENESS_CHECK));
    loop {
        tokio::select! {
            biased;
            head = &mut reached => return head.map_err(|error| Failure::from(error).about(id)),
            _ = liveness_check.tick() => {
                if let Some(Liveness::Dead { evidence }) = super::liveness(manager, id).await {
                    let text = format!("the owner of session {id} died before it responded: {evidence}");
                    let advice = advise(manager, id).await;
                    let failure = Failure::new(ErrorCode::Conflict, advice.append_to(&text));
                    return Err(failure.about(id).next(&advice.next()));
                }
            }
            () = &mut hint_due, if !hinted => {
                hinted = true;
                if let Some(Liveness::Unknown { .. }) = super::liveness(manager, id).await {
                    let text = format!("the owner of session {id} has not responded yet; {UNKNOWN_OWNER}");
                    context.hint(&text, &[id], &DECLARE_DEAD);
                } else {
                    context.hint("the owner has not responded yet", &[id], &["why", &typed]);
                }
            }
        }
    }
}
