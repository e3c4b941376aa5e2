//! The messages between a step's client and the owner of its session: one JSON object with one member per line, at most 1 MiB.
//! `docs/step-protocol.md` describes them for other languages.

use std::ffi::OsString;

use serde::{Deserialize, Serialize};
use session_core::limits::VALUE_PART_BYTES;
use session_core::{ErrorCode, InputFile, StepReason, Timestamp, os_text};

use crate::decisions::{OnChange, OnUnknown};

/// The version of the protocol.
pub const VERSION: u32 = 1;
/// Maximum bytes of one line.
pub const LINE_BYTES: u64 = 1024 * 1024;
/// Maximum bytes of one part of a value: it fits into a line whatever its characters are.
pub const PART_BYTES: usize = VALUE_PART_BYTES;

/// The variable with the idempotency key of a step in the environment of its command.
pub const KEY_VARIABLE: &str = "SESSIONCTL_STEP_KEY";
/// The variable by which the processes of a step are recognised. A client sets it to [`Run::run`].
pub const RUN_VARIABLE: &str = "SESSIONCTL_STEP_RUN";

/// A message of a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientMessage {
    /// A part of the input of the step that follows, at most 128 KiB. Not answered: the owner only makes the fingerprint
    /// from it.
    Input(Part),
    /// Begins a step. Answered by [`ServerMessage::Run`], [`ServerMessage::Replay`] or [`ServerMessage::Error`].
    Step(Box<StepMessage>),
    /// A part of the value of the step that runs. Not answered.
    Part(Part),
    /// The end of the step that runs. Answered by [`ServerMessage::Recorded`] or [`ServerMessage::Error`].
    End(End),
    /// Begins an `each`. Answered by [`ServerMessage::Each`] or [`ServerMessage::Error`]; then [`ServerMessage::Item`] says what to
    /// run, and [`ServerMessage::EachEnd`] that it has ended.
    Each(Box<EachMessage>),
    /// The next items of the input of the `each` that runs, each at most 128 KiB. Not answered.
    Items(#[serde(with = "os_text::list")] Vec<OsString>),
    /// The end of the input of the `each` that runs. Not answered.
    ItemsEnd {},
    /// Begins no further item of the `each` that runs: it ends after those that run. Not answered.
    EachStop {},
    /// A part of the value of an item that runs. Not answered.
    ItemPart(ItemPart),
    /// The end of an item that runs. Not answered.
    ItemEnd(ItemEnded),
    /// Asks a question. Answered by [`ServerMessage::Asked`] if it waits, then by [`ServerMessage::Answer`], or by
    /// [`ServerMessage::Error`].
    Ask(Box<AskMessage>),
    /// Sleeps. Answered by [`ServerMessage::Sleeping`] if it waits, then by [`ServerMessage::Slept`], or by
    /// [`ServerMessage::Error`].
    Sleep(Box<SleepMessage>),
}

impl ClientMessage {
    /// Returns the version of the protocol that a request names; `None` for a message that belongs to one.
    #[must_use]
    pub fn version(&self) -> Option<u32> {
        match self {
            Self::Step(step) => Some(step.version),
            Self::Each(each) => Some(each.version),
            Self::Ask(ask) => Some(ask.version),
            Self::Sleep(sleep) => Some(sleep.version),
            Self::Input(_)
            | Self::Part(_)
            | Self::End(_)
            | Self::Items(_)
            | Self::ItemsEnd {}
            | Self::EachStop {}
            | Self::ItemPart(_)
            | Self::ItemEnd(_) => None,
        }
    }
}

/// A step that is about to run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StepMessage {
    /// The version of the protocol that the client uses.
    pub version: u32,
    /// The name.
    pub name: String,
    /// The key, if the step has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The command and its arguments: the owner makes the fingerprint from them.
    #[serde(with = "os_text::list")]
    pub argv: Vec<OsString>,
    /// `true` if the command reads an input: the parts that were sent before. It is part of the fingerprint.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub input: bool,
    /// The treatment of an unknown end.
    pub if_unknown: OnUnknown,
    /// The treatment of a recorded end of something else.
    pub on_change: OnChange,
    /// `true` to record every failure as an end that is not run again.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub keep_failure: bool,
    /// Exit codes that are recorded as an end that is not run again, besides 0.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ok: Vec<i32>,
    /// The time limit in milliseconds. After it, the owner ends the command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// `true` if standard output is the value of the step, `false` if not. Without it, it is one unless `stdout` is the output
    /// of the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<bool>,
    /// The standard output of the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdout: Option<FileIdentity>,
    /// The input files: a recorded end holds only for the same content.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<InputFile>,
    /// The age in milliseconds from which a recorded end does not hold any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age_ms: Option<u64>,
}

