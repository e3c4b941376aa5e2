//! `worktree`: lists, removes and restores the git worktrees of sessions.

mod ls;
mod merge;
mod selection;
mod target;
mod upkeep;

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use serde::Serialize;
use sessionkit::backend::blocking;
use sessionkit::chrono::DateTime;
use sessionkit::log::Timestamp;
use sessionkit::text::visible;
use sessionkit::worktree::{
    self, BranchOutcome, EntryState, MergeProof, RemoveOptions, RemovedWorktree, TrashEntry, Worktree,
};
use sessionkit::{ErrorCode, SessionId};

pub(crate) use self::upkeep::{has_one, purge_old, recover, remove_clean, remove_with};

use self::selection::{Selected, Selection};
use self::target::{Target, nothing_kept, open};
use crate::args::{Diff, One, Purge, Restore, RmWorktree, Snapshots, WorktreeAction};
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::json::{self, SCHEMA};
use crate::render::{Styles, Table, Visible, local_time, size};

pub(crate) async fn run(action: &WorktreeAction, context: &Context) -> Result<u8> {
    match action {
        WorktreeAction::Ls(args) => ls::run(args, context).await,
        WorktreeAction::Path(args) => path(args, context).await,
        WorktreeAction::Diff(args) => diff(args, context).await,
        WorktreeAction::Rm(args) => Box::pin(rm(args, context)).await,
        WorktreeAction::Merge(args) => merge::run(args, context).await,
        WorktreeAction::Restore(args) => restore(args, context).await,
        WorktreeAction::Snapshots(args) => snapshots(args, context).await,
        WorktreeAction::Purge(args) => purge(args, context).await,
        WorktreeAction::Unlock(args) => unlock(args, context).await,
    }
}

#[derive(Serialize)]
struct PathJson<'a> {
    schema: u32,
    session: SessionId,
    path: &'a str,
}

/// Prints a path, as JSON if that is asked for. For `cd`, it is printed as it is, unless a person reads it.
fn print_path(context: &Context, session: SessionId, path: &Path) -> Result<()> {
    if context.term.json {
        let path = path.to_string_lossy();
        return context
            .term
            .print(&format!("{}\n", json::line(&PathJson { schema: SCHEMA, session, path: &path })));
    }
    if context.term.is_terminal {
        return context.term.print(&format!("{}\n", visible(&path.to_string_lossy())));
    }
    context.term.print_bytes(&[path.as_os_str().as_bytes(), b"\n"].concat())
}

async fn path(args: &One, context: &Context) -> Result<u8> {
    let target = Target::find(context, &args.id, args.repo.repo.as_deref()).await?;
    let worktree = target.locate().await?;
    print_path(context, target.session, worktree.path())?;
    Ok(0)
}

async fn diff(args: &Diff, context: &Context) -> Result<u8> {
    let target = Target::find(context, &args.one.id, args.one.repo.repo.as_deref()).await?;
    let worktree = target.locate().await?;
    let (worktrees, stat) = (target.worktrees.clone(), args.stat);
    let base = target.base();
    let (changes, status) = blocking(move || {
        let status = worktrees.status(&worktree, None)?;
        let head = "HEAD".to_owned();
        Ok::<_, worktree::WorktreeError>((
            worktrees.diff(&worktree, base.as_ref().unwrap_or(&head), stat)?,
            status,
        ))
    })
    .await?;
    if context.term.is_terminal {
        let mut shown = Visible::new(Styles::Strip);
        context.term.print(&shown.show(&changes))?;
        context.term.print(&shown.finish())?;
    } else {
        context.term.print_bytes(&changes)?;
    }
    if status.untracked > 0 {
        let text = format!("{} untracked files are not shown", status.untracked);
        context.hint(&text, &[target.session], &["worktree", "path", &target.session.to_string()]);
    }
    Ok(0)
}

/// The outcome of a removal.
#[derive(Serialize)]
struct Removed {
    schema: u32,
    session: SessionId,
    /// `removed`, `would_be_removed`, `left` or `failed`.
    outcome: &'static str,
    path: Option<String>,
    /// The entry in the trash.
    entry: Option<String>,
    /// The ref that keeps its content.
    snapshot: Option<String>,
    /// The number of paths that only the trash keeps.
    unkept: u64,
    branch: Option<String>,
    /// `kept`, `deleted` or the reason why it was not deleted.
    branch_outcome: Option<String>,
    /// The proof that another branch has everything that its branch brought; null if none was looked for.
    merged: Option<MergeProof>,
    code: Option<&'static str>,
    message: Option<String>,
}

impl Removed {
    fn new(session: SessionId, outcome: &'static str) -> Self {
        Self {
            schema: SCHEMA,
            session,
            outcome,
            path: None,
            entry: None,
            snapshot: None,
            unkept: 0,
            branch: None,
            branch_outcome: None,
            merged: None,
            code: None,
            message: None,
        }
    }

