//! The questions of a session and their answers, as its log has them.

use std::collections::HashMap;

use session_core::{
    Answer, InheritedStep, Question, SessionEvent, StepIdentity, StepOccurrence, StepOutcome, Timestamp,
};

use crate::fingerprint::Fingerprint;

/// The questions of a session by their identity: the fold of its log.
#[derive(Debug, Clone, Default)]
pub struct QuestionTable {
    questions: HashMap<StepIdentity, QuestionStatus>,
    /// The revision of the last question, answer or withdrawal.
    changed: u64,
}

/// One use of a question: asked, answered, or both.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct QuestionStatus {
    /// The question as it was asked last, with the revision and the time at which it was first asked. `None` for an answer
    /// that came before it.
    pub question: Option<AskedQuestion>,
    /// The answer that holds.
    pub answer: Option<GivenAnswer>,
    /// `true` if the process that waited for the answer has gone.
    pub is_withdrawn: bool,
}

/// A question that was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AskedQuestion {
    /// The question.
    pub question: Question,
    /// The revision at which it was asked last.
    pub revision: u64,
    /// The time at which it was first asked.
    pub at: Timestamp,
}

/// An answer that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GivenAnswer {
    /// The answer.
    pub value: String,
    /// The person or program that gave it.
    pub by: String,
    /// `true` if it is the default of the question.
    pub is_default: bool,
    /// The fingerprint of the question that it answers; `None` if it came before any.
    pub to: Option<Fingerprint>,
    /// The time at which it was given.
    pub at: Timestamp,
    /// The revision at which it was given, or taken over.
    pub revision: u64,
}

impl QuestionStatus {
    /// Returns `true` if it waits for an answer.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.question.is_some() && self.answer.is_none() && !self.is_withdrawn
    }

    /// Returns the answer, if it holds for this question: one to another text does not, nor one before the question that is
    /// none of its choices.
    #[must_use]
    pub fn answer_to(&self, question: &Question) -> Option<&GivenAnswer> {
        let answer = self.answer.as_ref()?;
        let holds = match &answer.to {
            Some(asked) => *asked == Fingerprint::of_question(question),
            None => question.allows(&answer.value),
        };
        holds.then_some(answer)
    }
}

impl QuestionTable {
    /// Returns one use of a question.
    #[must_use]
    pub fn get(&self, question: &StepIdentity) -> Option<&QuestionStatus> {
        self.questions.get(question)
    }

    /// Returns the questions that wait for an answer, in the order in which they were first asked.
    #[must_use]
    pub fn open(&self) -> Vec<&AskedQuestion> {
        let open = self.questions.values().filter(|status| status.is_open());
        let mut open: Vec<_> = open.filter_map(|status| status.question.as_ref()).collect();
        open.sort_by_key(|asked| (asked.at, asked.revision));
        open
    }

    /// Returns all uses that were asked or answered.
    pub fn iter(&self) -> impl Iterator<Item = (&StepIdentity, &QuestionStatus)> {
        self.questions.iter()
    }

    /// Returns the revision of the last question, answer or withdrawal; 0 if there is none.
    #[must_use]
    pub const fn changed(&self) -> u64 {
        self.changed
    }

    /// Returns the use that an answer to this name is for: the oldest open one, else the next one.
    #[must_use]
    pub fn target(&self, name: &str) -> StepIdentity {
        let oldest = self.open().into_iter().find(|asked| asked.question.identity.name == name);
        if let Some(asked) = oldest {
            return asked.question.identity.clone();
        }
        let number = |step: &StepIdentity| match step.occurrence {
            StepOccurrence::Number(number) if step.name == name => Some(number),
            StepOccurrence::Number(_) | StepOccurrence::Key(_) => None,
        };
        let answered = self.questions.iter().filter(|(_, status)| status.answer.is_some());
        let last = answered.filter_map(|(step, _)| number(step)).max();
        StepIdentity::nth(name, last.unwrap_or(0) + 1)
    }

