//! `ls`: lists the sessions of a store, newest first.

use sessionkit::log::Timestamp;
use sessionkit::manager::{Liveness, StorageError};
use sessionkit::{Head, SessionFilter, SessionManager, SessionProgress};

use crate::args::Ls;
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::render::{Table, age, short};
use crate::status::status;
use crate::{hints, json};

pub(crate) async fn run(args: &Ls, context: &Context) -> Result<u8> {
    let store = context.open().await?;
    let manager = &**store.manager();
    let filter = filter(args);
    let mut list = manager.list_sessions(filter).await?;
    list.heads.sort_by_key(|head| std::cmp::Reverse((head.created_at, head.id)));
    if let Some(limit) = args.limit {
        list.heads.truncate(limit.get());
    }
    let now = super::now();
    if context.term.json {
        print_json(context, manager, &list.heads, &list.unreadable, now).await?;
    } else if list.heads.is_empty() && list.unreadable.is_empty() {
        let filtered = !(args.states.is_empty() && args.labels.is_empty());
        let (text, next): (_, &[&str]) = if filtered {
            ("no sessions match", &["ls", "--all"])
        } else if args.all {
            ("no sessions yet", &["run", "--", "true"])
        } else {
            ("no active sessions", &["ls", "--all"])
        };
        context.hint(text, &[], next);
    } else {
        print_table(context, manager, &list.heads, &list.unreadable, now).await?;
    }
    hints::report_crashed(context, &store, None).await?;
    hints::report_unknown(context, &store).await?;
    // An unreadable session is a failure, even though all others were printed.
    match list.unreadable.into_iter().next() {
        Some((id, error)) => Err(Failure::from(error).about(id)),
        None => Ok(0),
    }
}

/// Returns the filter of the arguments. A state given by name is searched among all sessions, ended ones included.
fn filter(args: &Ls) -> SessionFilter {
    let filter = match args.states.as_slice() {
        [] if args.all => SessionFilter::all(),
        [] => SessionFilter::active(),
        states => states.iter().fold(SessionFilter::all(), |filter, state| filter.state(*state)),
    };
    args.labels.iter().fold(filter, |filter, (key, value)| filter.label(key, value))
}

async fn liveness(manager: &dyn SessionManager, head: &Head) -> Option<Liveness> {
    if head.state().is_final() { None } else { super::liveness(manager, head.id).await }
}

async fn print_json(
    context: &Context,
    manager: &dyn SessionManager,
    heads: &[Head],
    unreadable: &[(sessionkit::SessionId, StorageError)],
    now: Timestamp,
) -> Result<()> {
    let mut sessions = Vec::new();
    for head in heads {
        sessions.push(match manager.restore_session(head.id).await {
            Ok(session) => json::Session::new(session, liveness(manager, head).await.as_ref(), now),
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
    heads: &[Head],
    unreadable: &[(sessionkit::SessionId, StorageError)],
    now: Timestamp,
) -> Result<()> {
    let mut table = Table::new(&["ID", "NAME", "STATUS", "PROGRESS", "AGE", "COMMAND"]);
    for head in heads {
        let status = status(head, liveness(manager, head).await.as_ref());
        table.row(vec![
            (short(head.id), ""),
            (head.name.clone(), ""),
            (format!("{}{}", status.text, ending(head)), status.sgr),
            (progress(head, now), ""),
            (age(now.since(head.created_at)), ""),
            (head.command.clone().unwrap_or_else(|| head.operation.clone()), ""),
        ]);
    }
    for (id, error) in unreadable {
        let cells = [short(*id), String::new(), json::UNREADABLE.to_owned(), String::new(), String::new()];
        let mut row: Vec<(String, &str)> = cells.into_iter().map(|text| (text, "31")).collect();
        row.push((error.to_string(), ""));
        table.row(row);
    }
    context.term.print(&table.render(&context.term))
}

/// Formats the exit code or signal of a failed program.
fn ending(head: &Head) -> String {
    match (head.state(), head.exit_code, head.signal) {
        (sessionkit::SessionState::Failed { .. }, Some(code), _) => format!(" ({code})"),
        (sessionkit::SessionState::Failed { .. }, None, Some(signal)) => format!(" (signal {signal})"),
        _ => String::new(),
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
    if parts.is_empty() || matches!(head.state(), sessionkit::SessionState::Completed { .. }) {
        return if parts.is_empty() { "-".to_owned() } else { parts.join(" ") };
    }
    parts.join(" ")
}