    /// A worktree that a selection leaves.
    fn left(session: SessionId, worktree: &Worktree, reason: String) -> Self {
        let path = Some(worktree.path().to_string_lossy().into_owned());
        Self { path, message: Some(reason), ..Self::new(session, "left") }
    }

    fn of(session: SessionId, removed: &RemovedWorktree, options: RemoveOptions) -> Self {
        let TrashEntry { id, path, pin, branch, .. } = &removed.entry;
        Self {
            path: Some(path.to_string_lossy().into_owned()),
            entry: Some(id.clone()),
            snapshot: Some(pin.name.clone()),
            unkept: pin.unkept_paths,
            branch: branch.clone(),
            branch_outcome: branch_outcome(&removed.branch, options),
            merged: removed.entry.merged.clone(),
            ..Self::new(session, "removed")
        }
    }
}

/// Describes what became of a branch; `None` if there was none, and none was to be deleted.
fn branch_outcome(outcome: &BranchOutcome, options: RemoveOptions) -> Option<String> {
    match outcome {
        BranchOutcome::None if options.delete_branch => Some("none deleted: none was checked out".to_owned()),
        BranchOutcome::None => None,
        BranchOutcome::Deleted => Some("deleted".to_owned()),
        BranchOutcome::CheckedOut(path) => Some(format!("kept: {} has it checked out", path.display())),
        BranchOutcome::Refused(reason) => Some(format!("kept: {reason}")),
        BranchOutcome::Kept | _ => Some("kept".to_owned()),
    }
}

async fn rm(args: &RmWorktree, context: &Context) -> Result<u8> {
    let mut options = RemoveOptions::new();
    (options.delete_branch, options.in_use) = (args.delete_branch, args.in_use);
    options.delete_merged_branch = args.merged;
    let (mut targets, mut outcomes, mut first) = (Vec::new(), Vec::new(), None);
    for id in &args.ids {
        targets.push(Target::find(context, id, args.repo.repo.as_deref()).await?);
    }
    if args.merged || args.older_than.is_some() {
        let (store, worktrees) = (context.open().await?, open(args.repo.repo.as_deref()).await?);
        let selection = Selection { merged: args.merged, older_than: args.older_than };
        for Selected { target, worktree, stays } in selection.apply(&store, &worktrees).await? {
            match stays {
                None => targets.push(target),
                Some(reason) => outcomes.push(Removed::left(target.session, &worktree, reason)),
            }
        }
    }
    for target in targets {
        let removed = if args.dry_run { target.removable().await } else { target.remove(options).await };
        outcomes.push(match removed {
            Ok(Some(removed)) => Removed::of(target.session, &removed, options),
            Ok(None) => {
                let path = target.locate().await.ok().map(|worktree| worktree.path().display().to_string());
                Removed { path, ..Removed::new(target.session, "would_be_removed") }
            }
            Err(failure) => {
                let (code, message) =
                    (failure.code().map(ErrorCode::as_str), failure.message().map(str::to_owned));
                first.get_or_insert(failure.about(target.session));
                Removed { code, message, ..Removed::new(target.session, "failed") }
            }
        });
    }
    if context.term.json {
        context.term.print(&json::array(&outcomes))?;
    } else {
        let lines: String = outcomes.iter().filter_map(removal_line).collect();
        context.term.print(&lines)?;
    }
    if let Some(Removed { session, .. }) = outcomes.iter().find(|outcome| outcome.outcome == "removed") {
        context.hint(
            "all of it is in the trash",
            &[*session],
            &["worktree", "restore", &session.to_string()],
        );
    }
    first.map_or(Ok(0), Err)
}

fn removal_line(removed: &Removed) -> Option<String> {
    let path = visible(removed.path.as_deref()?).into_owned();
    match (removed.outcome, &removed.message) {
        ("would_be_removed", _) => return Some(format!("{path}  would be removed\n")),
        ("left", Some(reason)) => return Some(format!("{path}  left: {}\n", visible(reason))),
        _ => {}
    }
    let branch = match (&removed.branch, &removed.branch_outcome) {
        (Some(branch), Some(outcome)) => format!(", branch {branch} {outcome}"),
        (None, Some(outcome)) => format!(", branch: {outcome}"),
        _ => String::new(),
    };
    let unkept = match removed.unkept {
        0 => String::new(),
        paths => format!(", {paths} paths are only in the trash"),
    };
    let snapshot = removed.snapshot.as_deref().unwrap_or_default();
    Some(format!("{path}  removed, kept as {snapshot}{unkept}{}\n", visible(&branch)))
}

