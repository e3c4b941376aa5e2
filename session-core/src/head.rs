//! The head: a small view of a session's current state. It is the fold of the log, with texts cut, and the only fold:
//! state, progress and summaries are derived from it.

mod fit;
mod steps;
mod worktree;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::steps::{ItemTotals, OpenQuestion, StepTotals, WaitTotals};
pub use self::worktree::WorktreePlace;

use crate::config::{ExecutionMode, SessionConfig};
use crate::event::{Origin, ProgressReport, Role, SessionEvent, SessionWorktree, WorktreePlan};
use crate::id::SessionId;
use crate::limits::HEAD_TEXT;
use crate::machine::{Lifecycle, SessionState, TransitionError};
use crate::owner::{Owner, OwnerLoss};
use crate::reason::SessionSummary;
use crate::record::{Record, Tip};
use crate::text::{cut, escape_bytes};
use crate::time::Timestamp;

/// The current view of a session, at most 4 KiB as JSON.
///
/// Texts are cut to 128 bytes as JSON, with control characters replaced by spaces; where all texts together are too long,
/// some are cut further. The log has the full texts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Head {
    /// The session.
    pub id: SessionId,
    /// The end of the log that this head covers.
    pub tip: Tip,
    /// The highest revision that is flushed according to the records of the log.
    pub flushed: u64,
    /// State, attempt, owner, iterations and requests.
    pub lifecycle: Lifecycle,
    /// The name.
    pub name: String,
    /// The kind of work.
    pub operation: String,
    /// The program and its arguments on one line, if the session runs a program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// The working directory of the program, else the path of the project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// The name of the worktree in which the work runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worktree: Option<String>,
    /// The worktree that was created for the session, or is about to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<WorktreePlace>,
    /// The labels, uncut.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The session inside which this one was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<SessionId>,
    /// The ended session that this one retries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<SessionId>,
    /// The process that created the session, until the first start. `None` for a queued session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creator: Option<Owner>,
    /// The maximum number of iterations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_iterations: Option<u64>,
    /// The time of creation.
    pub created_at: Timestamp,
    /// The time of the first start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// The time at which the last record was sealed.
    pub updated_at: Timestamp,
    /// The time of the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// The time up to which `ran_ms` counts: the last start, or the owner's last record since. `None` while not
    /// running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running_since: Option<Timestamp>,
    /// The time spent running up to `running_since`, in milliseconds.
    #[serde(default)]
    pub ran_ms: u64,
    /// The last reported progress. Steps and percent are the highest reported so far.
    #[serde(default)]
    pub progress: ProgressReport,
    /// The number of reports that advanced the progress.
    #[serde(default)]
    pub samples: u64,
    /// Totals over iterations and commands.
    #[serde(default)]
    pub totals: Totals,
    /// The steps.
    #[serde(default, skip_serializing_if = "StepTotals::is_empty")]
    pub steps: StepTotals,
    /// The items.
    #[serde(default, skip_serializing_if = "ItemTotals::is_empty")]
    pub items: ItemTotals,
    /// The questions and sleeps.
    #[serde(default, skip_serializing_if = "WaitTotals::is_empty")]
    pub waits: WaitTotals,
    /// The revision of the last checkpoint that the work can continue from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<u64>,
    /// The completed steps at that checkpoint, from which an attempt that continues there counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_steps: Option<u64>,
    /// The number of proven deaths since the last such checkpoint, completed iteration, completed step or completed item.
    #[serde(default)]
    pub deaths: u32,
    /// The exit code of the program that ran last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that ended the program that ran last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
}

/// Totals of a log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Totals {
    /// Commands that ran to their end.
    pub commands: u64,
    /// Commands that ended with anything but exit code 0.
    pub commands_failed: u64,
    /// Files changed, summed over the iterations.
    pub files_changed: u64,
    /// Lines added.
    pub lines_added: u64,
    /// Lines removed.
    pub lines_removed: u64,
    /// Commits made.
    pub commits: u64,
}

