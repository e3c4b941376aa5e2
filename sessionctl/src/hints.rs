//! The hint about crashed sessions, in one line.

use sessionkit::{Evidence, SessionId, SessionManager};

use crate::advice::advise;
use crate::context::Context;
use crate::error::Result;
use crate::render::short;

const REBOOTED: &str = "the machine was restarted";
/// Names shown of many sessions.
const MAX_NAMES: usize = 3;

/// Prints which sessions have crashed and the command to type next; `except` is the session that the verb handles.
pub(crate) async fn report_crashed(
    context: &Context,
    manager: &dyn SessionManager,
    except: Option<SessionId>,
) -> Result<()> {
    let crashed = manager.find_crashed_sessions().await?.sessions;
    let (crashed, rebooted): (Vec<_>, Vec<_>) = crashed
        .into_iter()
        .filter(|crashed| crashed.is_orphaned() && Some(crashed.head.id) != except)
        .map(|crashed| (crashed.head, matches!(crashed.evidence, Evidence::Rebooted { .. })))
        .unzip();
    let rebooted = rebooted.iter().all(|rebooted| *rebooted);
    let ids: Vec<SessionId> = crashed.iter().map(|head| head.id).collect();
    let mut names: Vec<String> =
        crashed.iter().take(MAX_NAMES).map(|head| format!("{} ({})", short(head.id), head.name)).collect();
    if crashed.len() > MAX_NAMES {
        names.push(format!("{} more", crashed.len() - MAX_NAMES));
    }
    let names = names.join(", ");
    match ids.as_slice() {
        [] => {}
        [one] => {
            let text = format!(
                "session {names} has crashed: {}",
                if rebooted { REBOOTED } else { "its owner died" }
            );
            let advice = advise(manager, *one).await;
            context.hint(&advice.append_to(&text), &ids, &advice.next());
        }
        many => context.hint(
            &format!(
                "{} sessions have crashed ({}): {names}",
                many.len(),
                if rebooted { REBOOTED } else { "their owners died" }
            ),
            &ids,
            &["recover", "--dry-run"],
        ),
    }
    Ok(())
}
