//! The payloads of states: reason of a pause, failure, summary.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::owner::OwnerLoss;
use crate::text::cut;

/// The reason of a pause, with a text for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PauseReason {
    /// A pause was requested; the text is the reason given.
    Requested(String),
    /// The work waits for an answer; the text is the question.
    AwaitingInput(String),
    /// The owner died or released the session.
    Interrupted(Interruption),
    /// A budget is exhausted.
    Limit(String),
}

impl PauseReason {
    /// Returns the text for people.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Requested(text)
            | Self::AwaitingInput(text)
            | Self::Interrupted(Interruption { text, .. })
            | Self::Limit(text) => text,
        }
    }

    pub(crate) fn shortened(&self, limit: usize) -> Self {
        match self {
            Self::Requested(text) => Self::Requested(cut(text, limit)),
            Self::AwaitingInput(text) => Self::AwaitingInput(cut(text, limit)),
            Self::Interrupted(Interruption { kind, text }) => {
                Self::Interrupted(Interruption { kind: *kind, text: cut(text, limit) })
            }
            Self::Limit(text) => Self::Limit(cut(text, limit)),
        }
    }
}

impl fmt::Display for PauseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Self::Requested(_) => "requested",
            Self::AwaitingInput(_) => "waiting for input",
            Self::Interrupted(Interruption { kind, .. }) => kind.unwrap_or(OwnerLoss::Interrupted).name(),
            Self::Limit(_) => "limit reached",
        };
        match self.text() {
            "" => f.write_str(kind),
            text => write!(f, "{kind}: {text}"),
        }
    }
}

/// A pause that began with the loss of the owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StoredInterruption", into = "StoredInterruption")]
pub struct Interruption {
    /// The way in which the owner was lost; `None` in logs that do not record it.
    pub kind: Option<OwnerLoss>,
    /// The evidence, as a text for people.
    pub text: String,
}

impl Interruption {
    /// Creates an interruption.
    #[must_use]
    pub fn new(kind: OwnerLoss, text: impl Into<String>) -> Self {
        Self { kind: Some(kind), text: text.into() }
    }
}

/// An interruption in a log: the text alone if its kind is not recorded.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum StoredInterruption {
    Text(String),
    Full { kind: OwnerLoss, text: String },
}

impl From<StoredInterruption> for Interruption {
    fn from(stored: StoredInterruption) -> Self {
        match stored {
            StoredInterruption::Text(text) => Self { kind: None, text },
            StoredInterruption::Full { kind, text } => Self { kind: Some(kind), text },
        }
    }
}

impl From<Interruption> for StoredInterruption {
    fn from(Interruption { kind, text }: Interruption) -> Self {
        match kind {
            None => Self::Text(text),
            Some(kind) => Self::Full { kind, text },
        }
    }
}

/// The kind of failure that ended a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FailureCause {
    /// The work reported it.
    Work,
    /// The deadline passed.
    Timeout,
    /// The owner died, and recovery failed the session: by policy, or after too many deaths.
    Crash,
    /// The program could not be started.
    Spawn,
    /// The work panicked.
    Panic,
}

/// The failure of a session.
///
/// ```
/// use session_core::{Failure, FailureCause};
///
/// let failure = Failure::new(FailureCause::Work, "the archive is truncated").exit_code(2);
/// assert_eq!(failure.exit_code, Some(2));
/// let killed = Failure::new(FailureCause::Work, "out of memory").signal(9);
/// assert_eq!(killed.signal, Some(9));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Failure {
    /// A description for people.
    pub message: String,
    /// The kind of failure.
    pub cause: FailureCause,
    /// The exit code of the program, if it exited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The number of the signal that ended the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
}

impl Failure {
    /// Creates a failure without exit code and signal.
    #[must_use]
    pub fn new(cause: FailureCause, message: impl Into<String>) -> Self {
        Self { message: message.into(), cause, exit_code: None, signal: None }
    }

    /// Sets the exit code of the program.
    #[must_use]
    pub fn exit_code(mut self, code: i32) -> Self {
        self.exit_code = Some(code);
        self
    }

    /// Sets the number of the signal that ended the program.
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

/// The summary of a completed session.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct SessionSummary {
    /// A sentence for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The value that the work returned, possibly `null`. The log has it, a head does not.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "deserialize_present")]
    pub result: Option<Value>,
    /// Iterations completed. This field and all below are filled in from the log when the session completes.
    pub iterations: u64,
    /// Commands executed.
    pub commands: u64,
    /// Files changed, summed over the iterations.
    pub files_changed: u64,
    /// Lines added.
    pub lines_added: u64,
    /// Lines removed.
    pub lines_removed: u64,
    /// Commits made.
    pub commits: u64,
    /// Time spent running in milliseconds, without pauses and without the time between a death and the takeover.
    pub duration_ms: u64,
}

/// Deserializes a member that is `null` as `Some(Value::Null)`: work that returned `null` did return a value.
fn deserialize_present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl SessionSummary {
    /// Creates an empty summary.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the sentence for people.
    #[must_use]
    pub fn message(mut self, message: impl Into<String>) -> Self {
        self.message = Some(message.into());
        self
    }

    /// Sets the value that the work returned.
    #[must_use]
    pub fn result(mut self, result: Value) -> Self {
        self.result = Some(result);
        self
    }

    pub(crate) fn shortened(&self, limit: usize) -> Self {
        Self { message: self.message.as_deref().map(|text| cut(text, limit)), result: None, ..*self }
    }
}
