//! `gc`: removes sessions that ended long ago, and files left by dead processes.

use std::collections::HashSet;

use serde::Serialize;
use sessionkit::manager::SessionList;
use sessionkit::storage::ReconcileReport;
use sessionkit::{Head, SessionFilter, SessionId, StateName, Store};

use crate::args::Gc;
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::hints;
use crate::json::{self, SCHEMA};
use crate::render::{Table, age};

#[derive(Serialize)]
struct Report<'a> {
    schema: u32,
    dry_run: bool,
    removed: &'a [SessionId],
    /// Number of removed sockets of dead owners.
    sockets: usize,
}

pub(crate) async fn run(args: &Gc, context: &Context) -> Result<u8> {
    let store = context.open().await?;
    let manager = &**store.manager();
    let ended = StateName::ALL.iter().filter(|state| state.is_final());
    let ended = ended.fold(SessionFilter::all(), |filter, state| filter.state(*state));
    let before = super::now().before(args.older_than);
    let old = |head: &Head| head.ended_at.is_some_and(|ended| ended < before);
    let list = manager.list_sessions(ended).await?;
    let heads: Vec<&Head> = list.heads.iter().filter(|head| old(head)).collect();
    let (removed, sockets) = if args.dry_run {
        (heads.iter().map(|head| head.id).collect(), 0)
    } else {
        (manager.cleanup(Some(args.older_than)).await?, sweep(&store).await?)
    };
    if context.term.json {
        let report = Report { schema: SCHEMA, dry_run: args.dry_run, removed: &removed, sockets };
        context.term.print(&format!("{}\n", json::line(&report)))?;
    } else if removed.is_empty() {
        context.hint("no sessions ended that long ago", &[], &["ls", "--all"]);
    } else {
        let mut table = Table::new(&[
            "ID",
            "NAME",
            if args.dry_run { "ENDED (WOULD BE REMOVED)" } else { "ENDED (REMOVED)" },
        ]);
        for head in heads.iter().filter(|head| removed.contains(&head.id)) {
            let ended =
                head.ended_at.map_or(String::new(), |at| format!("{} ago", age(super::now().since(at))));
            table.row(vec![(head.id.to_string(), ""), (head.name.clone(), ""), (ended, "")]);
        }
        context.term.print(&table.render(&context.term))?;
    }
    hints::report_unknown(context, &store).await?;
    match list.unreadable.into_iter().next() {
        // The time of its end is unknown, so it is not removed.
        Some((id, error)) => Err(Failure::from(error).about(id)),
        None => Ok(0),
    }
}

/// Removes locks, sockets and temporary files of dead processes, and returns the number of sockets. Changes no session.
async fn sweep(store: &Store) -> Result<usize> {
    let repaired = match store.maintenance() {
        Some(storage) => storage.reconcile().await?,
        None => ReconcileReport::default(),
    };
    let SessionList { heads, unreadable, .. } = store.manager().list_active_sessions().await?;
    // The owner of an unreadable session is unknown: if there is one, all locks are kept.
    if unreadable.is_empty() && repaired.failed.is_empty() {
        let named: HashSet<_> =
            heads.iter().filter_map(|head| Some(head.responsible_process()?.instance)).collect();
        store.presence().sweep(&named).await?;
    }
    sessionkit::runner::sweep_sockets()
        .map_err(|error| Failure::chain(sessionkit::ErrorCode::StorageIo, &error))
}
