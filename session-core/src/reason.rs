//! Why a session paused or failed, and what it reported at its end: the payloads that states carry.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::text::cut;

/// Why a session is paused, each with a text for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PauseReason {
    /// Somebody asked for it.
    Requested(String),
    /// The work waits for an answer; the text is the question.
    AwaitingInput(String),
    /// Its owner died or let go.
    Interrupted(String),
    /// A budget was spent.
    Limit(String),
}

impl PauseReason {
    /// The text for people.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Requested(text)
            | Self::AwaitingInput(text)
            | Self::Interrupted(text)
            | Self::Limit(text) => text,
        }
    }

    pub(crate) fn shortened(&self, limit: usize) -> Self {
        match self {
            Self::Requested(text) => Self::Requested(cut(text, limit)),
            Self::AwaitingInput(text) => Self::AwaitingInput(cut(text, limit)),
            Self::Interrupted(text) => Self::Interrupted(cut(text, limit)),
            Self::Limit(text) => Self::Limit(cut(text, limit)),
        }
    }
}

impl fmt::Display for PauseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Self::Requested(_) => "requested",
            Self::AwaitingInput(_) => "waiting for input",
            Self::Interrupted(_) => "interrupted",
            Self::Limit(_) => "limit reached",
        };
        match self.text() {
            "" => f.write_str(kind),
            text => write!(f, "{kind}: {text}"),
        }
    }
}

/// What kind of failure ended a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FailureCause {
    /// The work itself said so.
    Work,
    /// The deadline passed.
    Timeout,
    /// Its owner died, and the policy was to fail it.
    Crash,
    /// The program could not be started.
    Spawn,
    /// The work panicked.
    Panic,
}

/// How a session failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Failure {
    /// What happened, for people.
    pub message: String,
    /// What kind of failure.
    pub cause: FailureCause,
    /// The program's exit code, where it ended by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The number of the signal that ended the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
}

impl Failure {
    /// A failure without a program's ending.
    #[must_use]
    pub fn new(cause: FailureCause, message: impl Into<String>) -> Self {
        Self { message: message.into(), cause, exit_code: None, signal: None }
    }

    /// A program that ended by itself with this code.
    #[must_use]
    pub fn exit_code(mut self, code: i32) -> Self {
        self.exit_code = Some(code);
        self
    }

    /// A program that a signal ended.
    #[must_use]
    pub fn signal(mut self, signal: i32) -> Self {
        self.signal = Some(signal);
        self
    }

    pub(crate) fn shortened(&self, limit: usize) -> Self {
        Self { message: cut(&self.message, limit), ..*self }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// What a completed session reports.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct SessionSummary {
    /// A sentence for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What the work returned, `null` included. A head does not keep it; the log does.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "deserialize_present")]
    pub result: Option<Value>,
    /// Iterations completed. This and all below are filled in from the log when the session completes.
    pub iterations: u64,
    /// Commands executed.
    pub commands: u64,
    /// Files changed, added up over the iterations.
    pub files_changed: u64,
    /// Lines added.
    pub lines_added: u64,
    /// Lines removed.
    pub lines_removed: u64,
    /// Commits made.
    pub commits: u64,
    /// Time spent running, in milliseconds: pauses and the time between a death and its takeover do not count.
    pub duration_ms: u64,
}

/// Work that returned `null` returned something: without this it would read back as nothing.
fn deserialize_present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl SessionSummary {
    /// A summary with nothing of its own to say.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A sentence for people.
    #[must_use]
    pub fn message(mut self, message: impl Into<String>) -> Self {
        self.message = Some(message.into());
        self
    }

    /// What the work returned.
    #[must_use]
    pub fn result(mut self, result: Value) -> Self {
        self.result = Some(result);
        self
    }

    pub(crate) fn shortened(&self, limit: usize) -> Self {
        Self { message: self.message.as_deref().map(|text| cut(text, limit)), result: None, ..*self }
    }
}