/// A fully loaded session: everything needed to show it, or to continue its work.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct PersistedSession {
    /// The current view.
    pub head: Head,
    /// The full configuration.
    pub config: SessionConfig,
    /// The program that the session runs.
    pub origin: Option<Origin>,
    /// The state, with its texts uncut.
    pub state: SessionState,
    /// The worktree that was created for the session.
    pub worktree: Option<SessionWorktree>,
    /// The worktree that is about to be created for it; `None` once it was.
    pub planned_worktree: Option<WorktreePlan>,
    /// The last checkpoint that the work can continue from.
    pub checkpoint: Option<Value>,
}

impl Head {
    /// Creates the head of a log with one record.
    ///
    /// # Errors
    /// [`TransitionError`] if the record is not a valid first record.
    pub fn begin(id: SessionId, record: &Record) -> Result<Self, TransitionError> {
        check_place(record, 1)?;
        let lifecycle = Lifecycle::apply(None, record)?;
        let SessionEvent::Created { config, creator, origin, .. } = &record.event else {
            unreachable!("the machine allows only `created` as the first event")
        };
        let at = record.envelope.at;
        let SessionConfig { name, operation, project_path, mode, labels, .. } = &**config;
        let project = project_path.as_deref();
        let cwd = origin.as_ref().map(|origin| origin.cwd.as_path()).or(project);
        let mut head = Self {
            id,
            tip: record.tip(),
            flushed: record.envelope.flushed,
            lifecycle,
            name: short(name.as_deref().unwrap_or_default()),
            operation: short(operation),
            command: origin.as_ref().map(|origin| short(&origin.command_line())),
            cwd: cwd.map(|path| short(&escape_bytes(path.as_os_str()))),
            worktree: match mode {
                ExecutionMode::Direct => None,
                ExecutionMode::Worktree { name } => Some(short(name)),
            },
            place: None,
            labels: labels.clone(),
            parent: config.parent,
            retry_of: config.retry_of,
            creator: (!config.queued).then(|| creator.shortened()),
            max_iterations: config.max_iterations,
            created_at: at,
            started_at: None,
            updated_at: at,
            ended_at: None,
            running_since: None,
            ran_ms: 0,
            progress: ProgressReport::default(),
            samples: 0,
            totals: Totals::default(),
            steps: StepTotals::default(),
            items: ItemTotals::default(),
            waits: WaitTotals::default(),
            checkpoint: None,
            checkpoint_steps: None,
            deaths: 0,
            exit_code: None,
            signal: None,
        };
        head.fit();
        Ok(head)
    }

    /// Folds in the next record.
    ///
    /// # Errors
    /// [`TransitionError`] if the record may not follow. The head is then unchanged.
    pub fn apply(&mut self, record: &Record) -> Result<(), TransitionError> {
        check_place(record, self.tip.revision.saturating_add(1))?;
        let attempt = self.lifecycle.attempt;
        if self.lifecycle.advance(record)? {
            self.shorten_lifecycle();
        }
        if self.lifecycle.attempt != attempt {
            // What the former attempt left open may have happened: it is not open any more.
            (self.steps.open, self.items.open) = (0, 0);
            self.waits.attempt_begins(record.envelope.seq);
        }
        self.tip = record.tip();
        self.flushed = self.flushed.max(record.envelope.flushed);
        self.updated_at = record.envelope.at;
        self.count(record);
        self.clock(record);
        if self.lifecycle.state.is_final() {
            self.ended_at = Some(record.envelope.at);
            self.creator = None;
            self.waits.end();
        }
        self.fit();
        Ok(())
    }

    /// Folds a record into a head that may not exist yet: calls [`begin`](Self::begin) for the first record and
    /// [`apply`](Self::apply) for all others.
    ///
    /// # Errors
    /// [`TransitionError`] if the record may not follow. The head is then unchanged.
    pub fn fold(head: &mut Option<Self>, id: SessionId, record: &Record) -> Result<(), TransitionError> {
        match head {
            Some(head) => head.apply(record),
            None => Self::begin(id, record).map(|first| *head = Some(first)),
        }
    }

