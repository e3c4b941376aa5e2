//! A session as a short page for people.

use std::fmt::Write as _;
use std::time::Duration;

use sessionkit::log::{
    ExecutedCommand, ItemTotals, PersistedSession, ProgressReport, StepTotals, Timestamp, WorkHistory,
    WorktreePlan,
};
use sessionkit::manager::Liveness;
use sessionkit::text::{escape_bytes, visible};
use sessionkit::{Head, SessionProgress, SessionState, format_progress};

use super::{age, duration};
use crate::json::directory;
use crate::quoting::quoted_os;
use crate::status::{Status, pending_request, status};
use crate::term::Term;

/// Columns of the progress line if stdout is not a terminal.
const COLUMNS: usize = 80;
/// Files, commits and commands that a page names.
const NAMED: usize = 10;
/// Columns of the headings.
const NAMES: usize = 10;

/// Formats a session at `now`. `viewed` is whether its terminal has a viewer, if it has a terminal.
pub(crate) fn session(
    shown: &PersistedSession,
    liveness: Option<&Liveness>,
    viewed: Option<bool>,
    now: Timestamp,
    term: &Term,
) -> String {
    let PersistedSession { head, config, origin, state, worktree, .. } = shown;
    let mut page = Page { text: String::new(), term };
    let status = status(head, liveness);
    let name = config.name.as_deref().unwrap_or_default();
    let _ =
        writeln!(page.text, "{}  {}", term.heading(&visible(name)), term.tint(status.sgr(), status.name()));
    page.line("id", &head.id.to_string());
    match state {
        SessionState::Failed { error } => page.line("error", &error.to_string()),
        SessionState::Cancelled { reason } => page.line("reason", reason),
        SessionState::Paused { reason } => page.line("reason", &reason.to_string()),
        SessionState::Completed { summary } => page.optional("result", summary.message.as_deref()),
        SessionState::Created | SessionState::Running { .. } => {}
    }
    page.optional("requested", pending_request(head));
    match origin {
        Some(origin) => {
            let args: Vec<String> = origin.argv.iter().map(|arg| quoted_os(arg)).collect();
            page.line("command", &args.join(" "));
            let directory = directory(config, worktree.as_ref(), Some(origin)).unwrap_or_default();
            page.line("directory", &escape_bytes(directory.as_os_str()));
            page.optional("on ask", origin.on_ask.as_ref().map(|hook| hook.command.as_str()));
        }
        None => page.line("operation", &config.operation),
    }
    if let Some(made) = worktree {
        page.line("branch", &branch(&made.plan, now));
    }
    if let Some(owner) = &head.lifecycle.owner {
        let alive = match liveness {
            Some(Liveness::Alive) => "alive".to_owned(),
            Some(Liveness::Dead { evidence }) => format!("dead: {evidence}"),
            _ => "liveness unknown".to_owned(),
        };
        page.line("owner", &format!("{owner} ({alive})"));
    } else if let (Some(creator), Some(Liveness::Dead { evidence })) = (&head.creator, liveness) {
        page.line("creator", &format!("{creator} (dead: {evidence})"));
    }
    page.optional("terminal", viewed.map(|viewed| if viewed { "viewed" } else { "no viewer" }));
    let mut progress = SessionProgress::from_head(head, now);
    // The page names it above.
    progress.operation.clear();
    // Durable steps, the progress of a session that reports none, have a line of their own.
    if progress.percent.is_some() || head.progress != ProgressReport::default() {
        page.line(
            "progress",
            &format_progress(&progress, term.columns().unwrap_or(COLUMNS).saturating_sub(NAMES + 2)),
        );
    }
    page.optional("steps", steps(head, status).as_deref());
    page.optional("items", items(head, status).as_deref());
    if head.lifecycle.iteration > 0 {
        let of = head.max_iterations.map(|most| format!(" of {most}")).unwrap_or_default();
        page.line("iterations", &format!("{}{of} completed", head.lifecycle.iterations_completed));
    }
    page.line("created", &format!("{}, {} ago", head.created_at, age(now.since(head.created_at))));
    if let Some(ended) = head.ended_at {
        page.line("ended", &format!("{ended}, {} ago", age(now.since(ended))));
    }
    if head.lifecycle.attempt > 0 {
        let ran = duration(Duration::from_millis(progress.duration_ms));
        page.line("ran", &format!("{ran}, attempt {}", head.lifecycle.attempt));
    }
    match (head.exit_code, head.signal) {
        (Some(code), _) => page.line("exit code", &code.to_string()),
        (None, Some(signal)) => page.line("signal", &signal.to_string()),
        (None, None) => {}
    }
    for (key, value) in &config.labels {
        page.line("label", &format!("{key}={value}"));
    }
    page.optional("parent", config.parent.map(|id| id.to_string()).as_deref());
    page.optional("retry of", config.retry_of.map(|id| id.to_string()).as_deref());
    page.line("revision", &head.tip.revision.to_string());
    page.text
}

