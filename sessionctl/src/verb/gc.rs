//! `gc`: cancels sessions that lost their owner long ago, and removes those that ended long ago and files left by dead
//! processes.

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;
use sessionkit::log::Timestamp;
use sessionkit::manager::{SessionList, StorageError};
use sessionkit::storage::ReconcileReport;
use sessionkit::{
    CancelRequest, ErrorCode, Head, SessionError, SessionFilter, SessionId, SessionManager, SessionState,
    Store,
};

use crate::args::Gc;
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::hints;
use crate::json::{self, SCHEMA, SessionOutcome};
use crate::render::{Table, age, short};
use crate::session_worktree::{self, Disk};
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
    /// Ended sessions that are left because they have a worktree.
    worktrees: &'a [HeldWorktree],
    /// Number of removed sockets of dead owners.
    sockets: usize,
}

/// The worktree of an ended session.
#[derive(Debug, Serialize)]
struct HeldWorktree {
    session: SessionId,
    #[serde(skip)]
    name: String,
    path: Option<String>,
    /// `true` if nothing is lost with it; null without `--dry-run` and `--worktrees`, and if that cannot be read.
    clean: Option<bool>,
    #[serde(skip)]
    changes: String,
}

impl HeldWorktree {
    /// Reads the worktree of a session, and its state if that is asked for. One that a session has, too, which is not to be removed
    /// is not clean.
    async fn read(manager: &dyn SessionManager, head: &Head, others: &[&Head], with_state: bool) -> Self {
        let mark = |head: &Head| head.place.as_ref().and_then(|place| place.mark.clone());
        let is_needed = others.iter().any(|other| mark(other) == mark(head));
        let stored = manager.restore_session(head.id).await.ok();
        let made = stored.as_ref().and_then(|stored| stored.worktree.as_ref());
        let path = made.map(|made| made.plan.path.to_string_lossy().into_owned());
        let state = match &stored {
            Some(stored) if with_state => session_worktree::state(stored, Disk::Skip).await,
            Some(_) | None => None,
        };
        let clean = state.as_ref().and_then(|state| state.clean).map(|clean| clean && !is_needed);
        let changes = state.map(|state| state.changes).unwrap_or_default();
        Self { session: head.id, name: head.name.clone(), path, clean, changes }
    }
}