async fn restore(args: &Restore, context: &Context) -> Result<u8> {
    let (id, number) = match args.id.rsplit_once('@') {
        Some((id, number)) if !id.is_empty() => {
            let number = number
                .parse()
                .map_err(|_| Failure::invalid(format!("`{number}` is no number of a snapshot")))?;
            (id, Some(number))
        }
        _ => (args.id.as_str(), None),
    };
    let target = Target::find(context, id, args.repo.repo.as_deref()).await?;
    let to = args.to.as_ref().map(std::path::absolute).transpose();
    let to = to.map_err(|error| Failure::invalid(format!("--to: {error}")))?;
    let worktrees = target.worktrees.clone();
    let restored = if let Some(number) = number {
        let (creator, path) = (target.creator().await?, target.place_for(to, number)?);
        blocking(move || worktrees.restore_snapshot(creator, number, &path)).await
    } else {
        let entry = target.last_removed().await?;
        blocking(move || worktrees.restore(&entry.id, to.as_deref())).await
    };
    let restored = restored.map_err(|error| Failure::from(error).about(target.session))?;
    print_path(context, target.session, restored.path())?;
    Ok(0)
}

#[derive(Serialize)]
struct SnapshotJson {
    schema: u32,
    session: SessionId,
    number: u64,
    commit: String,
    at: Timestamp,
}

async fn snapshots(args: &Snapshots, context: &Context) -> Result<u8> {
    let target = Target::find(context, &args.one.id, args.one.repo.repo.as_deref()).await?;
    let (worktrees, creator) = (target.worktrees.clone(), target.creator().await?);
    if let Some(number) = args.drop {
        blocking(move || worktrees.drop_snapshot(creator, number)).await?;
        return Ok(0);
    }
    let found = blocking(move || worktrees.snapshots(creator)).await?;
    let session = target.session;
    let found_none = found.is_empty();
    if found_none && !context.term.json {
        context.hint("it has no snapshot yet", &[session], &["worktree", "ls"]);
    }
    let row = |snapshot: worktree::Snapshot| SnapshotJson {
        schema: SCHEMA,
        session,
        number: snapshot.number,
        commit: snapshot.commit,
        at: Timestamp::new(DateTime::from_timestamp(snapshot.time, 0).unwrap_or_default()),
    };
    let rows: Vec<SnapshotJson> = found.into_iter().map(row).collect();
    if context.term.json {
        context.term.print(&json::array(&rows))?;
        return Ok(0);
    }
    let mut table = Table::new(&["NUMBER", "TIME", "COMMIT"]);
    for SnapshotJson { number, commit, at, .. } in rows {
        table.row(vec![(number.to_string(), ""), (local_time(at), ""), (commit, "")]);
    }
    if !found_none {
        context.term.print(&table.render(&context.term))?;
    }
    Ok(0)
}

#[derive(Serialize)]
struct Purged {
    schema: u32,
    session: SessionId,
    entry: String,
    /// The bytes that were freed; `null` if the entry was left.
    freed_bytes: Option<u64>,
}

async fn purge(args: &Purge, context: &Context) -> Result<u8> {
    let target = Target::find(context, &args.one.id, args.one.repo.repo.as_deref()).await?;
    let (entries, leftovers) = (target.removed().await?, target.leftovers().await?);
    if entries.is_empty() && leftovers.is_empty() {
        return Err(nothing_kept(&target));
    }
    let (mut purged, mut left) = (Vec::new(), None);
    let (schema, session) = (SCHEMA, target.session);
    for entry in entries {
        let (worktrees, id, all) = (target.worktrees.clone(), entry.id.clone(), args.all);
        let freed_bytes = blocking(move || worktrees.purge(&id, all)).await?;
        purged.push(Purged { schema, session, entry: entry.id.clone(), freed_bytes });
        match freed_bytes {
            Some(bytes) if !context.term.json => {
                let path = entry.path.display().to_string();
                context.term.print(&format!("{}  purged, {} freed\n", visible(&path), size(bytes)))?;
            }
            None if entry.state == EntryState::Removed => left = Some(entry),
            Some(_) | None => {}
        }
    }
    for leftover in leftovers {
        let (worktrees, entry) = (target.worktrees.clone(), leftover.id.clone());
        let freed_bytes = Some(blocking(move || worktrees.purge_leftover(&leftover)).await?);
        purged.push(Purged { schema, session, entry, freed_bytes });
    }
    if context.term.json {
        context.term.print(&json::array(&purged))?;
    }
    let Some(entry) = left else { return Ok(0) };
    let first = entry.pin.unkept.first().cloned().unwrap_or_default();
    let text = format!(
        "{} paths of {} are only in the trash, such as {first}",
        entry.pin.unkept_paths,
        entry.path.display()
    );
    let session = target.session.to_string();
    Err(Failure::new(ErrorCode::Conflict, text)
        .about(target.session)
        .next(&["worktree", "purge", "--all", &session]))
}

async fn unlock(args: &One, context: &Context) -> Result<u8> {
    let target = Target::find(context, &args.id, args.repo.repo.as_deref()).await?;
    let (worktrees, worktree) = (target.worktrees.clone(), target.locate().await?);
    let path = worktree.path().to_owned();
    blocking(move || worktrees.unlock(&worktree)).await?;
    print_path(context, target.session, &path)?;
    Ok(0)
}
