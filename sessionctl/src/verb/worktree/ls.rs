//! `worktree ls`: lists the worktrees of sessions in a repository, and what was kept of removed ones.

use std::collections::BTreeMap;

use serde::Serialize;
use sessionkit::backend::blocking;
use sessionkit::log::Timestamp;
use sessionkit::worktree::{Leftover, TrashEntry, Worktree, WorktreeError, Worktrees};
use sessionkit::{Head, SessionFilter, SessionId};

use super::target::open;
use crate::args::Repo;
use crate::context::Context;
use crate::error::Result;
use crate::json::{self, SCHEMA};
use crate::render::{Table, age, short, size};
use crate::verb::{now, status_of};
use crate::worktree_state::{WorktreeState, path_of};

/// A worktree, as JSON.
#[derive(Debug, Default, Serialize)]
struct Row {
    schema: u32,
    /// The session that it was created for.
    session: String,
    /// Its name, if the store has it.
    session_name: Option<String>,
    /// Its status, if the store has it.
    session_status: Option<&'static str>,
    /// The name of the worktree.
    name: Option<String>,
    base: Option<String>,
    base_branch: Option<String>,
    base_at: Option<Timestamp>,
    #[serde(flatten)]
    now: WorktreeState,
    /// The entry in the trash.
    entry: Option<String>,
    /// The number of paths that only the trash keeps.
    unkept: Option<u64>,
    /// The number of snapshots of the session.
    snapshots: usize,
    /// The mark of the worktree.
    #[serde(skip)]
    mark: Option<String>,
}

pub(super) async fn run(args: &Repo, context: &Context) -> Result<u8> {
    let store = context.open().await?;
    let worktrees = open(args.repo.as_deref()).await?;
    let heads = store.manager().list_sessions(SessionFilter::all()).await?.heads;
    let heads: BTreeMap<SessionId, Head> = heads.into_iter().map(|head| (head.id, head)).collect();
    let bases: BTreeMap<SessionId, String> =
        heads.iter().filter_map(|(id, head)| Some((*id, head.place.as_ref()?.base.clone()))).collect();
    let mut rows = blocking(move || rows(&worktrees, &bases)).await?;
    // By their creation: the last session in a worktree is the one that matters.
    let mut last: BTreeMap<&str, &Head> = BTreeMap::new();
    let mut by_time: Vec<&Head> = heads.values().collect();
    by_time.sort_by_key(|head| head.created_at);
    last.extend(by_time.iter().filter_map(|head| Some((head.place.as_ref()?.mark.as_deref()?, *head))));
    for row in &mut rows {
        let named = row.session.parse().ok().and_then(|id: SessionId| heads.get(&id));
        let Some(head) = row.mark.as_deref().and_then(|mark| last.get(mark).copied()).or(named) else {
            continue;
        };
        row.session_name = Some(head.name.clone());
        row.session_status = Some(status_of(&**store.manager(), head).await.0.name());
        if let Some(made) =
            store.manager().restore_session(head.id).await.ok().and_then(|stored| stored.worktree)
        {
            row.base = Some(made.plan.base);
            row.base_branch = made.plan.base_branch;
            row.base_at = Some(made.plan.base_at);
        }
    }
    if context.term.json {
        context.term.print(&json::array(&rows))?;
    } else if rows.is_empty() {
        let next = ["run", "--worktree", "--", "CMD"];
        context.hint("no session has a worktree in this repository", &[], &next);
    } else {
        context.term.print(&table(&rows, now()).render(&context.term))?;
    }
    Ok(0)
}

