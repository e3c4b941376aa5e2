//! The events that a log consists of, with their payloads. Their effects are in `machine`.

mod changes;
mod inherited;
mod items;
mod payload;
mod step;
mod wait;
mod worktree;

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::changes::{ChangeKind, Changes, Commit, FileChange};
pub use self::inherited::{InheritedItem, InheritedStep, StepOutcome};
pub use self::items::{ItemFailure, ItemIdentity, ItemMoves, ItemStart};
pub use self::payload::{Hook, Input, Origin, ProgressReport, Terminal};
pub use self::step::{InputFile, StepEnd, StepFailure, StepIdentity, StepOccurrence, StepReason};

pub use self::wait::{Answer, Question};
pub use self::worktree::{SessionWorktree, WorktreePlan};

pub(crate) use self::step::is_zero;
use crate::config::SessionConfig;
use crate::limits::{self, LimitError};
use crate::owner::{Evidence, Owner, Stop};
use crate::reason::{Failure, PauseReason, SessionSummary};
use crate::time::Timestamp;

/// The format that this version writes.
pub const FORMAT: u32 = 1;

macro_rules! events {
    ($($(#[doc = $doc:literal])+ $variant:ident $name:literal {
        $($(#[doc = $field_doc:literal])+ $(#[serde($($serde:tt)+)])? $field:ident: $type:ty,)*
    })+) => {
        /// An event: past tense, immutable. Kinds that end in `_requested` are requests, which the owner answers.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[non_exhaustive]
        pub enum SessionEvent {
            $($(#[doc = $doc])+ $variant { $($(#[doc = $field_doc])+ $(#[serde($($serde)+)])? $field: $type,)* },)+
        }

        /// The kind of an event.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum EventKind { $($(#[doc = $doc])+ $variant,)+ }

        impl EventKind {
            /// Every kind, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// Returns the name of the kind, as written in logs.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// Returns the meaning of the kind in one sentence.
            #[must_use]
            pub const fn about(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim_ascii(),)+ }
            }
        }

        impl SessionEvent {
            /// Returns the kind of this event.
            #[must_use]
            pub const fn kind(&self) -> EventKind {
                match self { $(Self::$variant { .. } => EventKind::$variant,)+ }
            }
        }
    };
}

events! {
    /// The session was created: record 1 of every log, and no other record.
    Created "created" {
        /// The format of the log.
        format: u32,
        /// The configuration.
        config: Box<SessionConfig>,
        /// The process that created the session.
        creator: Owner,
        /// The program that the session runs, if it runs one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        origin: Option<Origin>,
        /// The number of records with steps taken over from the session that this one retries. They follow this record,
        /// and the session cannot start without them.
        #[serde(default, skip_serializing_if = "is_zero")]
        inherits: u64,
    }
    /// The first owner started the work.
    Started "started" {
    /// The owner.
        owner: Owner,
    }
    /// An iteration started.
    IterationStarted "iteration_started" {
        /// The number: one more than that of the last completed iteration.
        number: u64,
    }
    /// The open iteration was completed.
    IterationCompleted "iteration_completed" {
    /// The number of the open iteration.
    number: u64,
    /// The changes made in it.
        changes: Changes,
    }
    /// A command ran to its end.
    CommandExecuted "command_executed" {
        /// The command line.
        command: String,
        /// The exit code, unless a signal ended the command.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exit_code: Option<i32>,
        /// The signal that ended the command.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signal: Option<i32>,
        /// The run time in milliseconds.
        duration_ms: u64,
        /// The size of its output so far in bytes, stored or not.
        output_bytes: u64,
        /// `true` for the session's own program, whose end decides that of the session.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        main: bool,
        /// The stop that led to this end, if one did: the session is then interrupted or stopped, and has not ended.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stop: Option<Stop>,
    }
    /// An analysis produced a result.
    AnalysisCompleted "analysis_completed" {
        /// The result.
        results: Value,
    }
    /// The work saved the data that it needs to continue from here.
    CheckpointSaved "checkpoint_saved" {
    /// The data, defined by the work.
    state: Value,
    /// `true` if the work can continue from it.
        resumable: bool,
    }
    /// The work reported its progress.
    ProgressReported "progress_reported" {
    /// The report.
        #[serde(flatten)]
        report: ProgressReport,
    }
    /// A note was added: any data that no other kind covers.
    Noted "noted" {
    /// The kind of note, `vendor.name`; `session.*` is reserved for this project.
    kind: String,
    /// The data.
        data: Value,
    }
    /// A step of the session that this one retries was taken over.
    Inherited "inherited" {
        /// The step.
        #[serde(flatten)]
        step: Box<InheritedStep>,
    }
    /// A step was started: its command or work begins only after this record is flushed.
    StepStarted "step_started" {
        /// The identity of the step.
        #[serde(flatten)]
        step: StepIdentity,
        /// The fingerprint of what it runs: a recorded end holds only for the same one.
        fingerprint: String,
        /// The reason why it runs.
        because: StepReason,
        /// The number of recorded ends of this step that were run again on purpose: part of its idempotency key.
        #[serde(default, skip_serializing_if = "is_zero")]
        reruns: u64,
        /// The command that it runs, for people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        command: Option<String>,
        /// Its input files, with the content that they had before it ran.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        inputs: Vec<InputFile>,
    }
    /// A part of a step's value, before the end of the step. The value is all of its parts in order.
    StepValue "step_value" {
        /// The revision at which the step was started or taken over.
        start: u64,
        /// The bytes.
        #[serde(with = "crate::os_text::bytes")]
        part: Vec<u8>,
    }
    /// A step was completed: later attempts do not run it again.
    StepCompleted "step_completed" {
        /// The revision at which the step was started.
        start: u64,
        /// The end.
        #[serde(flatten)]
        end: StepEnd,
    }
    /// A step failed, or ended in an unknown way. Later attempts run it again.
    StepFailed "step_failed" {
        /// The revision at which the step was started.
        start: u64,
        /// The failure.
        #[serde(flatten)]
        failure: StepFailure,
    }
    /// A step was refused, or its end could not be recorded: no further step of the attempt starts, and the session fails.
    StepRefused "step_refused" {
        /// The name of the step.
        name: String,
        /// The stable error code.
        code: String,
        /// The reason.
        message: String,
    }
    /// An `each` was started: it runs a command or work once for each item of its input.
    EachStarted "each_started" {
        /// The identity of the `each`.
        #[serde(flatten)]
        step: StepIdentity,
        /// The fingerprint of what it runs for each item.
        fingerprint: String,
        /// The number of times that its recorded ends were given up on purpose: part of the idempotency keys of its items.
        #[serde(default, skip_serializing_if = "is_zero")]
        reruns: u64,
        /// The number of items with a recorded end.
        #[serde(default, skip_serializing_if = "is_zero")]
        done: u64,
        /// The command that it runs for each item, for people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        command: Option<String>,
    }
    /// Items of an `each` ended, and others begin: these run only after this record is flushed.
    ItemsMoved "items_moved" {
        /// The items.
        #[serde(flatten)]
        moves: ItemMoves,
    }
    /// A part of an item's value, before the end of the item. The value is all of its parts in order.
    ItemValue "item_value" {
        /// The revision at which the `each` was started, or the item taken over.
        each: u64,
        /// The number of the item.
        item: u64,
        /// The bytes.
        #[serde(with = "crate::os_text::bytes")]
        part: Vec<u8>,
    }
    /// A question was asked, which the work waits for. The session stays running.
    Asked "asked" {
        /// The question.
        #[serde(flatten)]
        question: Box<Question>,
    }
    /// A question was answered, or will have this answer once it is asked. The first answer holds.
    Answered "answered" {
        /// The answer.
        #[serde(flatten)]
        answer: Box<Answer>,
        /// The person or program that answered.
        by: String,
        /// `true` if nobody answered in time, and the default of the question holds.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        default: bool,
    }
    /// The process that waited for the answer to a question has gone.
    QuestionWithdrawn "question_withdrawn" {
        /// The revision of the question.
        asked: u64,
    }
    /// A sleep was started: the work waits until its wake-up time.
    SleepStarted "sleep_started" {
        /// The identity, among the sleeps of the session.
        #[serde(flatten)]
        step: StepIdentity,
        /// The wake-up time: that of its first start.
        until: Timestamp,
    }
    /// A sleep ended.
    SleepEnded "sleep_ended" {
        /// The revision at which it was started.
        start: u64,
        /// `true` if its wake-up time has passed: later attempts do not sleep again. Else the process that waited has gone.
        passed: bool,
    }
    /// A git worktree for the session is about to be created.
    WorktreeIntended "worktree_intended" {
        /// The plan.
        #[serde(flatten)]
        plan: Box<WorktreePlan>,
    }
    /// The session has a git worktree, in which its program runs.
    WorktreeMade "worktree_made" {
        /// The worktree.
        #[serde(flatten)]
        worktree: Box<SessionWorktree>,
    }
    /// A pause was requested.
    PauseRequested "pause_requested" {
    /// The reason.
    reason: String,
    /// The requester.
        by: String,
    }
    /// A resume was requested.
    ResumeRequested "resume_requested" {
    /// The requester.
        by: String,
    }
    /// A cancellation was requested.
    CancelRequested "cancel_requested" {
    /// The reason.
    reason: String,
    /// The requester.
    by: String,
    /// `true` if the work is ended immediately, without a chance to stop by itself.
        force: bool,
    }
    /// A stop signal reached the owner: SIGTERM or SIGHUP. If the owner dies after it, the session was interrupted.
    StopRequested "stop_requested" {
    /// The number of the signal.
        signal: i32,
    }
    /// The question that the work waits for was answered.
    InputProvided "input_provided" {
    /// The answer.
    value: Value,
    /// The person or program that answered.
        by: String,
    }
    /// The work was paused; its owner keeps the session.
    Paused "paused" {
    /// The reason.
        reason: PauseReason,
    }
    /// The owner died or released the session.
    Interrupted "interrupted" {
    /// The evidence.
        evidence: Evidence,
    }
    /// The work was resumed by the same owner or by a new one.
    Resumed "resumed" {
    /// The owner.
        owner: Owner,
    }
    /// The work completed.
    Completed "completed" {
    /// The summary.
        summary: SessionSummary,
    }
    /// The work failed.
    Failed "failed" {
    /// The failure.
        error: Failure,
    }
    /// The work was cancelled.
    Cancelled "cancelled" {
    /// The reason.
        reason: String,
    }
}

impl EventKind {
    /// Returns the kind with this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl SessionEvent {
    /// Checks the limits of the event itself, not those of its record.
    ///
    /// # Errors
    /// The first limit or rule that the event violates.
    pub fn check(&self) -> Result<(), LimitError> {
        match self {
            Self::Created { config, creator, .. } => {
                check_levels(&config.metadata, 4)?;
                config.check()?;
                creator.check()
            }
            Self::Started { owner } | Self::Resumed { owner } => owner.check(),
            Self::ProgressReported { report } => report.check(),
            Self::Noted { kind, data } => {
                check_levels(data, 3)?;
                check_note_kind(kind)
            }
            Self::AnalysisCompleted { results: value }
            | Self::CheckpointSaved { state: value, .. }
            | Self::InputProvided { value, .. } => check_levels(value, 3),
            Self::Completed { summary } => {
                summary.result.as_ref().map_or(Ok(()), |result| check_levels(result, 4))
            }
            Self::IterationCompleted { changes, .. } => changes.check(),
            Self::Inherited { step } => step.check(),
            Self::StepStarted { step, fingerprint, command, inputs, .. } => {
                step.check()?;
                step::check_inputs(inputs)?;
                step::check_run(fingerprint, command.as_deref())
            }
            Self::EachStarted { step, fingerprint, command, .. } => {
                step.check()?;
                step::check_run(fingerprint, command.as_deref())
            }
            Self::ItemsMoved { moves } => moves.check(),
            Self::Asked { question } => question.check(),
            Self::Answered { answer, .. } => answer.check(),
            Self::SleepStarted { step, .. } => step.check(),
            Self::StepValue { part, .. } | Self::ItemValue { part, .. } => {
                limits::at_most("part of a value (bytes)", part.len(), limits::VALUE_PART_BYTES)
            }
            Self::WorktreeIntended { plan } => plan.check(),
            Self::WorktreeMade { worktree } => worktree.check(),
            Self::StepFailed { failure, .. } => failure.check(),
            Self::StepRefused { name, code, message } => {
                step::check_name(name)?;
                limits::at_most("code (bytes)", code.len(), limits::STEP_BYTES)?;
                limits::at_most("message (bytes)", message.len(), limits::STEP_TEXT_BYTES)
            }
            Self::IterationStarted { .. }
            | Self::CommandExecuted { .. }
            | Self::StepCompleted { .. }
            | Self::QuestionWithdrawn { .. }
            | Self::SleepEnded { .. }
            | Self::PauseRequested { .. }
            | Self::ResumeRequested { .. }
            | Self::CancelRequested { .. }
            | Self::StopRequested { .. }
            | Self::Paused { .. }
            | Self::Interrupted { .. }
            | Self::Failed { .. }
            | Self::Cancelled { .. } => Ok(()),
        }
    }
}

/// Checks that a value placed `above` levels deep in its record does not exceed the nesting limit. This runs before
/// serialization, which needs stack space in proportion to the depth.
fn check_levels(value: &Value, above: usize) -> Result<(), LimitError> {
    fn levels(value: &Value, room: usize) -> usize {
        let deepest = |values: &mut dyn Iterator<Item = &Value>| match room {
            0 => 1,
            _ => 1 + values.map(|value| levels(value, room - 1)).max().unwrap_or(0),
        };
        match value {
            Value::Array(values) => deepest(&mut values.iter()),
            Value::Object(members) => deepest(&mut members.values()),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
        }
    }
    let room = limits::NESTING.saturating_sub(above);
    limits::at_most("record (nesting)", above + levels(value, room), limits::NESTING)
}

fn check_note_kind(kind: &str) -> Result<(), LimitError> {
    let part = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b))
    };
    match kind.split_once('.') {
        Some((vendor, name)) if kind.len() <= limits::NAME_CHARS && part(vendor) && part(name) => Ok(()),
        _ => Err(LimitError::invalid("note kind", "is not `vendor.name` in lower case, at most 128 bytes")),
    }
}

