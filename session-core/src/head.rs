//! The head: the small current view of a session. It is the fold of the log, with its texts cut, and the only fold
//! there is: state, progress and summaries are read from it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::{ExecutionMode, SessionConfig};
use crate::event::{Origin, ProgressReport, Role, SessionEvent};
use crate::id::SessionId;
use crate::limits::{HEAD_ID, HEAD_TEXT};
use crate::machine::{Lifecycle, Requests, SessionState, TransitionError};
use crate::owner::Owner;
use crate::reason::SessionSummary;
use crate::record::{Record, Tip};
use crate::text::cut;
use crate::time::Timestamp;

/// The current view of a session, at most 4 KiB as JSON.
///
/// Texts are cut to 128 bytes and their control characters made spaces; the log has them whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Head {
    /// The session.
    pub id: SessionId,
    /// The end of the log that this is the fold of.
    pub tip: Tip,
    /// The highest revision that a record of the log says was flushed.
    pub flushed: u64,
    /// State, attempt, owner, iterations and requests.
    pub lifecycle: Lifecycle,
    /// The name.
    pub name: String,
    /// What kind of work it is.
    pub operation: String,
    /// The program and its arguments as one line, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// The program's working directory, else the project's path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// The name of the worktree where the work happens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worktree: Option<String>,
    /// The labels, whole.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The session inside which this one was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<SessionId>,
    /// The ended session that this one tries again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<SessionId>,
    /// Whoever created it, until it is started, unless it was queued for others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creator: Option<Owner>,
    /// How many iterations there are at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_iterations: Option<u64>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was first started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When the last record was sealed.
    pub updated_at: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// Up to when `ran_ms` counts: its last start, or the owner's last record since. `None` while it does not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running_since: Option<Timestamp>,
    /// How long it ran up to then, in milliseconds.
    #[serde(default)]
    pub ran_ms: u64,
    /// What was last said of the progress. Steps and percent are the highest that were reported.
    #[serde(default)]
    pub progress: ProgressReport,
    /// How many reports moved the progress forward.
    #[serde(default)]
    pub samples: u64,
    /// What iterations, commands and checkpoints added up to.
    #[serde(default)]
    pub totals: Totals,
    /// The revision of the last checkpoint that the work can go on from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<u64>,
    /// The steps that were done at it: where an attempt that goes on from there counts from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_steps: Option<u64>,
    /// Proven deaths since the last such checkpoint or completed iteration.
    #[serde(default)]
    pub deaths: u32,
    /// The exit code of the program that ran last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that ended the program that ran last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
}

/// What a log adds up to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Totals {
    /// Commands that ran to their end.
    pub commands: u64,
    /// Those of them that ended with anything but exit code 0.
    pub commands_failed: u64,
    /// Files changed, added up over the iterations.
    pub files_changed: u64,
    /// Lines added.
    pub lines_added: u64,
    /// Lines removed.
    pub lines_removed: u64,
    /// Commits made.
    pub commits: u64,
}

/// A session as it is stored: what is needed to show it whole, or to take its work up again.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct PersistedSession {
    /// The current view.
    pub head: Head,
    /// What it was made with, whole.
    pub config: SessionConfig,
    /// The program behind it.
    pub origin: Option<Origin>,
    /// The state, its texts whole.
    pub state: SessionState,
    /// The last checkpoint that the work can go on from.
    pub checkpoint: Option<Value>,
}

impl Head {
    /// The head of a log of one record.
    ///
    /// # Errors
    /// [`TransitionError`] where the record is no right first one.
    pub fn begin(id: SessionId, record: &Record) -> Result<Self, TransitionError> {
        check_place(record, 1)?;
        let lifecycle = Lifecycle::apply(None, record)?;
        let SessionEvent::Created { config, creator, origin, .. } = &record.event else {
            unreachable!("the machine lets nothing but `created` be the first event")
        };
        let at = record.envelope.at;
        let SessionConfig { name, operation, project_path, mode, labels, .. } = &**config;
        let project = project_path.as_deref();
        let cwd = origin.as_ref().map(|origin| origin.cwd.as_path()).or(project);
        Ok(Self {
            id,
            tip: record.tip(),
            flushed: record.envelope.flushed,
            lifecycle,
            name: short(name.as_deref().unwrap_or_default()),
            operation: short(operation),
            command: origin.as_ref().map(|Origin { argv, .. }| short(&argv.join(" "))),
            cwd: cwd.map(|path| short(&path.to_string_lossy())),
            worktree: match mode {
                ExecutionMode::Direct => None,
                ExecutionMode::Worktree { name } => Some(short(name)),
            },
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
            checkpoint: None,
            checkpoint_steps: None,
            deaths: 0,
            exit_code: None,
            signal: None,
        })
    }

