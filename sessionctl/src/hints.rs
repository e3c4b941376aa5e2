//! What happened while nobody looked: sessions whose owner died, in one line.

use sessionkit::{Evidence, SessionId, SessionManager};

use crate::context::Context;
use crate::error::Result;
use crate::render::short;

const REBOOTED: &str = "the machine was restarted";
/// Names that are told of many.
const MAX_NAMES: usize = 3;

/// Says which sessions have crashed and how to go on with them; `except` is the one that the verb deals with.
pub(crate) async fn report_crashed(
    context: &Context,
    manager: &dyn SessionManager,
    except: Option<SessionId>,
) -> Result<()> {
    let crashed = manager.find_crashed_sessions().await?;
    let (crashed, rebooted): (Vec<_>, Vec<_>) = crashed
        .into_iter()
        .filter(|crashed| Some(crashed.head.id) != except)
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
        [one] => context.hint(
            &format!(
                "session {names} was interrupted: {}",
                if rebooted { REBOOTED } else { "its owner died" }
            ),
            &ids,
            &["resume", &one.to_string()],
        ),
        many => context.hint(
            &format!(
                "{} sessions were interrupted, {}: {names}",
                many.len(),
                if rebooted { REBOOTED } else { "their owners died" }
            ),
            &ids,
            &["recover", "--dry-run"],
        ),
    }
    Ok(())
}
