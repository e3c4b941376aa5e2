//! Steps: their identity, and the payloads of their records.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::config;
use crate::limits::{self, LimitError};
use crate::text::has_unsafe_char;

/// The identity of a step within a session: equal in every attempt.
///
/// ```
/// use session_core::StepIdentity;
///
/// assert_eq!(StepIdentity::nth("build", 1).to_string(), "build");
/// assert_eq!(StepIdentity::nth("build", 2).to_string(), "build#2");
/// assert_eq!(StepIdentity::keyed("send", "invoice-17").to_string(), "send[invoice-17]");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "IdentityMembers")]
pub struct StepIdentity {
    /// The name: at most 128 characters.
    pub name: String,
    /// The occurrence under this name.
    #[serde(flatten)]
    pub occurrence: StepOccurrence,
}

/// The members of an identity in a record.
#[derive(Deserialize)]
struct IdentityMembers {
    name: String,
    #[serde(default)]
    n: Option<u64>,
    #[serde(default)]
    key: Option<String>,
}

impl TryFrom<IdentityMembers> for StepIdentity {
    type Error = &'static str;

    fn try_from(IdentityMembers { name, n, key }: IdentityMembers) -> Result<Self, Self::Error> {
        let occurrence = match (n, key) {
            (Some(n), None) => StepOccurrence::Number(n),
            (None, Some(key)) => StepOccurrence::Key(key),
            // Two readers could take different ones of the two, and so two different steps.
            (Some(_), Some(_)) | (None, None) => return Err("a step has either a number or a key"),
        };
        Ok(Self { name, occurrence })
    }
}

/// One of the steps with the same name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum StepOccurrence {
    /// The n-th use of the name in an attempt, from 1.
    #[serde(rename = "n")]
    Number(u64),
    /// A key that the caller chose: at most 256 bytes.
    #[serde(rename = "key")]
    Key(String),
}

impl StepIdentity {
    /// Creates the identity of the n-th use of a name, from 1.
    #[must_use]
    pub fn nth(name: impl Into<String>, n: u64) -> Self {
        Self { name: name.into(), occurrence: StepOccurrence::Number(n) }
    }

    /// Creates the identity of a name with a key.
    #[must_use]
    pub fn keyed(name: impl Into<String>, key: impl Into<String>) -> Self {
        Self { name: name.into(), occurrence: StepOccurrence::Key(key.into()) }
    }

    /// Checks the limits of name and key.
    ///
    /// # Errors
    /// The first limit or rule that they violate.
    pub fn check(&self) -> Result<(), LimitError> {
        check_name(&self.name)?;
        match &self.occurrence {
            StepOccurrence::Number(0) => {
                Err(LimitError::invalid("number of a step", "is 0: the first one is 1"))
            }
            StepOccurrence::Number(_) => Ok(()),
            StepOccurrence::Key(key) if has_unsafe_char(key) => {
                Err(LimitError::invalid("key of a step", "contains a control or bidirectional character"))
            }
            StepOccurrence::Key(key) => {
                limits::at_most("key of a step (bytes)", key.len(), limits::STEP_KEY_BYTES)
            }
        }
    }
}

impl fmt::Display for StepIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match &self.occurrence {
            StepOccurrence::Number(1) => Ok(()),
            StepOccurrence::Number(n) => write!(f, "#{n}"),
            StepOccurrence::Key(key) => write!(f, "[{key}]"),
        }
    }
}

/// Returns `true` for 0, which records and heads leave out.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
pub(crate) const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Checks the name of a step: the rules are those of a session's name.
pub(super) fn check_name(name: &str) -> Result<(), LimitError> {
    config::check_name(name)
}

/// Checks the fingerprint and the command of a step.
pub(super) fn check_run(fingerprint: &str, command: Option<&str>) -> Result<(), LimitError> {
    limits::at_most("fingerprint (bytes)", fingerprint.len(), limits::STEP_KEY_BYTES)?;
    limits::at_most("command of a step (bytes)", command.map_or(0, str::len), limits::STEP_TEXT_BYTES)
}

