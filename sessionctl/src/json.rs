//! The JSON schema of sessions. Fields may be added; none changes its meaning without a new number in `schema`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;
use sessionkit::log::{
    Commit, ExecutionMode, FailureCause, ItemTotals, Origin, OwnerLoss, PersistedSession, SessionWorktree,
    StepTotals, Timestamp, WaitTotals, WorkHistory,
};
use sessionkit::manager::{Liveness, StorageError};
use sessionkit::text::{escape_bytes, is_unsafe_char};
use sessionkit::{ErrorCode, Head, SessionConfig, SessionId, SessionProgress, SessionState};

use crate::attachable_terminals::AttachableTerminals;
use crate::status::{Status, pending_request, status};
use crate::worktree_state::WorktreeState;

/// Version of the schema.
pub(crate) const SCHEMA: u32 = 1;

/// Serializes a value on one line, with characters escaped that would control a terminal.
pub(crate) fn line(value: &impl Serialize) -> String {
    escaped(serde_json::to_string(value).expect("our own types have string keys and no failing parts"))
}

/// Escapes the characters in a line of JSON that would control a terminal.
pub(crate) fn escaped(json: String) -> String {
    if !json.contains(is_unsafe_char) {
        return json;
    }
    let mut line = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        // In JSON they occur only within strings, where an escape has the same meaning.
        if is_unsafe_char(c) {
            let _ = write!(line, "\\u{:04x}", u32::from(c));
        } else {
            line.push(c);
        }
    }
    line
}

/// Serializes values as an array, one line each.
pub(crate) fn array(values: &[impl Serialize]) -> String {
    let lines: Vec<String> = values.iter().map(line).collect();
    if lines.is_empty() { "[]\n".to_owned() } else { format!("[\n{}\n]\n", lines.join(",\n")) }
}

/// A session.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Session {
    /// Version of this schema.
    schema: u32,
    /// The id.
    id: String,
    /// The name; not unique.
    name: Option<String>,
    /// The kind of work.
    operation: Option<String>,
    /// The program and its arguments, if it runs a program.
    command: Option<Vec<String>>,
    /// The program's working directory, else the project's path.
    cwd: Option<String>,
    /// The state in the log: `created`, `running`, `paused`, `completed`, `failed`, `cancelled`.
    state: Option<&'static str>,
    /// The state for people, with the liveness of the owner: the word of a [`Status`].
    status: &'static str,
    /// The pending request that the owner has not acted on yet: `cancel`, `pause` or `resume`.
    requested: Option<&'static str>,
    /// The reason of a pause or a cancellation.
    reason: Option<String>,
    /// The way in which it lost its owner, while it has no new one: `crashed`, `interrupted`, `stopped`, `dropped`.
    loss: Option<&'static str>,
    /// The failure, or the error that prevents reading the session.
    error: Option<Error>,
    /// Number of records in its log.
    revision: Option<u64>,
    /// 0 before the first start, one more with each owner.
    attempt: Option<u32>,
    /// The highest iteration started.
    iteration: Option<u64>,
    /// The last iteration completed.
    iterations_completed: Option<u64>,
    /// Limit of iterations.
    total_iterations: Option<u64>,
    /// The current phase of the work.
    phase: Option<String>,
    /// The progress of the work.
    progress: Option<Progress>,
    /// Its durable steps; null before the first one.
    steps: Option<Steps>,
    /// The items of its newest each; null before the first one.
    items: Option<Items>,
    /// The questions and the wake-up time that it waits for; null if it has no open question and no wake-up time.
    waits: Option<Waits>,
    /// The owner; null if no process owns the session.
    owner: Option<OwnerJson>,
    /// The terminal of its program, if it can be attached to on this machine.
    terminal: Option<TerminalJson>,
    created_at: Option<Timestamp>,
    started_at: Option<Timestamp>,
    updated_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
    /// Time spent running, over all attempts.
    duration_ms: Option<u64>,
    /// The exit code of the program that ran last.
    exit_code: Option<i32>,
    /// The signal that ended the program that ran last.
    signal: Option<i32>,
    /// Files changed, summed over the iterations.
    files_changed: Option<u64>,
    /// Lines added.
    lines_added: Option<u64>,
    /// Lines removed.
    lines_removed: Option<u64>,
    /// Commits made.
    commits: Option<u64>,
    /// Commands that ran to their end.
    commands: Option<u64>,
    /// Files, commits and commands by name, which takes reading the whole log: only `show` has them.
    history: Option<History>,
    /// The path of the git worktree of the session, else its name.
    worktree: Option<String>,
    /// The branch that was created with the worktree, if it was created for the session.
    worktree_branch: Option<String>,
    /// The id of the commit that it started at.
    worktree_base: Option<String>,
    /// The branch by which this commit was found.
    worktree_base_branch: Option<String>,
    /// The time of this commit.
    worktree_base_at: Option<Timestamp>,
    /// The state of the worktree that was created for the session, which takes calls of git: `wait` does not have it.
    worktree_state: Option<WorktreeState>,
    labels: BTreeMap<String, String>,
    /// Metadata given at creation.
    metadata: Value,
    /// The session inside which it was created.
    parent: Option<SessionId>,
    /// The ended session of which it is a retry.
    retry_of: Option<SessionId>,
}

