//! The facts that a log is made of, with every payload written out. What they mean is in `machine`.

mod payload;

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::payload::{Changes, Origin, ProgressReport};

use crate::config::SessionConfig;
use crate::limits::{self, LimitError};
use crate::owner::{Evidence, Owner};
use crate::reason::{Failure, PauseReason, SessionSummary};

/// The format that this version writes.
pub const FORMAT: u32 = 1;

macro_rules! events {
    ($($(#[doc = $doc:literal])+ $variant:ident $name:literal {
        $($(#[doc = $field_doc:literal])+ $(#[serde($($serde:tt)+)])? $field:ident: $type:ty,)*
    })+) => {
        /// A fact: past tense, immutable. The kinds that end in `_requested` ask; the owner answers.
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

            /// The kind's name, as logs write it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What it means, in a sentence.
            #[must_use]
            pub const fn about(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim_ascii(),)+ }
            }
        }

        impl SessionEvent {
            /// The kind of this event.
            #[must_use]
            pub const fn kind(&self) -> EventKind {
                match self { $(Self::$variant { .. } => EventKind::$variant,)+ }
            }
        }
    };
}

events! {
    /// The session exists. Always and only record 1.
    Created "created" {
        /// The format of the log.
        format: u32,
        /// What it was made with.
        config: Box<SessionConfig>,
        /// Who made it.
        creator: Owner,
        /// The program behind it, where there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        origin: Option<Origin>,
    }
    /// Its first owner began the work.
    Started "started" {
        /// Who runs it now.
        owner: Owner,
    }
    /// An iteration began.
    IterationStarted "iteration_started" {
        /// One more than the last completed one.
        number: u64,
    }
    /// The open iteration is done.
    IterationCompleted "iteration_completed" {
        /// The open one.
        number: u64,
        /// What it changed.
        changes: Changes,
    }
    /// A command ran to its end.
    CommandExecuted "command_executed" {
        /// The command as a person would type it.
        command: String,
        /// Its exit code, where it ended by itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exit_code: Option<i32>,
        /// The signal that ended it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signal: Option<i32>,
        /// How long it ran, in milliseconds.
        duration_ms: u64,
        /// How much it printed, in bytes, kept or not.
        output_bytes: u64,
    }
    /// An analysis came to a result.
    AnalysisCompleted "analysis_completed" {
        /// The result.
        results: Value,
    }
    /// What is needed to go on from here.
    CheckpointSaved "checkpoint_saved" {
        /// The work's own data.
        state: Value,
        /// Whether the work can go on from it.
        resumable: bool,
    }
    /// How far the work is.
    ProgressReported "progress_reported" {
        /// What is known of it.
        #[serde(flatten)]
        report: ProgressReport,
    }
    /// Anything else worth keeping.
    Noted "noted" {
        /// `vendor.name`; `session.*` is ours.
        kind: String,
        /// What is noted.
        data: Value,
    }
    /// Somebody asks for a pause.
    PauseRequested "pause_requested" {
        /// Why.
        reason: String,
        /// Who asks.
        by: String,
    }
    /// Somebody asks to go on.
    ResumeRequested "resume_requested" {
        /// Who asks.
        by: String,
    }
    /// Somebody asks for the end.
    CancelRequested "cancel_requested" {
        /// Why.
        reason: String,
        /// Who asks.
        by: String,
        /// Whether the work is ended without being asked.
        force: bool,
    }
    /// The answer that the work waits for.
    InputProvided "input_provided" {
        /// The answer.
        value: Value,
        /// Who answers.
        by: String,
    }
    /// The work stands still, its owner is there.
    Paused "paused" {
        /// Why.
        reason: PauseReason,
    }
    /// The owner is gone.
    Interrupted "interrupted" {
        /// How that is known.
        evidence: Evidence,
    }
    /// The work goes on, under the same owner or a new one.
    Resumed "resumed" {
        /// Who runs it now.
        owner: Owner,
    }
    /// The work is done.
    Completed "completed" {
        /// What it reports.
        summary: SessionSummary,
    }
    /// The work ended badly.
    Failed "failed" {
        /// How.
        error: Failure,
    }
    /// The work was ended on request.
    Cancelled "cancelled" {
        /// Why.
        reason: String,
    }
}

impl EventKind {
    /// The kind of this name.
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
    /// Whether the event can be written: its own limits, those of a record aside.
    ///
    /// # Errors
    /// The first limit that it exceeds or rule that it breaks.
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
            Self::IterationStarted { .. }
            | Self::IterationCompleted { .. }
            | Self::CommandExecuted { .. }
            | Self::PauseRequested { .. }
            | Self::ResumeRequested { .. }
            | Self::CancelRequested { .. }
            | Self::Paused { .. }
            | Self::Interrupted { .. }
            | Self::Failed { .. }
            | Self::Cancelled { .. } => Ok(()),
        }
    }
}

/// A value that stands `above` levels deep in its record may not make that too deep. Looked at before anything is
/// written, because writing a value takes as much stack as it is deep.
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

/// Who may append an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// Anyone.
    Anyone,
    /// The owner.
    Owner,
    /// Whoever finds the session unowned.
    Claimant,
    /// The owner, or whoever finds the session unowned.
    OwnerOrClaimant,
    /// Whoever can prove that the owner is dead; the owner itself, when its work was dropped.
    Recoverer,
}

impl EventKind {
    /// Who may append it.
    #[must_use]
    pub const fn role(self) -> Role {
        match self {
            Self::Created
            | Self::PauseRequested
            | Self::ResumeRequested
            | Self::CancelRequested
            | Self::InputProvided => Role::Anyone,
            Self::Started => Role::Claimant,
            Self::IterationStarted
            | Self::IterationCompleted
            | Self::CommandExecuted
            | Self::AnalysisCompleted
            | Self::CheckpointSaved
            | Self::ProgressReported
            | Self::Paused
            | Self::Completed => Role::Owner,
            Self::Noted | Self::Resumed | Self::Failed | Self::Cancelled => Role::OwnerOrClaimant,
            Self::Interrupted => Role::Recoverer,
        }
    }
}