/// Describes the branch of a worktree: `feature/fix, from main (0f1e2d3c4b5a, 3d old)`.
fn branch(plan: &WorktreePlan, now: Timestamp) -> String {
    let WorktreePlan { branch, base, base_branch, base_at, .. } = plan;
    let commit: String = base.chars().take(12).collect();
    let age = age(now.since(*base_at));
    match base_branch {
        Some(from) => format!("{branch}, from {from} ({commit}, {age} old)"),
        None => format!("{branch}, from {commit} ({age} old)"),
    }
}

/// Formats the state of a session's worktree, as a line of its page.
pub(crate) fn worktree(sentence: &str, term: &Term) -> String {
    let mut page = Page { text: String::new(), term };
    page.line("worktree", sentence);
    page.text
}

/// Formats for what a session waits, as a line of its page.
pub(crate) fn waits(sentence: &str, term: &Term) -> String {
    let mut page = Page { text: String::new(), term };
    page.line("waits", sentence);
    page.text
}

/// Formats the work that the log of a session documents by name, as lines of its page. The commands of a session that
/// runs a program are that program itself, which the page shows.
pub(crate) fn history(head: &Head, history: &WorkHistory, term: &Term) -> String {
    let mut page = Page { text: String::new(), term };
    let totals = &head.totals;
    if totals.files_changed > 0 {
        let unnamed = match history.unnamed_files {
            0 => String::new(),
            unnamed => format!(", {unnamed} changes of files without names"),
        };
        let (added, removed) = (totals.lines_added, totals.lines_removed);
        let distinct = history.distinct_files();
        page.line("files", &format!("{distinct} named{unnamed}; {added} lines added, {removed} removed"));
        page.list(history.files.iter().take(NAMED).cloned(), distinct);
    }
    if totals.commits > 0 {
        page.line("commits", &totals.commits.to_string());
        let last = history.commits.iter().rev().take(NAMED);
        page.list(last.map(|commit| format!("{} {}", commit.id, commit.subject)), totals.commits);
    }
    if totals.commands > 0 && head.command.is_none() {
        page.line("commands", &format!("{}, {} failed", totals.commands, totals.commands_failed));
        let last = history.commands.iter().rev().take(NAMED);
        page.list(last.map(executed), totals.commands);
    }
    page.text
}

/// Returns the numbers of durable steps, and the one that was started last.
fn steps(head: &Head, status: Status) -> Option<String> {
    if head.steps == StepTotals::default() {
        return None;
    }
    let StepTotals { completed, failed, open, newest, .. } = &head.steps;
    let mut parts = vec![format!("{completed} completed")];
    parts.extend(not_done(head, status, *failed, *open));
    parts.extend(newest.as_ref().map(|newest| format!("newest {newest}")));
    Some(parts.join(", "))
}

/// Returns the numbers of items of the each that was started last.
fn items(head: &Head, status: Status) -> Option<String> {
    if head.items == ItemTotals::default() {
        return None;
    }
    let ItemTotals { done, failed, open, total, newest, .. } = &head.items;
    let total = total.map_or_else(|| "?".to_owned(), |total| total.to_string());
    let mut parts = vec![format!("{done} of {total} done")];
    parts.extend(not_done(head, status, *failed, *open));
    parts.extend(newest.as_ref().map(|newest| format!("newest {newest}")));
    Some(parts.join(", "))
}

/// Returns the numbers of failed and open steps or items.
fn not_done(head: &Head, status: Status, failed: u64, open: u64) -> Vec<String> {
    let may_have_happened = head.state().is_final() || status.is_lost();
    let failed = (failed > 0).then(|| format!("{failed} failed"));
    let what = if may_have_happened { "may have happened" } else { "running" };
    failed.into_iter().chain((open > 0).then(|| format!("{open} {what}"))).collect()
}

fn executed(command: &ExecutedCommand) -> String {
    let end = match (command.exit_code, command.signal) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "ended".to_owned(),
    };
    format!("{} ({end}, {})", command.command, duration(Duration::from_millis(command.duration_ms)))
}

/// Formats a page with a title (name and status), a sentence, and lines with headings.
pub(crate) fn page(
    (name, status): (&str, Status),
    sentence: &str,
    lines: &[(String, String)],
    term: &Term,
) -> String {
    let mut page = Page { text: String::new(), term };
    let _ =
        writeln!(page.text, "{}  {}", term.heading(&visible(name)), term.tint(status.sgr(), status.name()));
    let _ = writeln!(page.text, "{}", visible(sentence));
    for (heading, line) in lines {
        page.line(heading, line);
    }
    page.text
}

struct Page<'a> {
    text: String,
    term: &'a Term,
}

impl Page<'_> {
    fn line(&mut self, name: &str, value: &str) {
        let name = self.term.heading(&format!("{name:<NAMES$}"));
        let _ = writeln!(self.text, "{name}  {}", visible(value));
    }

    /// Appends lines without headings, and the number of items that are not among them.
    fn list(&mut self, items: impl Iterator<Item = String>, all: u64) {
        let mut shown = 0;
        for item in items {
            self.line("", &item);
            shown += 1;
        }
        let more = all.saturating_sub(shown);
        if shown > 0 && more > 0 {
            self.line("", &format!("and {more} more"));
        }
    }

    fn optional(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.line(name, value);
        }
    }
}
