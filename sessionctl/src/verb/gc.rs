//! `gc`: cancels sessions that lost their owner long ago, and removes those that ended long ago and files left by dead
//! processes.

use std::collections::HashSet;

use serde::Serialize;
use sessionkit::log::Timestamp;
use sessionkit::manager::{SessionList, StorageError};
use sessionkit::storage::ReconcileReport;
use sessionkit::{
    CancelRequest, Head, SessionError, SessionFilter, SessionId, SessionManager, SessionState, Store,
};

use crate::args::Gc;
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::hints;
use crate::json::{self, SCHEMA};
use crate::render::{Table, age};
use crate::status::Status;

#[derive(Serialize)]
struct Report<'a> {
    schema: u32,
    dry_run: bool,
    /// Sessions without an owner that were cancelled.
    cancelled: &'a [SessionId],
    removed: &'a [SessionId],
    /// Number of removed sockets of dead owners.
    sockets: usize,
}

pub(crate) async fn run(args: &Gc, context: &Context) -> Result<u8> {
    let store = context.open().await?;
    let manager = &**store.manager();
    let before = super::now().before(args.older_than);
    let list = manager.list_sessions(SessionFilter::all()).await?;
    let is_old = |head: &&Head| head.ended_at.is_some_and(|ended| ended < before);
    // What is cancelled now has ended now, and is removed by a later `gc`.
    let ended: Vec<&Head> = list.heads.iter().filter(is_old).collect();
    let (mut cancelled, mut failed) = (Vec::new(), None);
    for head in list.heads.iter().filter(|head| !head.state().is_final() && head.updated_at < before) {
        let (status, _) = super::status_of(manager, head).await;
        if !status.is_lost() {
            continue;
        }
        match if args.dry_run { Ok(true) } else { cancel(context, &store, head, before).await } {
            Ok(true) => cancelled.push((head, status)),
            Ok(false) => {}
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    if !context.term.json {
        print_cancelled(args, context, &cancelled)?;
    }
    if let Some(error) = failed {
        // After what was done is printed.
        return Err(error);
    }
    let (removed, sockets) = if args.dry_run {
        (ended.iter().map(|head| head.id).collect(), 0)
    } else {
        (remove(manager, &ended).await?, sweep(&store).await?)
    };
    if context.term.json {
        let cancelled: Vec<SessionId> = cancelled.iter().map(|(head, _)| head.id).collect();
        let (cancelled, removed) = (cancelled.as_slice(), removed.as_slice());
        let report = Report { schema: SCHEMA, dry_run: args.dry_run, cancelled, removed, sockets };
        context.term.print(&format!("{}\n", json::line(&report)))?;
    } else if removed.is_empty() {
        context.hint("no sessions ended that long ago", &[], &["ls", "--all"]);
    } else {
        let heading = if args.dry_run { "ENDED (WOULD BE REMOVED)" } else { "ENDED (REMOVED)" };
        let mut table = Table::new(&["ID", "NAME", heading]);
        for head in ended.iter().filter(|head| removed.contains(&head.id)) {
            let ended = head.ended_at.map_or(String::new(), ago);
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

/// Cancels a session, if it still has no owner and no newer event. Returns `true` if it is cancelled.
async fn cancel(context: &Context, store: &Store, head: &Head, before: Timestamp) -> Result<bool> {
    let failed = |error| Failure::from(error).about(head.id);
    super::end_leftovers(context, store, head.id).await?;
    let reason = format!("cancelled by gc: it has no owner, and its last event was {}", ago(head.updated_at));
    let request = CancelRequest::new(reason, super::requester());
    match store.manager().cancel_lost_session(head.id, before, request).await {
        Ok(Some(state)) => Ok(matches!(state, SessionState::Cancelled { .. })),
        // Resumed, ended or deleted by another process in between.
        Ok(None) | Err(SessionError::Storage(StorageError::NotFound { .. })) => Ok(false),
        Err(error) => Err(failed(error)),
    }
}

fn print_cancelled(args: &Gc, context: &Context, cancelled: &[(&Head, Status)]) -> Result<()> {
    if cancelled.is_empty() {
        return Ok(());
    }
    let heading = if args.dry_run { "LAST EVENT (WOULD BE CANCELLED)" } else { "LAST EVENT (CANCELLED)" };
    let mut table = Table::new(&["ID", "NAME", "STATUS", heading]);
    for (head, status) in cancelled {
        table.row(vec![
            (head.id.to_string(), ""),
            (head.name.clone(), ""),
            (status.name().to_owned(), status.sgr()),
            (ago(head.updated_at), ""),
        ]);
    }
    context.term.print(&table.render(&context.term))
}

/// Removes ended sessions, and returns the ids of those that this process removed.
async fn remove(manager: &dyn SessionManager, ended: &[&Head]) -> Result<Vec<SessionId>> {
    let mut removed = Vec::new();
    for head in ended {
        match manager.delete_session(head.id).await {
            Ok(()) => removed.push(head.id),
            Err(SessionError::Storage(StorageError::NotFound { .. })) => {}
            Err(error) => return Err(Failure::from(error).about(head.id)),
        }
    }
    Ok(removed)
}

fn ago(at: Timestamp) -> String {
    format!("{} ago", age(super::now().since(at)))
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
