//! The questions and the wake-up time that a session waits for, in words, and the command that answers.

use sessionkit::log::{Question, StepOccurrence, Timestamp};
use sessionkit::text::{cut_columns, visible};
use sessionkit::workflow::WorkflowState;
use sessionkit::{Head, Result, SessionEvent, SessionId, SessionManager, SessionManagerExt as _};

use crate::status::Status;

/// Columns of a question that is named in one line.
const TEXT_COLUMNS: usize = 60;
/// The answer in a command line that is shown, where the person has to choose one.
const VALUE: &str = "VALUE";

/// A question without an answer.
#[derive(Debug, Clone)]
pub(crate) struct OpenQuestion {
    pub(crate) question: Question,
    /// The time at which it was first asked.
    pub(crate) asked_at: Timestamp,
}

/// Reads the open questions of a session, the oldest first.
///
/// # Errors
/// Failures of the storage.
pub(crate) async fn open_questions(manager: &dyn SessionManager, head: &Head) -> Result<Vec<OpenQuestion>> {
    let named = &head.waits.oldest;
    if !u64::try_from(named.len()).is_ok_and(|named| named == head.waits.questions) {
        return all_open_questions(manager, head.id).await;
    }
    let mut questions = Vec::with_capacity(named.len());
    for known in named {
        let records = manager.read_records(head.id, known.revision.saturating_sub(1), 1).await?;
        let Some(SessionEvent::Asked { question }) = records.into_iter().next().map(|record| record.event)
        else {
            return all_open_questions(manager, head.id).await;
        };
        questions.push(OpenQuestion { question: *question, asked_at: known.at });
    }
    Ok(questions)
}

async fn all_open_questions(manager: &dyn SessionManager, id: SessionId) -> Result<Vec<OpenQuestion>> {
    let workflow = WorkflowState::read(manager, id).await?;
    let open = workflow.questions().open().into_iter();
    Ok(open.map(|asked| OpenQuestion { question: asked.question.clone(), asked_at: asked.at }).collect())
}

impl OpenQuestion {
    /// Returns the arguments of the command that answers it.
    pub(crate) fn answer(&self, id: SessionId) -> Vec<String> {
        let identity = &self.question.identity;
        let mut words = vec!["answer".to_owned(), id.to_string()];
        match &identity.occurrence {
            StepOccurrence::Number(1) => {}
            StepOccurrence::Number(number) => words.extend(["--number".to_owned(), number.to_string()]),
            StepOccurrence::Key(key) => words.push(format!("--key={key}")),
        }
        words.extend([identity.name.clone(), VALUE.to_owned()]);
        words
    }

    /// Says in one line that it is asked.
    pub(crate) fn sentence(&self) -> String {
        let Question { identity, text, choices, .. } = &self.question;
        let text = one_line(text);
        let choices =
            if choices.is_empty() { String::new() } else { format!(" ({})", one_line(&choices.join(", "))) };
        format!("asks `{}`: {text}{choices}", visible(&identity.to_string()))
    }
}

/// Says in one line for what a session waits; `None` if it waits for nothing.
pub(crate) fn sentence(head: &Head, questions: &[OpenQuestion]) -> Option<String> {
    let mut parts: Vec<String> = questions.first().map(OpenQuestion::sentence).into_iter().collect();
    if let more @ 1.. = questions.len().saturating_sub(1) {
        parts.push(format!("{more} more questions"));
    }
    parts.extend(head.waits.until.map(|until| format!("sleeps until {until}")));
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// Says in one line for what a session of this status waits. A session without an owner waits for nothing but its owner,
/// and only its questions are named. Without access to its log, they are named as its head has them.
pub(crate) async fn describe(manager: &dyn SessionManager, head: &Head, status: Status) -> Option<String> {
    if head.waits.questions == 0 && status != Status::Waiting {
        return None;
    }
    let questions = open_questions(manager, head).await.unwrap_or_default();
    if status == Status::Waiting {
        return sentence(head, &questions);
    }
    let mut awake = head.clone();
    awake.waits.until = None;
    sentence(&awake, &questions)
}

/// Returns the beginning of a text, on one line.
fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    cut_columns(&visible(&line), TEXT_COLUMNS).into_owned()
}
