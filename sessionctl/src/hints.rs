//! The hint about crashed sessions, in one line.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use sessionkit::log::{Evidence, InstanceId};
use sessionkit::manager::Liveness;
use sessionkit::{Head, SessionError, SessionId, Store};

use crate::advice::advise;
use crate::context::Context;
use crate::error::Result;
use crate::render::short;

const REBOOTED: &str = "the machine was restarted";
/// Names shown of many sessions.
const MAX_NAMES: usize = 3;

/// Returns the sessions whose responsible process is dead while the log does not say so yet. Unlike
/// [`find_crashed_sessions`](sessionkit::SessionManager::find_crashed_sessions), it reads no log.
pub(crate) async fn orphans(store: &Store) -> Result<Vec<(Head, Evidence)>> {
    // Each process is checked once.
    let mut known: HashMap<InstanceId, Liveness> = HashMap::new();
    let mut orphans = Vec::new();
    for head in store.manager().list_active_sessions().await?.heads {
        let Some(owner) = head.responsible_process() else { continue };
        let liveness = match known.entry(owner.instance) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let liveness = store.presence().liveness(owner).await.map_err(SessionError::from)?;
                new.insert(liveness)
            }
        };
        if let Liveness::Dead { evidence } = liveness {
            let evidence = evidence.clone();
            orphans.push((head, evidence));
        }
    }
    Ok(orphans)
}

/// Prints which sessions have crashed and the command to type next; `except` is the session that the verb handles.
pub(crate) async fn report_crashed(
    context: &Context,
    store: &Store,
    except: Option<SessionId>,
) -> Result<()> {
    let (crashed, rebooted): (Vec<_>, Vec<_>) = orphans(store)
        .await?
        .into_iter()
        .filter(|(head, _)| Some(head.id) != except)
        .map(|(head, evidence)| (head, matches!(evidence, Evidence::Rebooted { .. })))
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
            let advice = advise(&**store.manager(), *one).await;
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
