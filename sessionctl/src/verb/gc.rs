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
use crate::json::{self, SCHEMA, SessionOutcome};
use crate::render::{Table, age, short};
use crate::status::Status;

#[derive(Serialize)]
struct Report<'a> {
    schema: u32,
    dry_run: bool,
    /// Sessions without an owner that were cancelled.
    cancelled: &'a [SessionId],
    removed: &'a [SessionId],
    /// Sessions that could not be read, cancelled or removed.
    failed: &'a [SessionOutcome],
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
    let (mut ended, mut with_worktree): (Vec<&Head>, Vec<SessionId>) = (Vec::new(), Vec::new());
    for head in list.heads.iter().filter(is_old) {
        if super::worktree::has_one(manager, head).await {
            with_worktree.push(head.id);
        } else {
            ended.push(head);
        }
    }
    // The time of its end is unknown, so what cannot be read is not removed.
    let mut failed: Vec<(SessionId, SessionError)> =
        list.unreadable.iter().map(|(id, error)| (*id, error.clone().into())).collect();
    let mut cancelled = Vec::new();
    for head in list.heads.iter().filter(|head| !head.state().is_final() && head.updated_at < before) {
        let (status, _) = super::status_of(manager, head).await;
        if !status.is_lost() {
            continue;
        }
        match if args.dry_run { Ok(true) } else { cancel(context, &store, head, before).await } {
            Ok(true) => cancelled.push((head, status)),
            Ok(false) => {}
            Err(error) => failed.push((head.id, error)),
        }
    }
    if !context.term.json {
        print_cancelled(args, context, &cancelled)?;
    }
    let (removed, swept) = if args.dry_run {
        (ended.iter().map(|head| head.id).collect(), Ok(0))
    } else {
        (remove(manager, &ended, &mut failed).await, sweep(&store).await)
    };
    let sockets = *swept.as_ref().unwrap_or(&0);
    if context.term.json {
        let cancelled: Vec<SessionId> = cancelled.iter().map(|(head, _)| head.id).collect();
        let (cancelled, removed) = (cancelled.as_slice(), removed.as_slice());
        let outcome = |(id, error): &(SessionId, SessionError)| {
            SessionOutcome::failed(*id, error.code(), error.to_string())
        };
        let failed = &failed.iter().map(outcome).collect::<Vec<_>>();
        let report = Report { schema: SCHEMA, dry_run: args.dry_run, cancelled, removed, failed, sockets };
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
    if !with_worktree.is_empty() {
        let text = format!("{} ended sessions are left: they have a worktree", with_worktree.len());
        let first = with_worktree.first().map(ToString::to_string).unwrap_or_default();
        context.hint(&text, &with_worktree, &["show", &first]);
    }
    hints::report_unknown(context, &store).await?;
    if !args.dry_run {
        super::worktree::purge_old(context, manager).await?;
    }
    // The last one is the failure of the command.
    let failure = failed.pop().map(|(id, error)| Failure::from(error).about(id));
    for (id, error) in failed {
        context.hint(&format!("session {} is left: {error}", short(id)), &[id], &["why", &id.to_string()]);
    }
    match failure {
        Some(failure) => Err(failure),
        None => swept.map(|_| 0),
    }
}

/// Cancels a session, if it still has no owner and no newer event. Returns `true` if it is cancelled.
async fn cancel(
    context: &Context,
    store: &Store,
    head: &Head,
    before: Timestamp,
) -> Result<bool, SessionError> {
    super::end_leftovers(context, store, head.id).await?;
    let reason = format!("cancelled by gc: it has no owner, and its last event was {}", ago(head.updated_at));
    let request = CancelRequest::new(reason, super::requester());
    match store.manager().cancel_lost_session(head.id, before, request).await {
        Ok(Some(state)) => Ok(matches!(state, SessionState::Cancelled { .. })),
        // Resumed, ended or deleted by another process in between.
        Ok(None) | Err(SessionError::Storage(StorageError::NotFound { .. })) => Ok(false),
        Err(error) => Err(error),
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
async fn remove(
    manager: &dyn SessionManager,
    ended: &[&Head],
    failed: &mut Vec<(SessionId, SessionError)>,
) -> Vec<SessionId> {
    let mut removed = Vec::new();
    for head in ended {
        match manager.delete_session(head.id).await {
            Ok(()) => removed.push(head.id),
            Err(SessionError::Storage(StorageError::NotFound { .. })) => {}
            Err(error) => failed.push((head.id, error)),
        }
    }
    removed
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
