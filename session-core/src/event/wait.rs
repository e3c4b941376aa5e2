//! Questions, answers and sleeps: the payloads of their records.

use serde::{Deserialize, Serialize};

use super::step::StepIdentity;
use crate::limits::{self, LimitError};
use crate::text::has_unsafe_char;
use crate::time::Timestamp;

/// A question that the work waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// The identity, among the questions of the session.
    #[serde(flatten)]
    pub identity: StepIdentity,
    /// The question, at most 4 KiB.
    #[serde(rename = "question")]
    pub text: String,
    /// The answers that it allows; any if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
    /// The answer that holds if no other one has come by `default_at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// The time at which the default holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_at: Option<Timestamp>,
    /// `true` if a former attempt asked it, and it was neither answered nor withdrawn since.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub again: bool,
}

impl Question {
    /// Creates a question that allows any answer, and has no default.
    #[must_use]
    pub fn new(identity: StepIdentity, text: impl Into<String>) -> Self {
        let (choices, text) = (Vec::new(), text.into());
        Self { identity, text, choices, default: None, default_at: None, again: false }
    }

    /// Returns `true` if it allows this answer.
    ///
    /// ```
    /// use session_core::{Question, StepIdentity};
    ///
    /// let mut question = Question::new(StepIdentity::nth("deploy", 1), "Deploy 1.4.0?");
    /// assert!(question.allows("later"));
    /// question.choices = vec!["yes".to_owned(), "no".to_owned()];
    /// assert!(question.allows("no") && !question.allows("later"));
    /// ```
    #[must_use]
    pub fn allows(&self, answer: &str) -> bool {
        self.choices.is_empty() || self.choices.iter().any(|choice| choice == answer)
    }

    /// Checks the limits and rules of the question.
    ///
    /// # Errors
    /// The first limit or rule that it violates.
    pub fn check(&self) -> Result<(), LimitError> {
        self.identity.check()?;
        limits::at_most("question (bytes)", self.text.len(), limits::STEP_TEXT_BYTES)?;
        limits::at_most("choices of a question", self.choices.len(), limits::CHOICES)?;
        for choice in &self.choices {
            limits::at_most("choice of a question (bytes)", choice.len(), limits::STEP_BYTES)?;
            if choice.is_empty() || has_unsafe_char(choice) {
                let problem = "is empty, or contains a control or bidirectional character";
                return Err(LimitError::invalid("choice of a question", problem));
            }
        }
        match &self.default {
            Some(default) if !self.allows(default) => {
                Err(LimitError::invalid("default of a question", "is none of its choices"))
            }
            Some(default) => check_value(default),
            None => Ok(()),
        }
    }
}

/// An answer to a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The identity of the question.
    #[serde(flatten)]
    pub identity: StepIdentity,
    /// The answer, at most 128 KiB.
    #[serde(rename = "answer")]
    pub value: String,
    /// The revision of the question; absent in an answer that came before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<u64>,
}

impl Answer {
    pub(super) fn check(&self) -> Result<(), LimitError> {
        self.identity.check()?;
        check_value(&self.value)
    }
}

pub(super) fn check_value(value: &str) -> Result<(), LimitError> {
    limits::at_most("answer (bytes)", value.len(), limits::VALUE_PART_BYTES)
}