pub(crate) async fn run(args: &Gc, context: &Context) -> Result<u8> {
    let store = context.open().await?;
    let manager = &**store.manager();
    let before = super::now().before(args.older_than);
    let list = manager.list_sessions(SessionFilter::all()).await?;
    let is_old = |head: &&Head| head.ended_at.is_some_and(|ended| ended < before);
    // What is cancelled now has ended now, and is removed by a later `gc`.
    let (mut ended, mut worktrees): (Vec<&Head>, Vec<HeldWorktree>) = (Vec::new(), Vec::new());
    let others: Vec<&Head> = list.heads.iter().filter(|head| !is_old(head)).collect();
    for head in list.heads.iter().filter(is_old) {
        if super::worktree::has_one(manager, head).await {
            let with_state = args.dry_run || args.worktrees;
            worktrees.push(HeldWorktree::read(manager, head, &others, with_state).await);
        } else {
            ended.push(head);
        }
    }
    // The time of its end is unknown, so what cannot be read is not removed.
    let mut failed: Vec<(SessionId, Failure)> =
        list.unreadable.iter().map(|(id, error)| (*id, Failure::from(error.clone()))).collect();
    if args.worktrees {
        let removed = remove_worktrees(args, context, manager, &mut worktrees, &mut failed).await;
        ended.extend(list.heads.iter().filter(|head| removed.contains(&head.id)));
    }
    let mut cancelled = Vec::new();
    for head in list.heads.iter().filter(|head| !head.state().is_final() && head.updated_at < before) {
        let (status, _) = super::status_of(manager, head).await;
        if !status.is_lost() {
            continue;
        }
        match if args.dry_run { Ok(true) } else { cancel(context, &store, head, before).await } {
            Ok(true) => cancelled.push((head, status)),
            Ok(false) => {}
            Err(error) => failed.push((head.id, Failure::from(error))),
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
        let outcome = |(id, failure): &(SessionId, Failure)| {
            let code = failure.code().unwrap_or(ErrorCode::WorkFailed);
            SessionOutcome::failed(*id, code, failure.message().unwrap_or_default().to_owned())
        };
        let failed = &failed.iter().map(outcome).collect::<Vec<_>>();
        let (dry_run, worktrees) = (args.dry_run, worktrees.as_slice());
        let report = Report { schema: SCHEMA, dry_run, cancelled, removed, failed, worktrees, sockets };
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
    report_worktrees(args, context, &worktrees)?;
    hints::report_unknown(context, &store).await?;
    if !args.dry_run {
        super::worktree::purge_old(context, manager).await?;
    }
    // The last one is the failure of the command.
    let failure = failed.pop().map(|(id, failure)| failure.about(id));
    for (id, failure) in failed {
        let reason = failure.message().unwrap_or_default();
        context.hint(&format!("session {} is left: {reason}", short(id)), &[id], &["why", &id.to_string()]);
    }
    match failure {
        Some(failure) => Err(failure),
        None => swept.map(|_| 0),
    }
}

/// Moves clean worktrees into the trash, and returns their sessions, which need no worktree any more.
async fn remove_worktrees(
    args: &Gc,
    context: &Context,
    manager: &dyn SessionManager,
    held: &mut Vec<HeldWorktree>,
    failed: &mut Vec<(SessionId, Failure)>,
) -> HashSet<SessionId> {
    let (mut removed, mut left) = (HashSet::new(), Vec::new());
    for worktree in held.drain(..) {
        let result = match worktree.clean {
            Some(true) if args.dry_run => Ok(()),
            Some(true) => super::worktree::remove_clean(context, manager, worktree.session).await,
            Some(false) | None => {
                left.push(worktree);
                continue;
            }
        };
        match result {
            Ok(()) => drop(removed.insert(worktree.session)),
            Err(error) => {
                failed.push((worktree.session, error));
                left.push(worktree);
            }
        }
    }
    *held = left;
    removed
}

/// Reports the sessions that are left because of their worktrees, and with `--dry-run` which of those are clean.
fn report_worktrees(args: &Gc, context: &Context, worktrees: &[HeldWorktree]) -> Result<()> {
    let Some(first) = worktrees.first().map(|held| held.session.to_string()) else { return Ok(()) };
    if args.dry_run && !context.term.json {
        let mut table = Table::new(&["ID", "NAME", "CHANGES", "WORKTREE (LEFT)"]);
        for held in worktrees {
            let path = held.path.clone().unwrap_or_default();
            let sgr = if held.clean == Some(true) { Status::Completed.sgr() } else { "" };
            let row = [held.session.to_string(), held.name.clone(), held.changes.clone(), path];
            let [id, name, changes, path] = row;
            table.row(vec![(id, ""), (name, ""), (changes, sgr), (path, "")]);
        }
        context.term.print(&table.render(&context.term))?;
    }
    let sessions: Vec<SessionId> = worktrees.iter().map(|held| held.session).collect();
    // Several sessions may have one worktree.
    let clean: BTreeMap<&Option<String>, String> = worktrees
        .iter()
        .filter(|held| held.clean == Some(true))
        .map(|held| (&held.path, held.session.to_string()))
        .collect();
    let text = format!("{} ended sessions are left: they have a worktree", worktrees.len());
    if clean.is_empty() {
        context.hint(&text, &sessions, &["show", &first]);
    } else {
        let text = format!("{text}; {} worktrees are clean", clean.len());
        let remove: Vec<&str> =
            ["worktree", "rm"].into_iter().chain(clean.values().map(String::as_str)).collect();
        context.hint(&text, &sessions, &remove);
    }
    Ok(())
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
    failed: &mut Vec<(SessionId, Failure)>,
) -> Vec<SessionId> {
    let mut removed = Vec::new();
    for head in ended {
        match manager.delete_session(head.id).await {
            Ok(()) => removed.push(head.id),
            Err(SessionError::Storage(StorageError::NotFound { .. })) => {}
            Err(error) => failed.push((head.id, Failure::from(error))),
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