#[derive(Debug, Serialize)]
struct Error {
    /// Message for people.
    message: String,
    /// `work`, `timeout`, `crash`, `spawn` or `panic`; the error code for a session that cannot be read.
    cause: &'static str,
}

#[derive(Debug, Serialize)]
struct Progress {
    /// 0 to 100.
    percent: Option<f64>,
    step: Option<String>,
    completed_steps: Option<u64>,
    total_steps: Option<u64>,
    eta_seconds: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Steps {
    /// Steps with a recorded end, those included that a retry took over.
    completed: u64,
    /// Failures and unknown ends.
    failed: u64,
    /// Steps that run, or that were running when the owner died.
    open: u64,
    /// The step that was started last.
    newest: Option<String>,
}

#[derive(Debug, Serialize)]
struct Waits {
    /// Questions without an answer; `answers` lists them.
    questions: u64,
    /// The name of the oldest one, cut to 64 bytes.
    oldest: Option<String>,
    /// The time at which that one was asked.
    asked_at: Option<Timestamp>,
    /// The wake-up time of the sleep that was started last.
    until: Option<Timestamp>,
}

impl Waits {
    fn of(head: &Head) -> Option<Self> {
        let WaitTotals { questions, oldest, until, .. } = &head.waits;
        let (questions, until, oldest) = (*questions, *until, oldest.first());
        (questions > 0 || until.is_some()).then(|| Self {
            questions,
            oldest: oldest.map(|oldest| oldest.name.clone()),
            asked_at: oldest.map(|oldest| oldest.at),
            until,
        })
    }
}

impl Steps {
    fn of(head: &Head) -> Option<Self> {
        let StepTotals { completed, failed, open, newest, .. } = head.steps.clone();
        (head.steps != StepTotals::default()).then_some(Self { completed, failed, open, newest })
    }
}

#[derive(Debug, Serialize)]
struct Items {
    /// Items with a recorded end, those of earlier inputs included.
    done: u64,
    /// Failures and unknown ends since the each was started last.
    failed: u64,
    /// Items that run, of every each, or that were running when the owner died.
    open: u64,
    /// The number of items; null before the input is read to its end.
    total: Option<u64>,
    /// The each that was started last.
    newest: Option<String>,
}

impl Items {
    fn of(head: &Head) -> Option<Self> {
        let ItemTotals { done, failed, open, total, newest, .. } = head.items.clone();
        (head.items != ItemTotals::default()).then_some(Self { done, failed, open, total, newest })
    }
}

/// Maximum number of files that are listed; `distinct_files` has their number.
const FILES: usize = 1000;

#[derive(Debug, Serialize)]
struct History {
    /// The number of distinct files that iterations named.
    distinct_files: u64,
    /// The first 1,000 of these files, by path.
    files: Vec<String>,
    /// Changed files that iterations counted without naming them.
    unnamed_files: u64,
    /// The last commits, oldest first.
    commits: Vec<Commit>,
    /// Commits that are not listed.
    other_commits: u64,
    /// The last commands, oldest first.
    commands: Vec<Executed>,
    /// Commands before these.
    earlier_commands: u64,
}

#[derive(Debug, Serialize)]
struct Executed {
    /// The time at which its end was recorded.
    at: Timestamp,
    command: String,
    exit_code: Option<i32>,
    signal: Option<i32>,
    duration_ms: u64,
    output_bytes: u64,
}

impl From<WorkHistory> for History {
    fn from(history: WorkHistory) -> Self {
        Self {
            distinct_files: history.distinct_files(),
            files: history.files.into_iter().take(FILES).collect(),
            unnamed_files: history.unnamed_files,
            commits: history.commits.into(),
            other_commits: history.other_commits,
            commands: history
                .commands
                .into_iter()
                .map(|executed| Executed {
                    at: executed.at,
                    command: executed.command,
                    exit_code: executed.exit_code,
                    signal: executed.signal,
                    duration_ms: executed.duration_ms,
                    output_bytes: executed.output_bytes,
                })
                .collect(),
            earlier_commands: history.earlier_commands,
        }
    }
}

#[derive(Debug, Serialize)]
struct OwnerJson {
    host: String,
    pid: u32,
    /// `alive`, `dead` or `unknown`.
    liveness: &'static str,
}

#[derive(Debug, Serialize)]
struct TerminalJson {
    /// `true` if a person may see it: a viewer at a terminal is attached.
    viewed: bool,
}

impl Session {
    /// Creates the JSON of a session at `now`. `liveness` is that of its owner, or of its creator before the first
    /// start.
    pub(crate) fn new(
        session: PersistedSession,
        liveness: Option<&Liveness>,
        terminals: &AttachableTerminals,
        now: Timestamp,
    ) -> Self {
        let PersistedSession { head, config, origin, state, worktree: made, .. } = session;
        let progress = SessionProgress::from_head(&head, now);
        let (reason, error) = reason_or_error(&state);
        // A worktree of its own is the project of the work.
        let path_of = |path: &Path| escape_bytes(path.as_os_str()).into_owned();
        let worktree = match (&config.mode, &config.project_path) {
            _ if made.is_some() => made.as_ref().map(|made| path_of(&made.plan.path)),
            (ExecutionMode::Worktree { .. }, Some(path)) if config.worktree.is_none() => {
                Some(escape_bytes(path.as_os_str()).into_owned())
            }
            _ => head.worktree.clone(),
        };
        let plan = made.as_ref().map(|made| &made.plan);
        let cwd = directory(&config, made.as_ref(), origin.as_ref());
        Self {
            schema: SCHEMA,
            id: head.id.to_string(),
            name: Some(config.name.unwrap_or_default()),
            operation: Some(config.operation),
            cwd: cwd.as_deref().map(path_of),
            command: origin
                .map(|origin| origin.argv.iter().map(|arg| escape_bytes(arg).into_owned()).collect()),
            state: Some(state.name().name()),
            status: status(&head, liveness).name(),
            requested: pending_request(&head),
            reason,
            loss: head.lifecycle.loss.map(OwnerLoss::name),
            error,
            revision: Some(head.tip.revision),
            attempt: Some(head.lifecycle.attempt),
            iteration: Some(head.lifecycle.iteration),
            iterations_completed: Some(head.lifecycle.iterations_completed),
            total_iterations: head.max_iterations,
            phase: progress.phase,
            progress: Some(Progress {
                percent: progress.percent,
                step: progress.step,
                completed_steps: progress.completed_steps,
                total_steps: progress.total_steps,
                eta_seconds: progress.eta_seconds,
            }),
            steps: Steps::of(&head),
            items: Items::of(&head),
            waits: Waits::of(&head),
            owner: owner(&head, liveness),
            terminal: terminals.viewed(&head).map(|viewed| TerminalJson { viewed }),
            created_at: Some(head.created_at),
            started_at: head.started_at,
            updated_at: Some(head.updated_at),
            ended_at: head.ended_at,
            duration_ms: Some(progress.duration_ms),
            exit_code: head.exit_code,
            signal: head.signal,
            files_changed: Some(progress.files_changed),
            lines_added: Some(progress.lines_added),
            lines_removed: Some(progress.lines_removed),
            commits: Some(progress.commits),
            commands: Some(progress.commands),
            history: None,
            worktree,
            worktree_branch: plan.map(|plan| plan.branch.clone()),
            worktree_base: plan.map(|plan| plan.base.clone()),
            worktree_base_branch: plan.and_then(|plan| plan.base_branch.clone()),
            worktree_base_at: plan.map(|plan| plan.base_at),
            worktree_state: None,
            labels: config.labels,
            metadata: config.metadata,
            parent: config.parent,
            retry_of: config.retry_of,
        }
    }

