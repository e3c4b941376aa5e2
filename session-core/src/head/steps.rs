//! The steps, items and waits of a log, as its head has them.

use serde::{Deserialize, Serialize};

use super::{add, short};
use crate::event::{Answer, ItemMoves, Question, SessionEvent, StepOutcome, is_zero};
use crate::limits::HEAD_ID;
use crate::text::cut;
use crate::time::Timestamp;

/// The open questions that a head names, the oldest ones.
const NAMED_QUESTIONS: usize = 4;

/// The steps of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct StepTotals {
    /// Recorded ends of steps, those that were taken over included.
    pub completed: u64,
    /// Failures and unknown ends.
    pub failed: u64,
    /// Steps of the last attempt that were started and have not ended. After the death of their owner they may have
    /// happened.
    pub open: u64,
    /// The name of the step that was started last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newest: Option<String>,
}

/// The items of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ItemTotals {
    /// Items of the last attempt that were begun and have not ended, of every `each`. After the death of their owner they
    /// may have happened.
    pub open: u64,
    /// The name of the `each` that was started last, to which the other numbers belong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newest: Option<String>,
    /// The revision at which it was started.
    pub each: u64,
    /// Its items with a recorded end.
    pub done: u64,
    /// Its failures and unknown ends since it was started.
    pub failed: u64,
    /// The number of its items, once it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
}

/// The questions and sleeps of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct WaitTotals {
    /// Questions without an answer.
    pub questions: u64,
    /// The oldest ones, at most four; fewer if they were answered before later ones, or if the head has no room.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub oldest: Vec<OpenQuestion>,
    /// Questions and sleeps that the last attempt waits for.
    pub open: u64,
    /// The wake-up time of the sleep that was started last, until it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// The revision at which that sleep was started.
    #[serde(skip_serializing_if = "is_zero")]
    pub sleep: u64,
    /// The revision of the last question, answer or withdrawal.
    pub changed: u64,
    /// The revision at which the last attempt began, if there was a question, or an open sleep, before it.
    #[serde(skip_serializing_if = "is_zero")]
    pub attempt: u64,
}

/// A question without an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OpenQuestion {
    /// The name, cut to 64 bytes.
    pub name: String,
    /// The revision at which it was asked last.
    pub revision: u64,
    /// The time at which it was first asked.
    pub at: Timestamp,
}

impl StepTotals {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Counts a record. Returns `true` if it is the end of a step.
    pub(super) fn count(&mut self, event: &SessionEvent) -> bool {
        #[expect(clippy::wildcard_enum_match_arm, reason = "only records of steps are counted")]
        match event {
            SessionEvent::Inherited { step } => {
                add(&mut self.completed, u64::from(matches!(step.outcome, StepOutcome::Completed(_))));
            }
            SessionEvent::StepStarted { step, .. } => {
                add(&mut self.open, 1);
                self.newest = Some(short(&step.to_string()));
            }
            SessionEvent::StepCompleted { end, .. } => {
                add(&mut self.completed, 1);
                // A step that is skipped was open in a former attempt.
                self.open = self.open.saturating_sub(u64::from(!end.skipped));
                return true;
            }
            SessionEvent::StepFailed { .. } => {
                add(&mut self.failed, 1);
                self.open = self.open.saturating_sub(1);
            }
            _ => {}
        }
        false
    }
}

impl ItemTotals {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Counts a record. Returns `true` if it has the recorded end of an item.
    pub(super) fn count(&mut self, event: &SessionEvent, revision: u64) -> bool {
        #[expect(clippy::wildcard_enum_match_arm, reason = "only records of items are counted")]
        match event {
            SessionEvent::EachStarted { step, done, .. } => {
                let (newest, open) = (Some(short(&step.to_string())), self.open);
                *self = Self { open, newest, each: revision, done: *done, failed: 0, total: None };
                false
            }
            SessionEvent::ItemsMoved { moves } => self.moved(moves),
            _ => false,
        }
    }

    fn moved(&mut self, moves: &ItemMoves) -> bool {
        let [done, failed, skipped, begun] =
            [moves.done.len(), moves.failed.len(), moves.skipped.len(), moves.begun.len()]
                .map(|count| u64::try_from(count).unwrap_or(u64::MAX));
        self.open = self.open.saturating_sub(done.saturating_add(failed)).saturating_add(begun);
        if moves.each == self.each {
            add(&mut self.done, done.saturating_add(skipped));
            add(&mut self.failed, failed);
            self.total = moves.total.or(self.total);
        }
        // As a step that is skipped: it is not run again.
        done > 0 || skipped > 0
    }
}

impl WaitTotals {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// A new attempt waits for nothing yet. Questions stay open.
    pub(super) fn attempt_begins(&mut self, revision: u64) {
        if !self.is_empty() {
            self.attempt = revision;
        }
        (self.open, self.until, self.sleep) = (0, None, 0);
    }

    /// The session has ended: nothing can be answered any more.
    pub(super) fn end(&mut self) {
        *self = Self::default();
    }

    pub(super) fn count(&mut self, event: &SessionEvent, revision: u64, at: Timestamp) {
        #[expect(clippy::wildcard_enum_match_arm, reason = "only records of waits are counted")]
        match event {
            SessionEvent::Asked { question } => self.asked(question, revision, at),
            SessionEvent::Answered { answer, .. } => self.answered(answer, revision),
            SessionEvent::QuestionWithdrawn { asked } => self.question_ends(*asked, revision),
            SessionEvent::SleepStarted { until, .. } => {
                add(&mut self.open, 1);
                (self.until, self.sleep) = (Some(*until), revision);
            }
            SessionEvent::SleepEnded { start, .. } if *start > self.attempt => {
                self.open = self.open.saturating_sub(1);
                if *start == self.sleep {
                    (self.until, self.sleep) = (None, 0);
                }
            }
            _ => {}
        }
    }

    fn asked(&mut self, question: &Question, revision: u64, at: Timestamp) {
        self.changed = revision;
        add(&mut self.open, 1);
        let name = cut(&question.identity.to_string(), HEAD_ID);
        if question.again {
            // Names that differ only after 64 bytes are asked again in the same order.
            let named = self.oldest.iter_mut().filter(|known| known.name == name);
            if let Some(known) = named.min_by_key(|known| known.revision) {
                known.revision = revision;
            }
            return;
        }
        // An older question that is not named would be missing between them.
        let are_all_named = u64::try_from(self.oldest.len()).is_ok_and(|named| named >= self.questions);
        add(&mut self.questions, 1);
        if are_all_named && self.oldest.len() < NAMED_QUESTIONS {
            self.oldest.push(OpenQuestion { name, revision, at });
        }
    }

    fn answered(&mut self, answer: &Answer, revision: u64) {
        self.changed = revision;
        if let Some(asked) = answer.asked {
            self.question_ends(asked, revision);
        }
    }

    fn question_ends(&mut self, asked: u64, revision: u64) {
        self.changed = revision;
        self.questions = self.questions.saturating_sub(1);
        self.oldest.retain(|known| known.revision != asked);
        if asked > self.attempt {
            self.open = self.open.saturating_sub(1);
        }
    }
}
