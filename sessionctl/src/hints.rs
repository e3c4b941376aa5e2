//! Hints about sessions whose owner is dead, or may be: one line each.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use sessionkit::log::{Evidence, InstanceId};
use sessionkit::manager::Liveness;
use sessionkit::{Head, SessionError, SessionId, Store};

use crate::advice::advise;
use crate::context::Context;
use crate::error::Result;
use crate::render::short;
use crate::unknown_owner::{DECLARE_DEAD, UNKNOWN_OWNER};

const REBOOTED: &str = "the machine was restarted";
/// Names shown of many sessions.
const MAX_NAMES: usize = 3;

/// Returns the active sessions that have a responsible process, with its liveness. Each process is checked once. Unlike
/// [`find_crashed_sessions`](sessionkit::SessionManager::find_crashed_sessions), it reads no log.
async fn checked(store: &Store) -> Result<Vec<(Head, Liveness)>> {
    let mut known: HashMap<InstanceId, Liveness> = HashMap::new();
    let mut checked = Vec::new();
    for head in store.manager().list_active_sessions().await?.heads {
        let Some(owner) = head.responsible_process() else { continue };
        let liveness = match known.entry(owner.instance) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let liveness = store.presence().liveness(owner).await.map_err(SessionError::from)?;
                new.insert(liveness)
            }
        };
        let liveness = liveness.clone();
        checked.push((head, liveness));
    }
    Ok(checked)
}

/// Returns the sessions whose responsible process is dead while the log does not say so yet, and with `unknown` those of
/// whose process it is not known.
pub(crate) async fn orphans(store: &Store, unknown: bool) -> Result<Vec<Head>> {
    let is_orphan = |liveness: &Liveness| match liveness {
        Liveness::Dead { .. } => true,
        Liveness::Unknown { .. } => unknown,
        Liveness::Alive | _ => false,
    };
    let checked = checked(store).await?.into_iter();
    Ok(checked.filter(|(_, liveness)| is_orphan(liveness)).map(|(head, _)| head).collect())
}

/// Prints which sessions have crashed, and of which it is not known, each with the command to type next.
pub(crate) async fn report_owners(context: &Context, store: &Store) -> Result<()> {
    let checked = checked(store).await?;
    print_crashed(context, store, &checked, None).await;
    print_unknown(context, &checked);
    Ok(())
}

/// Prints of which sessions it is not known whether the owner lives, and the command that declares these owners dead.
pub(crate) async fn report_unknown(context: &Context, store: &Store) -> Result<()> {
    print_unknown(context, &checked(store).await?);
    Ok(())
}

fn print_unknown(context: &Context, checked: &[(Head, Liveness)]) {
    let unknown = checked.iter().filter(|(_, liveness)| matches!(liveness, Liveness::Unknown { .. }));
    let heads: Vec<&Head> = unknown.map(|(head, _)| head).collect();
    let ids: Vec<SessionId> = heads.iter().map(|head| head.id).collect();
    let text = match heads.len() {
        0 => return,
        1 => format!("session {}: {UNKNOWN_OWNER}", names(&heads)),
        many => format!("{many} sessions, {}: of each, {UNKNOWN_OWNER}", names(&heads)),
    };
    context.hint(&text, &ids, &DECLARE_DEAD);
}

/// Returns the first names, and the number of the others.
fn names(heads: &[&Head]) -> String {
    let mut names: Vec<String> =
        heads.iter().take(MAX_NAMES).map(|head| format!("{} ({})", short(head.id), head.name)).collect();
    if heads.len() > MAX_NAMES {
        names.push(format!("{} more", heads.len() - MAX_NAMES));
    }
    names.join(", ")
}

/// Prints which sessions have crashed and the command to type next; `except` is the session that the verb handles.
pub(crate) async fn report_crashed(
    context: &Context,
    store: &Store,
    except: Option<SessionId>,
) -> Result<()> {
    let checked = checked(store).await?;
    print_crashed(context, store, &checked, except).await;
    Ok(())
}

async fn print_crashed(
    context: &Context,
    store: &Store,
    checked: &[(Head, Liveness)],
    except: Option<SessionId>,
) {
    let crashed = checked.iter().filter_map(|(head, liveness)| match liveness {
        Liveness::Dead { evidence } if Some(head.id) != except => {
            Some((head, matches!(evidence, Evidence::Rebooted { .. })))
        }
        Liveness::Alive | Liveness::Dead { .. } | Liveness::Unknown { .. } | _ => None,
    });
    let (crashed, rebooted): (Vec<&Head>, Vec<bool>) = crashed.unzip();
    let rebooted = rebooted.iter().all(|rebooted| *rebooted);
    let ids: Vec<SessionId> = crashed.iter().map(|head| head.id).collect();
    let names = names(&crashed);
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
}