/// An `each` that is about to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EachMessage {
    /// The version of the protocol that the client uses.
    pub version: u32,
    /// The name.
    pub name: String,
    /// The key, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The command and its arguments: the owner makes the fingerprint from them.
    #[serde(with = "os_text::list")]
    pub argv: Vec<OsString>,
    /// The number of items that run at a time, at least 1.
    pub jobs: usize,
    /// The number of failed items after which no further item begins; any number without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_failures: Option<u64>,
    /// The number of times that a failed item is run again.
    pub retries: usize,
    /// The delay before the first of these in milliseconds. It doubles with each one, up to a minute.
    pub backoff_ms: u64,
    /// The treatment of an unknown end.
    pub if_unknown: OnUnknown,
    /// The treatment of recorded items of another command.
    pub on_change: OnChange,
    /// `true` if the outputs of the items are values: the owner sends all of them at the end, in the order of the input.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub values: bool,
}

impl Default for EachMessage {
    fn default() -> Self {
        Self {
            version: 0,
            name: String::new(),
            key: None,
            argv: Vec::new(),
            jobs: 1,
            max_failures: None,
            retries: 0,
            backoff_ms: 1000,
            if_unknown: OnUnknown::default(),
            on_change: OnChange::default(),
            values: false,
        }
    }
}

/// A part of the value of an item, at most 128 KiB.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemPart {
    /// The number of the item.
    pub item: u64,
    /// The bytes.
    pub part: Part,
}

/// The end of the command of an item.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ItemEnded {
    /// The number of the item.
    pub item: u64,
    /// The exit code, unless a signal ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The number of the signal that ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
}

/// A question.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AskMessage {
    /// The version of the protocol that the client uses.
    pub version: u32,
    /// The name.
    pub name: String,
    /// The key, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The question, at most 4 KiB.
    pub question: String,
    /// The answers that it allows; any if there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
    /// The answer that holds if no other one comes in time. Needs `after_ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// The time in milliseconds after which the default holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after_ms: Option<u64>,
}

/// A sleep: for a time or until one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SleepMessage {
    /// The version of the protocol that the client uses.
    pub version: u32,
    /// The name.
    pub name: String,
    /// The key, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The time to sleep in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after_ms: Option<u64>,
    /// The time at which to wake up, in UTC with milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// A file, as the kernel identifies it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileIdentity {
    /// The device: `st_dev`.
    pub device: u64,
    /// The inode: `st_ino`.
    pub inode: u64,
}

/// A part of a value, at most 128 KiB: a text, or `{"base64": …}` if it is not UTF-8.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Part(#[serde(with = "os_text::bytes")] pub Vec<u8>);

/// The end of a command.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct End {
    /// The exit code, unless a signal ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The number of the signal that ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// `true` if its output was longer than 16 MiB, and its parts were not sent.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub too_long: bool,
}

/// A message of the owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerMessage {
    /// The step runs: its start is recorded. The client starts the command.
    Run(Run),
    /// The step does not run: this end is recorded. The parts of its value follow.
    Replay(Replay),
    /// A part of the value of a replayed step.
    Part(Part),
    /// The end of the step is recorded.
    Recorded(Recorded),
    /// The `each` is recorded: the client sends its items.
    Each(EachRun),
    /// An item runs: its start is recorded. The client starts the command.
    Item(ItemRun),
    /// The `each` has ended. The parts of its values follow, if it has any.
    EachEnd(EachEnd),
    /// The question waits for an answer.
    Asked(Asked),
    /// The question is answered.
    Answer(Answered),
    /// The sleep waits for its wake-up time.
    Sleeping(Sleeping),
    /// The wake-up time has passed.
    Slept(Slept),
    /// The request was refused.
    Error(Refusal),
}

/// The order to run a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The idempotency key, for [`KEY_VARIABLE`].
    pub key: String,
    /// The value of [`RUN_VARIABLE`].
    pub run: String,
    /// The reason why it runs.
    pub because: StepReason,
    /// `true` if its standard output is its value.
    pub value: bool,
    /// The reason why a recorded end does not hold, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// An `each` whose start is recorded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EachRun {
    /// The value of [`RUN_VARIABLE`] for all of its commands.
    pub run: String,
    /// The number of items that are recorded as done.
    pub done: u64,
    /// `true` if the recorded items of another command were given up.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub changed: bool,
}