    /// Adds up the time spent running, without jumps of the clock, up to the owner's last record. The time between a death and its discovery does
    /// not count, even if other processes append in between.
    fn clock(&mut self, record: &Record) {
        let at = record.envelope.at;
        let by_owner = if let SessionEvent::Interrupted { evidence } = &record.event {
            evidence.is_from_owner()
        } else {
            record.event.kind().role() != Role::Anyone
        };
        if let Some(since) = self.running_since
            && by_owner
        {
            let moved =
                at.as_millis().saturating_sub(since.as_millis()).saturating_sub(jump_of(&record.event));
            self.ran_ms = self.ran_ms.saturating_add(u64::try_from(moved).unwrap_or(0));
            self.running_since = Some(at);
        }
        if !matches!(self.lifecycle.state, SessionState::Running { .. }) {
            self.running_since = None;
        } else if self.running_since.is_none() {
            self.running_since = Some(at);
        }
    }

    fn count(&mut self, record: &Record) {
        let revision = record.envelope.seq;
        let step_has_ended = self.steps.count(&record.event);
        if self.items.count(&record.event, revision) || step_has_ended {
            self.deaths = 0;
        }
        self.waits.count(&record.event, revision, record.envelope.at);
        match &record.event {
            SessionEvent::Started { .. } => {
                self.started_at = Some(record.envelope.at);
                self.creator = None;
            }
            SessionEvent::IterationCompleted { changes, .. } => {
                add(&mut self.totals.files_changed, changes.files_changed);
                add(&mut self.totals.lines_added, changes.lines_added);
                add(&mut self.totals.lines_removed, changes.lines_removed);
                add(&mut self.totals.commits, changes.commits);
                self.deaths = 0;
            }
            SessionEvent::CommandExecuted { exit_code, signal, .. } => {
                add(&mut self.totals.commands, 1);
                add(&mut self.totals.commands_failed, u64::from(*exit_code != Some(0)));
                self.exit_code = *exit_code;
                self.signal = *signal;
            }
            SessionEvent::CheckpointSaved { resumable: true, .. } => {
                self.checkpoint = Some(record.envelope.seq);
                self.checkpoint_steps = self.progress.completed_steps;
                self.deaths = 0;
            }
            SessionEvent::ProgressReported { report } => self.progressed(report),
            SessionEvent::WorktreeIntended { plan } => {
                self.place = Some(WorktreePlace::planned(plan, revision));
            }
            SessionEvent::WorktreeMade { worktree } => {
                let SessionWorktree { plan, .. } = &**worktree;
                let name = plan.path.file_name().unwrap_or_default();
                self.worktree = Some(short(&escape_bytes(name)));
                self.cwd = Some(short(&escape_bytes(plan.path.as_os_str())));
                self.place = Some(WorktreePlace::made(worktree, revision));
            }
            SessionEvent::Interrupted { evidence }
                if evidence.is_death() && self.lifecycle.loss == Some(OwnerLoss::Crashed) =>
            {
                self.deaths = self.deaths.saturating_add(1);
            }
            SessionEvent::Failed { error } => {
                // Set both: a program ends either with an exit code or by a signal.
                if error.exit_code.is_some() || error.signal.is_some() {
                    (self.exit_code, self.signal) = (error.exit_code, error.signal);
                }
            }
            SessionEvent::Created { .. }
            | SessionEvent::IterationStarted { .. }
            | SessionEvent::AnalysisCompleted { .. }
            | SessionEvent::CheckpointSaved { .. }
            | SessionEvent::Noted { .. }
            | SessionEvent::Inherited { .. }
            | SessionEvent::StepStarted { .. }
            | SessionEvent::StepValue { .. }
            | SessionEvent::StepCompleted { .. }
            | SessionEvent::StepFailed { .. }
            | SessionEvent::StepRefused { .. }
            | SessionEvent::EachStarted { .. }
            | SessionEvent::ItemsMoved { .. }
            | SessionEvent::ItemValue { .. }
            | SessionEvent::Asked { .. }
            | SessionEvent::Answered { .. }
            | SessionEvent::QuestionWithdrawn { .. }
            | SessionEvent::SleepStarted { .. }
            | SessionEvent::SleepEnded { .. }
            | SessionEvent::PauseRequested { .. }
            | SessionEvent::ResumeRequested { .. }
            | SessionEvent::CancelRequested { .. }
            | SessionEvent::StopRequested { .. }
            | SessionEvent::InputProvided { .. }
            | SessionEvent::Paused { .. }
            | SessionEvent::Interrupted { .. }
            | SessionEvent::Resumed { .. }
            | SessionEvent::Completed { .. }
            | SessionEvent::Cancelled { .. } => {}
        }
    }

