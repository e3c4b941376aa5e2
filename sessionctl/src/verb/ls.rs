//! `ls`: lists the sessions of a store, newest first.

use sessionkit::log::Timestamp;
use sessionkit::manager::{Liveness, StorageError};
use sessionkit::{Head, SessionFilter, SessionId, SessionManager, SessionProgress, SessionState};

use crate::args::Ls;
use crate::attachable_terminals::AttachableTerminals;
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::render::{Table, age, short};
use crate::session_worktree::WorktreeStates;
use crate::status::{Status, pending_request};
use crate::{hints, json, waits};

pub(crate) async fn run(args: &Ls, context: &Context) -> Result<u8> {
    let store = context.open().await?;
    let manager = &**store.manager();
    let mut list = manager.list_sessions(filter(args)).await?;
    list.heads.sort_by_key(|head| std::cmp::Reverse((head.created_at, head.id)));
    let listed = listed(args, manager, list.heads).await;
    let terminals = AttachableTerminals::default();
    let now = super::now();
    let worktrees = WorktreeStates::read(manager, listed.iter().map(|listed| &listed.head)).await;
    if context.term.json {
        print_json(context, manager, listed, &list.unreadable, &terminals, &worktrees, now).await?;
    } else if listed.is_empty() && list.unreadable.is_empty() {
        let filtered = !(args.statuses.is_empty() && args.labels.is_empty());
        let (text, next): (_, &[&str]) = if filtered {
            ("no sessions match", &["ls", "--all"])
        } else if args.all {
            ("no sessions yet", &["run", "--", "true"])
        } else {
            ("no active sessions", &["ls", "--all"])
        };
        context.hint(text, &[], next);
    } else {
        print_table(context, manager, &listed, &list.unreadable, &terminals, &worktrees, now).await?;
    }
    if worktrees.has_unread() {
        context.hint("not all worktrees were read: they take long", &[], &["worktree", "ls"]);
    }
    hints::report_owners(context, &store).await?;
    // An unreadable session is a failure, even though all others were printed.
    match list.unreadable.into_iter().next() {
        Some((id, error)) => Err(Failure::from(error).about(id)),
        None => Ok(0),
    }
}

/// A session to list, with its liveness and its status.
struct Listed {
    head: Head,
    liveness: Option<Liveness>,
    status: Status,
}

/// Returns a filter that matches all sessions that the arguments select, and possibly others. A status given by name is
/// searched among all sessions, ended ones included.
fn filter(args: &Ls) -> SessionFilter {
    let filter = match args.statuses.as_slice() {
        [] if args.all => SessionFilter::all(),
        [] => SessionFilter::active(),
        statuses => Status::filter(statuses),
    };
    args.labels.iter().fold(filter, |filter, (key, value)| filter.label(key, value))
}

/// Returns the sessions that the arguments select, up to the limit. What a person stopped is listed with the ended ones.
async fn listed(args: &Ls, manager: &dyn SessionManager, heads: Vec<Head>) -> Vec<Listed> {
    let mut listed = Vec::new();
    for head in heads {
        if args.limit.is_some_and(|limit| listed.len() >= limit.get()) {
            break;
        }
        let (status, liveness) = super::status_of(manager, &head).await;
        let selected = match args.statuses.as_slice() {
            [] => args.all || status != Status::Stopped,
            statuses => statuses.contains(&status),
        };
        if selected {
            listed.push(Listed { head, liveness, status });
        }
    }
    listed
}

async fn print_json(
    context: &Context,
    manager: &dyn SessionManager,
    listed: Vec<Listed>,
    unreadable: &[(SessionId, StorageError)],
    terminals: &AttachableTerminals,
    worktrees: &WorktreeStates,
    now: Timestamp,
) -> Result<()> {
    let mut sessions = Vec::new();
    for Listed { head, liveness, .. } in listed {
        sessions.push(match manager.restore_session(head.id).await {
            // As it was selected: the log may have grown in between.
            Ok(mut session) => {
                session.state =
                    if session.head.tip == head.tip { session.state } else { head.state().clone() };
                session.head = head;
                let worktree = worktrees.of(&session.head).cloned();
                json::Session::new(session, liveness.as_ref(), terminals, now).with_worktree_state(worktree)
            }
            // Deleted since it was listed.
            Err(sessionkit::SessionError::Storage(StorageError::NotFound { .. })) => continue,
            Err(sessionkit::SessionError::Storage(error)) => json::Session::unreadable(head.id, &error),
            Err(error) => return Err(error.into()),
        });
    }
    sessions.extend(unreadable.iter().map(|(id, error)| json::Session::unreadable(*id, error)));
    context.term.print(&json::array(&sessions))
}

