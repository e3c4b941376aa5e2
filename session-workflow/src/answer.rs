//! Answers to the questions of any session, from any process.

use session_core::{Answer, ErrorCode, SessionError, SessionId, SessionManager, StepIdentity, StorageError};

use crate::questions::AskedQuestion;
use crate::workflow_state::WorkflowState;

/// The reason why a question is not answered.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// It has an answer already, which holds.
    #[error("question `{question}` was answered already: {answer} (by {by})")]
    Answered {
        /// The question.
        question: StepIdentity,
        /// The answer that holds.
        answer: String,
        /// The person or program that gave it.
        by: String,
    },
    /// The question has choices, and this is none of them.
    #[error("question `{question}` allows only {}", list(.choices))]
    NoChoice {
        /// The question.
        question: StepIdentity,
        /// Its choices.
        choices: Vec<String>,
    },
    /// The session waits for no answer, or for several, and no name was given.
    #[error("session {id} {}", open_questions(.open))]
    Unnamed {
        /// The session.
        id: SessionId,
        /// The names of its open questions.
        open: Vec<String>,
    },
    /// The session has ended, or the storage failed.
    #[error(transparent)]
    Session(#[from] SessionError),
}

fn list(choices: &[String]) -> String {
    choices.iter().map(|choice| format!("`{choice}`")).collect::<Vec<_>>().join(", ")
}

fn open_questions(open: &[String]) -> String {
    if open.is_empty() {
        "has no open question: give the name of the one that is to come".to_owned()
    } else {
        format!("has several open questions, give the name of one: {}", list(open))
    }
}

impl AnswerError {
    /// Returns the stable error code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Answered { .. } => ErrorCode::Conflict,
            Self::NoChoice { .. } => ErrorCode::InvalidArgument,
            Self::Unnamed { open, .. } if open.is_empty() => ErrorCode::NotFound,
            Self::Unnamed { .. } => ErrorCode::Ambiguous,
            Self::Session(error) => error.code(),
        }
    }
}

/// The question that an answer is for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AnswerTo {
    /// The only open question.
    TheOnlyOne,
    /// The oldest open question with this name; if there is none, the next one, which is not asked yet.
    Named(String),
    /// One use of a question, asked or not.
    Use(StepIdentity),
}

/// Answers a question of a session, whichever process owns it, also before it is asked. The first answer holds. Returns the
/// use that it is for.
///
/// ```
/// use session_core::{InMemorySessionManager, SessionConfig, SessionManager as _, SessionManagerExt as _};
/// use session_workflow::{AnswerTo, SessionSteps as _, answer};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let manager = InMemorySessionManager::new();
/// let id = manager.create_session(SessionConfig::new("release")).await?;
/// answer(&manager, id, AnswerTo::Named("deploy".to_owned()), "yes").await?;
///
/// let session = manager.start_session(id).await?;
/// let deploys = session.ask("deploy", "Deploy 1.4.0?").choices(["yes", "no"]).await?;
/// assert_eq!(deploys, "yes");
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`AnswerError`]: nothing was changed.
pub async fn answer(
    manager: &(impl SessionManager + ?Sized),
    id: SessionId,
    to: AnswerTo,
    value: &str,
) -> Result<StepIdentity, AnswerError> {
    loop {
        let state = WorkflowState::read(manager, id).await?;
        let questions = state.questions();
        let identity = match &to {
            AnswerTo::TheOnlyOne => match questions.open().as_slice() {
                [only] => only.question.identity.clone(),
                open => {
                    let name = |asked: &&AskedQuestion| asked.question.identity.name.clone();
                    return Err(AnswerError::Unnamed { id, open: open.iter().map(name).collect() });
                }
            },
            AnswerTo::Named(name) => questions.target(name),
            AnswerTo::Use(identity) => identity.clone(),
        };
        let status = questions.get(&identity);
        if let Some(given) = status.and_then(|status| status.answer.as_ref()) {
            let (answer, by) = (given.value.clone(), given.by.clone());
            return Err(AnswerError::Answered { question: identity, answer, by });
        }
        let asked = status.filter(|status| status.is_open()).and_then(|status| status.question.as_ref());
        if let Some(asked) = asked.filter(|asked| !asked.question.allows(value)) {
            let choices = asked.question.choices.clone();
            return Err(AnswerError::NoChoice { question: identity, choices });
        }
        let asked = asked.map(|asked| asked.revision);
        let answer = Answer { identity: identity.clone(), value: value.to_owned(), asked };
        match manager.append_answer(id, questions.changed(), answer).await {
            Ok(_) => return Ok(identity),
            // A question or an answer came in between.
            Err(SessionError::Storage(StorageError::Conflict { .. })) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