    fn progressed(&mut self, report: &ProgressReport) {
        let mut report = report.clone();
        report.step = report.step.as_deref().map(short);
        report.phase = report.phase.as_deref().map(short);
        if self.progress.advance(report) {
            add(&mut self.samples, 1);
        }
    }

    /// Returns `true` if this is the session's name, compared in the cut form that a head stores.
    #[must_use]
    pub fn is_named(&self, name: &str) -> bool {
        self.name == cut(name, HEAD_TEXT)
    }

    /// Returns the process responsible for an active session: its owner, or its creator before the first start.
    #[must_use]
    pub const fn responsible_process(&self) -> Option<&Owner> {
        match &self.lifecycle.owner {
            Some(owner) => Some(owner),
            None => self.creator.as_ref(),
        }
    }

    /// Returns `true` if the session holds a place within a limit of sessions: it has an owner, or a start to come.
    ///
    /// The log decides, not the liveness of processes: an owner that died without a trace keeps its place until a
    /// record says that it is gone. A session without an owner needs a place again when it is resumed.
    #[must_use]
    pub const fn holds_place(&self) -> bool {
        match self.lifecycle.state {
            SessionState::Created => true,
            SessionState::Running { .. } | SessionState::Paused { .. } => self.lifecycle.owner.is_some(),
            SessionState::Completed { .. } | SessionState::Failed { .. } | SessionState::Cancelled { .. } => {
                false
            }
        }
    }

    /// Returns `true` if the work does nothing but wait for an answer or a wake-up time.
    #[must_use]
    pub const fn is_waiting(&self) -> bool {
        matches!(self.lifecycle.state, SessionState::Running { .. })
            && self.waits.open > 0
            && self.steps.open == 0
            && self.items.open == 0
    }

    /// Returns the state, with its texts cut.
    #[must_use]
    pub const fn state(&self) -> &SessionState {
        &self.lifecycle.state
    }

    /// Returns the time spent running up to `now`.
    #[must_use]
    pub fn ran(&self, now: Timestamp) -> Duration {
        let open = self.running_since.map_or(Duration::ZERO, |since| now.since(since));
        Duration::from_millis(self.ran_ms).saturating_add(open)
    }

    /// Returns the summary, without message and result, of a session that completes at `now`.
    #[must_use]
    pub fn summary(&self, now: Timestamp) -> SessionSummary {
        SessionSummary {
            message: None,
            result: None,
            iterations: self.lifecycle.iterations_completed,
            commands: self.totals.commands,
            files_changed: self.totals.files_changed,
            lines_added: self.totals.lines_added,
            lines_removed: self.totals.lines_removed,
            commits: self.totals.commits,
            duration_ms: millis(self.ran(now)),
        }
    }
}

fn check_place(record: &Record, expected: u64) -> Result<(), TransitionError> {
    let (found, flushed) = (record.envelope.seq, record.envelope.flushed);
    if found != expected {
        return Err(TransitionError::Sequence { expected, found });
    }
    if flushed >= found {
        return Err(TransitionError::Flushed { flushed });
    }
    Ok(())
}

/// Adds with saturation: a log written by another program may contain any numbers.
fn add(total: &mut u64, more: u64) {
    *total = total.saturating_add(more);
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn short(text: &str) -> String {
    cut(text, HEAD_TEXT)
}

/// Kind of the owner's note that the clock has jumped since its previous record: `by_ms` is an integer, negative for a
/// jump backwards.
pub(crate) const CLOCK_JUMPED: &str = "session.clock_jumped";

/// Returns the jump of the clock that an event notes, in milliseconds; 0 for any other event.
fn jump_of(event: &SessionEvent) -> i64 {
    let SessionEvent::Noted { kind, data } = event else { return 0 };
    let by = data.get("by_ms").and_then(Value::as_i64);
    by.filter(|_| kind == CLOCK_JUMPED).unwrap_or(0)
}
