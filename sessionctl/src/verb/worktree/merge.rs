//! `worktree merge`: merges what is committed in a worktree into another branch.

use std::fmt::Write as _;

use serde::Serialize;
use sessionkit::text::visible;
use sessionkit::worktree::{MergeOptions, MergeOutcome, MergeStrategy, SessionWorktreeError, WorktreeError};
use sessionkit::{ErrorCode, SessionId};

use super::target::{Target, refusal};
use crate::args::Merge;
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::json::{self, SCHEMA};

/// The result of a merge, as JSON.
#[derive(Debug, Serialize)]
struct MergeJson {
    schema: u32,
    session: SessionId,
    /// `merged`, `would_merge`, `up_to_date` or `conflicts`.
    outcome: &'static str,
    /// The branch that was merged into.
    into: String,
    /// The commit that was merged.
    source: String,
    /// The commit that the branch pointed to.
    from: String,
    /// The commit that it points to now.
    to: Option<String>,
    /// Paths that both have changed.
    conflicts: Vec<String>,
}

pub(super) async fn run(args: &Merge, context: &Context) -> Result<u8> {
    let target = Target::find(context, &args.one.id, args.one.repo.repo.as_deref()).await?;
    let (session, id) = (target.session, target.session.to_string());
    let worktree = target.locate().await?;
    let merge = target.merge(&worktree, &options(args)).await.map_err(|error| refused(error, session))?;
    let (outcome, to, conflicts) = match merge.outcome {
        MergeOutcome::UpToDate => ("up_to_date", None, Vec::new()),
        MergeOutcome::Merged(commit) => ("merged", Some(commit), Vec::new()),
        MergeOutcome::Conflicts(paths) => ("conflicts", None, paths),
        MergeOutcome::WouldMerge | _ => ("would_merge", None, Vec::new()),
    };
    let report = MergeJson {
        schema: SCHEMA,
        session,
        outcome,
        into: merge.into,
        source: merge.source,
        from: merge.from,
        to,
        conflicts,
    };
    if context.term.json {
        context.term.print(&format!("{}\n", json::line(&report)))?;
    } else {
        context.term.print(&text(&report))?;
    }
    match report.outcome {
        "conflicts" => {
            let message = format!("{} files conflict with `{}`", report.conflicts.len(), report.into);
            let failure = Failure::new(ErrorCode::MergeConflict, message).about(session);
            Err(failure.next(&["worktree", "path", &id]))
        }
        "merged" => {
            context.hint("the worktree is not needed any more", &[session], &["worktree", "rm", &id]);
            Ok(0)
        }
        _ => Ok(0),
    }
}

fn options(args: &Merge) -> MergeOptions {
    let mut options = MergeOptions::new().strategy(match (args.squash, args.ff) {
        (true, _) => MergeStrategy::Squash,
        (false, true) => MergeStrategy::FastForward,
        (false, false) => MergeStrategy::Merge,
    });
    (options.into, options.message) = (args.into.clone(), args.message.clone());
    (options.committed_only, options.dry_run) = (args.committed, args.dry_run);
    options
}

fn text(report: &MergeJson) -> String {
    let short = |commit: &str| commit.chars().take(12).collect::<String>();
    let (into, source) = (visible(&report.into), short(&report.source));
    match (report.outcome, &report.to) {
        ("merged", Some(to)) => format!("{into}  {} -> {}\n", short(&report.from), short(to)),
        ("up_to_date", _) => format!("{into}  has {source} already\n"),
        ("conflicts", _) => {
            let mut lines = String::new();
            for path in &report.conflicts {
                let _ = writeln!(lines, "{}  conflict", visible(path));
            }
            lines
        }
        _ => format!("{into}  {source} would be merged into {}\n", short(&report.from)),
    }
}

/// Names the way out of a refused merge.
fn refused(error: SessionWorktreeError, session: SessionId) -> Failure {
    let id = session.to_string();
    let SessionWorktreeError::Worktree(refused) = &error else { return Failure::from(error) };
    let next: &[&str] = if let WorktreeError::Uncommitted { .. } = refused {
        &["worktree", "merge", "--committed", &id]
    } else if let WorktreeError::NoTarget { .. } = refused {
        &["worktree", "merge", "--into", "BRANCH", &id]
    } else if let WorktreeError::NotFastForward { .. } = refused {
        &["worktree", "merge", &id]
    } else {
        return refusal(error, session);
    };
    Failure::from(error).about(session).next(next)
}