/// A file whose content decides if a recorded end holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputFile {
    /// The path, as it was given.
    #[serde(with = "crate::os_text::bytes")]
    pub path: Vec<u8>,
    /// The digest of the content, which is only compared. `sessionctl` writes XXH3 with 128 bits, in hexadecimal digits; a
    /// client in another language may write another one.
    pub digest: String,
}

/// Checks the input files of a step.
pub(super) fn check_inputs(inputs: &[InputFile]) -> Result<(), LimitError> {
    limits::at_most("input files of a step", inputs.len(), limits::NAMED_FILES)?;
    let bytes = inputs.iter().map(|input| input.path.len() + input.digest.len()).sum();
    limits::at_most("input files of a step (bytes)", bytes, limits::INPUT_BYTES)
}

/// The reason why a step runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StepReason {
    /// It has not run before.
    First,
    /// It failed before.
    Failed,
    /// It was started before, and its end is unknown.
    Unknown,
    /// Its fingerprint differs from that of its recorded end.
    Changed,
    /// The content of one of its input files changed.
    Input,
    /// Its recorded end is too old.
    Age,
}

impl StepReason {
    /// Every reason.
    pub const ALL: &[Self] =
        &[Self::First, Self::Failed, Self::Unknown, Self::Changed, Self::Input, Self::Age];

    /// Returns the name, as written in logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
            Self::Changed => "changed",
            Self::Input => "input",
            Self::Age => "age",
        }
    }

    /// Returns `true` if the step has a recorded end that is not used.
    #[must_use]
    pub const fn is_rerun(self) -> bool {
        matches!(self, Self::Changed | Self::Input | Self::Age)
    }
}

/// The end of a step that is not run again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StepEnd {
    /// The exit code: 0 for success, another one if that failure is kept.
    pub exit_code: i32,
    /// The run time in milliseconds.
    pub duration_ms: u64,
    /// The size of the value in bytes; `None` if it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_bytes: Option<u64>,
    /// `true` if its output was longer than a value may be, so that it has none.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub too_long: bool,
    /// `true` if its end was unknown, and it was recorded as done without running it again.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub skipped: bool,
}

/// The end of a step that is run again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StepFailure {
    /// The exit code, unless a signal ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// The run time in milliseconds.
    pub duration_ms: u64,
    /// `true` if its time limit passed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub timed_out: bool,
    /// `true` if its outcome is unknown: a signal or a stop ended it, or the process that ran it has gone.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unknown: bool,
    /// The error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl StepFailure {
    pub(super) fn check(&self) -> Result<(), LimitError> {
        limits::at_most(
            "error of a step (bytes)",
            self.error.as_ref().map_or(0, String::len),
            limits::STEP_TEXT_BYTES,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_have_one_form_in_json() {
        for (step, json) in [
            (StepIdentity::nth("build", 2), r#"{"name":"build","n":2}"#),
            (StepIdentity::keyed("send", "a b"), r#"{"name":"send","key":"a b"}"#),
        ] {
            assert_eq!(serde_json::to_string(&step).unwrap(), json);
            assert_eq!(serde_json::from_str::<StepIdentity>(json).unwrap(), step);
        }
        for neither in [r#"{"name":"build"}"#, r#"{"name":"build","n":1,"key":"k"}"#] {
            assert!(serde_json::from_str::<StepIdentity>(neither).is_err(), "{neither}");
        }
    }

    #[test]
    fn names_and_keys_have_limits() {
        assert!(StepIdentity::nth("build", 1).check().is_ok());
        assert!(StepIdentity::keyed("build", "").check().is_ok());
        let long = "x".repeat(257);
        for step in [
            StepIdentity::nth("", 1),
            StepIdentity::nth("-x", 1),
            StepIdentity::nth("a\nb", 1),
            StepIdentity::nth(&long, 1),
            StepIdentity::nth("a", 0),
            StepIdentity::keyed("a", &long),
            StepIdentity::keyed("a", "b\u{202e}"),
        ] {
            assert!(step.check().is_err(), "{step:?}");
        }
    }

    #[test]
    fn every_reason_is_written_by_its_name() {
        for reason in StepReason::ALL {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.name());
        }
    }
}