fn rows(worktrees: &Worktrees, bases: &BTreeMap<SessionId, String>) -> Result<Vec<Row>, WorktreeError> {
    let mut rows: Vec<Row> = Vec::new();
    for worktree in worktrees.list()? {
        rows.push(present(worktrees, &worktree, bases.get(&worktree.session()).map(String::as_str)));
    }
    rows.extend(worktrees.lost()?.iter().map(lost));
    rows.extend(worktrees.trash()?.iter().map(|entry| removed(worktrees, entry)));
    rows.extend(worktrees.leftovers()?.iter().map(|leftover| rolled_back(worktrees, leftover)));
    for (session, kept) in worktrees.snapshot_summaries()? {
        let (session, snapshots) = (session.to_string(), kept.count);
        let mut known = rows.iter_mut().filter(|row| row.session == session).peekable();
        if known.peek().is_none() {
            let changes = format!("{snapshots} snapshots");
            rows.push(Row {
                schema: SCHEMA,
                name: Some(kept.name),
                session,
                snapshots,
                now: WorktreeState { state: "snapshots", changes, ..WorktreeState::default() },
                ..Row::default()
            });
        } else {
            known.for_each(|row| row.snapshots = snapshots);
        }
    }
    Ok(rows)
}

fn present(worktrees: &Worktrees, worktree: &Worktree, base: Option<&str>) -> Row {
    let now = match worktrees.status(worktree, base) {
        Ok(status) => {
            WorktreeState::present(worktree, &status, base.is_some(), Some(worktrees.disk_bytes(worktree)))
        }
        Err(error) => {
            let (path, changes) = (Some(path_of(worktree.path())), error.to_string());
            WorktreeState { path, changes, ..WorktreeState::failed(&error) }
        }
    };
    Row {
        schema: SCHEMA,
        session: worktree.session().to_string(),
        name: name_of(worktree.path()),
        mark: Some(worktree.record().mark),
        now,
        ..Row::default()
    }
}

fn lost(worktree: &Worktree) -> Row {
    let now = WorktreeState {
        state: "gone",
        path: Some(path_of(worktree.path())),
        branch: worktree.branch().ok().flatten(),
        changes: "its directory was deleted".to_owned(),
        ..WorktreeState::default()
    };
    Row {
        schema: SCHEMA,
        session: worktree.session().to_string(),
        name: name_of(worktree.path()),
        mark: Some(worktree.record().mark),
        now,
        ..Row::default()
    }
}

fn removed(worktrees: &Worktrees, entry: &TrashEntry) -> Row {
    let changes = match entry.pin.unkept_paths {
        0 => String::new(),
        paths => format!("{paths} paths only here"),
    };
    let disk_bytes = Some(worktrees.trash_bytes(entry));
    Row {
        schema: SCHEMA,
        session: entry.session.to_string(),
        name: name_of(&entry.path),
        entry: Some(entry.id.clone()),
        mark: Some(entry.mark.clone()),
        unkept: Some(entry.pin.unkept_paths),
        now: WorktreeState { disk_bytes, changes, ..WorktreeState::in_trash(entry) },
        ..Row::default()
    }
}

fn rolled_back(worktrees: &Worktrees, leftover: &Leftover) -> Row {
    Row {
        schema: SCHEMA,
        session: leftover.session.to_string(),
        name: name_of(&leftover.path),
        entry: Some(leftover.id.clone()),
        now: WorktreeState {
            state: "rolled_back",
            path: Some(path_of(&leftover.path)),
            disk_bytes: Some(worktrees.leftover_bytes(leftover)),
            removed_at: Some(leftover.at),
            ..WorktreeState::default()
        },
        ..Row::default()
    }
}

fn name_of(path: &std::path::Path) -> Option<String> {
    path.file_name().map(|name| name.to_string_lossy().into_owned())
}

fn table(rows: &[Row], now: Timestamp) -> Table {
    let mut table = Table::new(&["SESSION", "NAME", "STATE", "BRANCH", "CHANGES", "DISK", "PATH"]);
    for row in rows {
        let id = row.session.parse().map_or_else(|_| row.session.clone(), short);
        let state = match (row.now.state, row.session_status, row.now.removed_at) {
            ("present", Some(status), _) => status.to_owned(),
            ("removed", _, Some(at)) => format!("removed {} ago", age(now.since(at))),
            (state, ..) => state.to_owned(),
        };
        let text = |text: &Option<String>| (text.clone().unwrap_or_default(), "");
        table.row(vec![
            (id, ""),
            text(&row.name),
            (state, ""),
            text(&row.now.branch),
            (row.now.changes.clone(), ""),
            (row.now.disk_bytes.map(size).unwrap_or_default(), ""),
            text(&row.now.path),
        ]);
    }
    table
}