    /// Folds in an event at its revision.
    pub(crate) fn apply(&mut self, event: &SessionEvent, revision: u64, at: Timestamp) {
        #[expect(clippy::wildcard_enum_match_arm, reason = "only records of questions change the table")]
        match event {
            SessionEvent::Asked { question } => {
                self.changed = revision;
                self.asked(question, revision, at);
            }
            SessionEvent::Answered { answer, by, default } => {
                self.changed = revision;
                self.answered(answer, by, *default, at, revision);
            }
            SessionEvent::QuestionWithdrawn { asked } => {
                self.changed = revision;
                let is_it = |status: &&mut QuestionStatus| {
                    status.is_open() && status.question.as_ref().is_some_and(|known| known.revision == *asked)
                };
                self.questions.values_mut().filter(is_it).for_each(|status| status.is_withdrawn = true);
            }
            SessionEvent::Inherited { step } => self.inherited(step, revision),
            _ => {}
        }
    }

    fn asked(&mut self, question: &Question, revision: u64, at: Timestamp) {
        let status = self.questions.entry(question.identity.clone()).or_default();
        if status.answer_to(question).is_none() {
            // One that does not hold for this question.
            status.answer = None;
        }
        let first = status.question.as_ref().filter(|_| question.again).map_or(at, |known| known.at);
        status.question = Some(AskedQuestion { question: question.clone(), revision, at: first });
        status.is_withdrawn = false;
    }

    fn answered(&mut self, answer: &Answer, by: &str, is_default: bool, at: Timestamp, revision: u64) {
        let status = self.questions.entry(answer.identity.clone()).or_default();
        // The first one holds.
        if status.answer.is_some() {
            return;
        }
        let to = status.question.as_ref().map(|asked| Fingerprint::of_question(&asked.question));
        let (value, by) = (answer.value.clone(), by.to_owned());
        status.answer = Some(GivenAnswer { value, by, is_default, to, at, revision });
    }

    fn inherited(&mut self, step: &InheritedStep, revision: u64) {
        let StepOutcome::Answered { answer, by } = &step.outcome else { return };
        let to = Some(step.fingerprint.as_str()).filter(|fingerprint| !fingerprint.is_empty());
        let status = self.questions.entry(step.step.clone()).or_default();
        status.answer.get_or_insert_with(|| GivenAnswer {
            value: answer.clone(),
            by: by.clone(),
            is_default: false,
            to: to.map(Fingerprint::recorded),
            at: step.at,
            revision,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(value: &str, asked: Option<u64>) -> SessionEvent {
        let answer = Answer { identity: StepIdentity::nth("deploy", 1), value: value.to_owned(), asked };
        SessionEvent::Answered { answer: Box::new(answer), by: "me".to_owned(), default: false }
    }

    fn asked(again: bool) -> SessionEvent {
        let question = Question { again, ..Question::new(StepIdentity::nth("deploy", 1), "Deploy?") };
        SessionEvent::Asked { question: Box::new(question) }
    }

    fn table(events: &[SessionEvent]) -> QuestionTable {
        let mut table = QuestionTable::default();
        for (event, revision) in events.iter().zip(3..) {
            table.apply(event, revision, Timestamp::from_millis(i64::try_from(revision).unwrap()).unwrap());
        }
        table
    }

    #[test]
    fn the_first_answer_holds() {
        let table = table(&[asked(false), answered("yes", Some(3)), answered("no", Some(3))]);
        assert_eq!(table.questions[&StepIdentity::nth("deploy", 1)].answer.as_ref().unwrap().value, "yes");
        assert_eq!((table.changed(), table.open().len()), (5, 0));
        assert_eq!(table.target("deploy"), StepIdentity::nth("deploy", 2));
    }

    #[test]
    fn a_question_keeps_the_time_of_its_first_asking() {
        let withdrawn = SessionEvent::QuestionWithdrawn { asked: 4 };
        let table = table(&[asked(false), asked(true), withdrawn, asked(false)]);
        let open = table.open();
        assert_eq!((open[0].revision, open[0].at.as_millis()), (6, 6), "it was withdrawn in between");
        let again = super::tests::table(&[asked(false), asked(true)]);
        assert_eq!((again.open()[0].revision, again.open()[0].at.as_millis()), (4, 3));
    }
}