    /// Folds the next record in.
    ///
    /// # Errors
    /// [`TransitionError`] where the record may not follow. The head is then unchanged.
    pub fn apply(&mut self, record: &Record) -> Result<(), TransitionError> {
        check_place(record, self.tip.revision.saturating_add(1))?;
        if self.lifecycle.advance(record)? {
            shorten(&mut self.lifecycle);
        }
        self.tip = record.tip();
        self.flushed = self.flushed.max(record.envelope.flushed);
        self.updated_at = record.envelope.at;
        self.count(record);
        self.clock(record);
        if self.lifecycle.state.is_final() {
            self.ended_at = Some(record.envelope.at);
            self.creator = None;
        }
        Ok(())
    }

    /// The head of a whole log: [`begin`](Self::begin) for the first record, [`apply`](Self::apply) for all others.
    ///
    /// # Errors
    /// [`TransitionError`] where the record may not follow. The head is then unchanged.
    pub fn fold(head: &mut Option<Self>, id: SessionId, record: &Record) -> Result<(), TransitionError> {
        match head {
            Some(head) => head.apply(record),
            None => Self::begin(id, record).map(|first| *head = Some(first)),
        }
    }

    /// Counts the time that was spent running, up to the owner's last sign of life: the time between a death and its
    /// discovery, and what strangers append in it, was not spent running.
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
            self.ran_ms = self.ran_ms.saturating_add(millis(at.since(since)));
            self.running_since = Some(at);
        }
        if !matches!(self.lifecycle.state, SessionState::Running { .. }) {
            self.running_since = None;
        } else if self.running_since.is_none() {
            self.running_since = Some(at);
        }
    }

    fn count(&mut self, record: &Record) {
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
            SessionEvent::Interrupted { evidence } if evidence.is_death() => {
                self.deaths = self.deaths.saturating_add(1);
            }
            SessionEvent::Failed { error } => {
                // Both or neither: a program ends by one of them.
                if error.exit_code.is_some() || error.signal.is_some() {
                    (self.exit_code, self.signal) = (error.exit_code, error.signal);
                }
            }
            SessionEvent::Created { .. }
            | SessionEvent::IterationStarted { .. }
            | SessionEvent::AnalysisCompleted { .. }
            | SessionEvent::CheckpointSaved { .. }
            | SessionEvent::Noted { .. }
            | SessionEvent::PauseRequested { .. }
            | SessionEvent::ResumeRequested { .. }
            | SessionEvent::CancelRequested { .. }
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

    /// Whether this is the session's name, as far as a head keeps it.
    #[must_use]
    pub fn is_named(&self, name: &str) -> bool {
        self.name == cut(name, HEAD_TEXT)
    }

    /// Whoever answers for the session while nothing has ended it: its owner, or its creator before the first start.
    #[must_use]
    pub fn responsible_process(&self) -> Option<&Owner> {
        self.lifecycle.owner.as_ref().or(self.creator.as_ref())
    }

    /// The state, its texts cut as all texts of a head are.
    #[must_use]
    pub const fn state(&self) -> &SessionState {
        &self.lifecycle.state
    }

    /// Time spent running up to `now`.
    #[must_use]
    pub fn ran(&self, now: Timestamp) -> Duration {
        let open = self.running_since.map_or(Duration::ZERO, |since| now.since(since));
        Duration::from_millis(self.ran_ms).saturating_add(open)
    }

    /// The numbers that a session which completes at `now` reports.
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

/// A log may hold any numbers, a foreign one at least: a sum that has no room stays at its highest.
fn add(total: &mut u64, more: u64) {
    *total = total.saturating_add(more);
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn short(text: &str) -> String {
    cut(text, HEAD_TEXT)
}

fn shorten(lifecycle: &mut Lifecycle) {
    lifecycle.owner = lifecycle.owner.as_ref().map(Owner::shortened);
    match &mut lifecycle.state {
        SessionState::Created | SessionState::Running { .. } => {}
        SessionState::Paused { reason } => *reason = reason.shortened(HEAD_TEXT),
        SessionState::Completed { summary } => *summary = summary.shortened(HEAD_TEXT),
        SessionState::Failed { error } => *error = error.shortened(HEAD_TEXT),
        SessionState::Cancelled { reason } => *reason = short(reason),
    }
    let Requests { pause, resume, cancel, answer: _ } = &mut lifecycle.requests;
    if let Some(pause) = pause {
        pause.reason = short(&pause.reason);
        pause.by = cut(&pause.by, HEAD_ID);
    }
    if let Some(cancel) = cancel {
        cancel.reason = short(&cancel.reason);
        cancel.by = cut(&cancel.by, HEAD_ID);
    }
    *resume = resume.as_deref().map(|by| cut(by, HEAD_ID));
}