/// The role of a process that may append an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// Any process.
    Anyone,
    /// The owner.
    Owner,
    /// Any process, if the session is unowned.
    Claimant,
    /// The owner; if the session is unowned, any process.
    OwnerOrClaimant,
    /// Any process that can prove that the owner is dead; the owner itself, if its work was dropped.
    Recoverer,
}

impl EventKind {
    /// Returns the role that may append an event of this kind.
    #[must_use]
    pub const fn role(self) -> Role {
        match self {
            Self::Created
            | Self::Inherited
            | Self::PauseRequested
            | Self::ResumeRequested
            | Self::CancelRequested
            | Self::Answered
            | Self::InputProvided => Role::Anyone,
            Self::Started => Role::Claimant,
            Self::IterationStarted
            | Self::IterationCompleted
            | Self::CommandExecuted
            | Self::AnalysisCompleted
            | Self::CheckpointSaved
            | Self::ProgressReported
            | Self::StepStarted
            | Self::StepValue
            | Self::StepCompleted
            | Self::StepFailed
            | Self::StepRefused
            | Self::EachStarted
            | Self::ItemsMoved
            | Self::ItemValue
            | Self::Asked
            | Self::QuestionWithdrawn
            | Self::SleepStarted
            | Self::SleepEnded
            | Self::WorktreeIntended
            | Self::WorktreeMade
            | Self::StopRequested
            | Self::Paused => Role::Owner,
            Self::Noted | Self::Resumed | Self::Completed | Self::Failed | Self::Cancelled => {
                Role::OwnerOrClaimant
            }
            Self::Interrupted => Role::Recoverer,
        }
    }
}
