//! The messages between a step's client and the owner of its session: one JSON object with one member per line, at most 1 MiB.
//! `docs/step-protocol.md` describes them for other languages.

use std::ffi::OsString;

use serde::{Deserialize, Serialize};
use session_core::limits::VALUE_PART_BYTES;
use session_core::{ErrorCode, StepReason, os_text};

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