    /// Adds the work that the log documents by name.
    pub(crate) fn with_history(mut self, history: Option<WorkHistory>) -> Self {
        self.history = history.map(History::from);
        self
    }

    /// Adds the state of its worktree.
    pub(crate) fn with_worktree_state(mut self, state: Option<WorktreeState>) -> Self {
        self.worktree_state = state;
        self
    }

    /// Creates the JSON of a session that exists and cannot be read. Left out, it would seem not to exist.
    pub(crate) fn unreadable(id: SessionId, error: &StorageError) -> Self {
        let error = Error { message: error.to_string(), cause: error.code().as_str() };
        let status = Status::Unreadable.name();
        Self { schema: SCHEMA, id: id.to_string(), status, error: Some(error), ..Self::default() }
    }
}

/// Returns the directory in which the program runs, else that of the project.
pub(crate) fn directory(
    config: &SessionConfig,
    made: Option<&SessionWorktree>,
    origin: Option<&Origin>,
) -> Option<PathBuf> {
    if let Some(SessionWorktree { plan, .. }) = made {
        let inside = config.worktree.as_ref().and_then(|wanted| wanted.dir.as_ref());
        return Some(inside.map_or_else(|| plan.path.clone(), |dir| plan.path.join(dir)));
    }
    origin.map(|origin| origin.cwd.clone()).or_else(|| config.project_path.clone())
}

fn reason_or_error(state: &SessionState) -> (Option<String>, Option<Error>) {
    match state {
        SessionState::Paused { reason } => (Some(reason.to_string()), None),
        SessionState::Cancelled { reason } => (Some(reason.clone()), None),
        SessionState::Failed { error } => {
            let cause = match error.cause {
                FailureCause::Work => "work",
                FailureCause::Timeout => "timeout",
                FailureCause::Crash => "crash",
                FailureCause::Spawn => "spawn",
                FailureCause::Panic => "panic",
                _ => "other",
            };
            (None, Some(Error { message: error.message.clone(), cause }))
        }
        SessionState::Created | SessionState::Running { .. } | SessionState::Completed { .. } => (None, None),
    }
}

fn owner(head: &Head, liveness: Option<&Liveness>) -> Option<OwnerJson> {
    let owner = head.lifecycle.owner.as_ref()?;
    let liveness = match liveness {
        Some(Liveness::Alive) => "alive",
        Some(Liveness::Dead { .. }) => "dead",
        _ => "unknown",
    };
    Some(OwnerJson { host: owner.host.clone(), pid: owner.pid, liveness })
}

/// The outcome for one session: an item of the reports of `recover`, `rm` and `migrate`.
#[derive(Debug, Serialize)]
pub(crate) struct SessionOutcome {
    /// The session.
    pub(crate) id: SessionId,
    /// The new state of the session, or `failed`.
    pub(crate) outcome: String,
    /// The error code, if it failed.
    pub(crate) code: Option<&'static str>,
    /// The error message, if it failed.
    pub(crate) message: Option<String>,
}

impl SessionOutcome {
    pub(crate) fn new(id: SessionId, outcome: impl Into<String>) -> Self {
        Self { id, outcome: outcome.into(), code: None, message: None }
    }

    pub(crate) fn failed(id: SessionId, code: ErrorCode, message: impl Into<String>) -> Self {
        Self { id, outcome: "failed".to_owned(), code: Some(code.as_str()), message: Some(message.into()) }
    }
}
