//! Steps, items, answers and sleeps that a session takes over from the one that it retries: the payload of `inherited`.

use serde::{Deserialize, Serialize};

use super::items::ItemIdentity;
use super::step::{InputFile, StepEnd, StepIdentity, check_inputs, check_run, is_zero};
use super::wait::check_value;
use crate::id::SessionId;
use crate::limits::LimitError;
use crate::time::Timestamp;

/// A step that a session takes over from the one that it retries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InheritedStep {
    /// The identity.
    #[serde(flatten)]
    pub step: StepIdentity,
    /// The fingerprint of what it ran.
    pub fingerprint: String,
    /// The number of recorded ends that were run again on purpose.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub reruns: u64,
    /// The command that it ran, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// The session that ran it.
    pub from: SessionId,
    /// The time of its end, or of its start if the end is unknown.
    pub at: Timestamp,
    /// Its input files, with the content that they had before it ran.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<InputFile>,
    /// The outcome.
    pub outcome: StepOutcome,
}

/// The outcome of a step that is taken over; of an `each`, a question or a sleep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepOutcome {
    /// It is not run again.
    Completed(StepEnd),
    /// It was started, and its end is unknown.
    Unknown {
        /// The number of deaths of an owner at which it was open, without an end since.
        #[serde(default, skip_serializing_if = "is_zero")]
        deaths: u64,
    },
    /// Items of an `each`, at most as many as fit into the record. More may follow in other records.
    Items {
        /// The items.
        items: Vec<InheritedItem>,
        /// `true` if the values of all items of the `each` together were longer than they may be.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        too_long: bool,
    },
    /// The question of this name was answered.
    Answered {
        /// The answer.
        answer: String,
        /// The person or program that answered.
        by: String,
    },
    /// The wake-up time of the sleep of this name has passed.
    Slept,
}

impl InheritedStep {
    pub(super) fn check(&self) -> Result<(), LimitError> {
        self.step.check()?;
        check_inputs(&self.inputs)?;
        check_run(&self.fingerprint, self.command.as_deref())?;
        match &self.outcome {
            StepOutcome::Items { items, .. } => items.iter().try_for_each(|item| item.identity.check()),
            StepOutcome::Answered { answer, .. } => check_value(answer),
            StepOutcome::Completed(_) | StepOutcome::Unknown { .. } | StepOutcome::Slept => Ok(()),
        }
    }
}

/// An item that a session takes over from the one that it retries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InheritedItem {
    /// The number of the item.
    pub item: u64,
    /// The item itself.
    #[serde(flatten)]
    pub identity: ItemIdentity,
    /// `true` if it was started, and its end is unknown; else it is done.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unknown: bool,
    /// The number of deaths of an owner at which it was open, without an end since.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub deaths: u64,
}