async fn print_table(
    context: &Context,
    manager: &dyn SessionManager,
    listed: &[Listed],
    unreadable: &[(SessionId, StorageError)],
    terminals: &AttachableTerminals,
    worktrees: &WorktreeStates,
    now: Timestamp,
) -> Result<()> {
    // Most stores have no worktrees.
    let has_worktrees = !worktrees.is_empty();
    let heading = ["ID", "NAME", "STATUS", "PROGRESS", "AGE", "BRANCH", "CHANGES", "COMMAND"];
    let shown = |column: &&str| has_worktrees || !["BRANCH", "CHANGES"].contains(column);
    let mut table = Table::new(&heading.into_iter().filter(shown).collect::<Vec<_>>());
    for Listed { head, status, .. } in listed {
        let waits =
            if *status == Status::Waiting { waits::describe(manager, head, *status).await } else { None };
        let mut row = vec![
            (short(head.id), ""),
            (head.name.clone(), ""),
            (format!("{}{}", status.name(), detail(head, *status, terminals)), status.sgr()),
            (progress(head, now), ""),
            (age(now.since(head.created_at)), ""),
        ];
        if has_worktrees {
            let worktree = worktrees.of(head);
            let branch = worktree.and_then(|worktree| worktree.branch.clone());
            row.push((branch.unwrap_or_default(), ""));
            row.push((worktree.map(|worktree| worktree.changes.clone()).unwrap_or_default(), ""));
        }
        let command = head.command.as_ref().unwrap_or(&head.operation);
        row.push((waits.unwrap_or_else(|| command.clone()), ""));
        table.row(row);
    }
    for (id, error) in unreadable {
        let mut cells = vec![short(*id), String::new(), Status::Unreadable.name().to_owned()];
        cells.resize(if has_worktrees { heading.len() } else { heading.len() - 2 } - 1, String::new());
        let mut row: Vec<(String, &str)> =
            cells.into_iter().map(|text| (text, Status::Unreadable.sgr())).collect();
        row.push((error.to_string(), ""));
        table.row(row);
    }
    context.term.print(&table.render(&context.term))
}

/// Formats what a table adds to the status: the exit code or signal of a failed program, a pending request, or that the
/// terminal of its program has no viewer.
fn detail(head: &Head, status: Status, terminals: &AttachableTerminals) -> String {
    match (head.state(), head.exit_code, head.signal) {
        _ if status == Status::Stopped => ", can resume".to_owned(),
        (SessionState::Failed { .. }, Some(code), _) => format!(" ({code})"),
        (SessionState::Failed { .. }, None, Some(signal)) => format!(" (signal {signal})"),
        _ => match pending_request(head) {
            Some(request) => format!(" ({request} requested)"),
            // The owner of a stalled one does not answer a viewer.
            None if status != Status::Stalled && terminals.viewed(head) == Some(false) => {
                ", detached".to_owned()
            }
            None => String::new(),
        },
    }
}

fn progress(head: &Head, now: Timestamp) -> String {
    let progress = SessionProgress::from_head(head, now);
    let percent = progress.whole_percent().map(|percent| format!("{percent}%"));
    let steps = match (progress.completed_steps, progress.total_steps) {
        (Some(done), Some(total)) => Some(format!("{done}/{total}")),
        (Some(done), None) => Some(format!("{done}/?")),
        (None, _) => None,
    };
    let parts: Vec<String> = [percent, steps].into_iter().flatten().collect();
    if parts.is_empty() || matches!(head.state(), SessionState::Completed { .. }) {
        return if parts.is_empty() { "-".to_owned() } else { parts.join(" ") };
    }
    parts.join(" ")
}