/// The order to run an item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemRun {
    /// The number of the item.
    pub item: u64,
    /// The item.
    #[serde(with = "os_text::bytes")]
    pub arg: Vec<u8>,
    /// The idempotency key, for [`KEY_VARIABLE`].
    pub key: String,
}

/// The end of an `each`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EachEnd {
    /// Items in the input.
    pub total: u64,
    /// Items that were recorded as done before.
    pub before: u64,
    /// Items that were done now.
    pub done: u64,
    /// Items that failed, or whose end is unknown.
    pub failed: u64,
    /// Items that an earlier run, which has started all of its items, did not have.
    pub new: u64,
    /// Items of earlier runs that the input does not have.
    pub vanished: u64,
    /// The first ones of these, for people.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vanished_names: Vec<String>,
    /// Items that were not run, because others failed.
    pub not_run: u64,
    /// The size of all values in bytes; absent if it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_bytes: Option<u64>,
    /// `true` if the values together are longer than 16 MiB: there are none then.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub too_long: bool,
}

/// A question that waits for an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Asked {
    /// The session, for the answer.
    pub session: String,
    /// The name of the question.
    pub name: String,
    /// The time at which its default holds, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_at: Option<Timestamp>,
}

/// An answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Answered {
    /// The answer.
    pub answer: String,
    /// The person or program that answered.
    pub by: String,
    /// `true` if nobody did in time, and the default holds.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub default: bool,
    /// `true` if it was recorded before.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub recorded: bool,
}

/// A sleep whose wake-up time is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sleeping {
    /// The wake-up time.
    pub until: Timestamp,
}

/// A sleep whose wake-up time has passed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Slept {
    /// `true` if that was recorded before.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub recorded: bool,
}

/// A recorded end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Replay {
    /// The exit code.
    pub exit_code: i32,
    /// The attempt that ran it; 0 if it was taken over from the session that this one retries.
    pub attempt: u32,
    /// The size of its value in bytes; absent if it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_bytes: Option<u64>,
    /// `true` if its output was longer than a value may be.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub too_long: bool,
    /// `true` if its end was unknown, and it was recorded as done without running it again.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub skipped: bool,
}

/// The recorded outcome of a step that ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Recorded {
    /// It is not run again.
    Completed,
    /// It failed, and is run again.
    Failed,
    /// Its time limit passed: a failure.
    TimedOut,
    /// Its end is unknown: a signal or a stop ended it.
    Unknown,
}

/// The reason why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// A stable error code.
    pub code: String,
    /// The reason.
    pub message: String,
}

impl Refusal {
    /// Creates a refusal.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code: code.as_str().to_owned(), message: message.into() }
    }
}

/// Encodes a message as a line.
///
/// # Errors
/// Those of the conversion to JSON.
pub fn encode(message: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_the_documented_form() {
        let step = r#"{"step":{"version":1,"name":"build","argv":["make",{"base64":"/w=="}],"if_unknown":"skip","on_change":"refuse","timeout_ms":5,"stdout":{"device":1,"inode":2}}}"#;
        let message: ClientMessage = serde_json::from_str(step).unwrap();
        assert_eq!(serde_json::to_string(&message).unwrap(), step);
        for line in [
            r#"{"part":"1.4.0\n"}"#,
            r#"{"part":{"base64":"/w=="}}"#,
            r#"{"end":{"exit_code":0}}"#,
            r#"{"end":{"signal":9,"too_long":true}}"#,
        ] {
            let message: ClientMessage = serde_json::from_str(line).unwrap();
            assert_eq!(serde_json::to_string(&message).unwrap(), line);
        }
        for line in [
            r#"{"run":{"key":"k","run":"r","because":"first","value":true}}"#,
            r#"{"replay":{"exit_code":0,"attempt":1,"value_bytes":5}}"#,
            r#"{"recorded":"completed"}"#,
            r#"{"error":{"code":"STEP_CHANGED","message":"m"}}"#,
        ] {
            let message: ServerMessage = serde_json::from_str(line).unwrap();
            assert_eq!(serde_json::to_string(&message).unwrap(), line);
        }
    }

    #[test]
    fn the_largest_part_fits_into_a_line() {
        for byte in [0u8, b'"', 0x1b, 0xff] {
            let line = encode(&ServerMessage::Part(Part(vec![byte; PART_BYTES]))).unwrap();
            assert!(line.len() as u64 <= LINE_BYTES, "{byte}: {}", line.len());
        }
        let bidi = "\u{202e}".repeat(PART_BYTES / 3);
        assert!(encode(&ClientMessage::Part(Part(bidi.into_bytes()))).unwrap().len() as u64 <= LINE_BYTES);
    }
}
