//! Questions of the work: asked once, answered by any process, and never asked again.

use std::future::IntoFuture;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use session_core::{
    Answer, ErrorCode, Question, Result, Session, SessionError, SessionEvent, StepIdentity, Timestamp,
};

use crate::attempt::{Attempt, State, cut};
use crate::decisions::OnUnknown;
use crate::error::StepError;
use crate::fingerprint::Fingerprint;
use crate::questions::GivenAnswer;
use crate::start::to_end;

/// Longest wait before the clock is read again: a clock that was set, or a suspended machine, is noticed after that time.
pub(crate) const CLOCK_INTERVAL: Duration = Duration::from_secs(1);

/// A question that the work is about to ask.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct AskRequest {
    pub(crate) name: String,
    pub(crate) key: Option<String>,
    pub(crate) text: String,
    pub(crate) choices: Vec<String>,
    /// The answer that holds after a time without another one.
    pub(crate) default: Option<(String, Duration)>,
}

impl AskRequest {
    fn question(&self, identity: StepIdentity, now: Timestamp) -> Question {
        let mut question = Question::new(identity, self.text.clone());
        question.choices.clone_from(&self.choices);
        if let Some((default, after)) = &self.default {
            question.default = Some(default.clone());
            question.default_at = Some(now.after(*after));
        }
        question
    }
}

/// The result of asking.
#[derive(Debug)]
pub(crate) enum Asking {
    /// It is answered already.
    Answered(GivenAnswer),
    /// It waits for an answer.
    Open(OpenQuestion),
}

/// Asks a question, unless it is answered already.
///
/// # Errors
/// A refusal if it waits and nobody can answer: `can_be_answered` is `false`, and it has no default.
pub(crate) async fn begin_ask(
    attempt: &Arc<Attempt>,
    session: &Session,
    request: &AskRequest,
    can_be_answered: bool,
) -> Result<Asking, StepError> {
    let mut open = reserve(attempt, session, request).await?;
    loop {
        let now = session.clock().now();
        let mut question = request.question(open.identity.clone(), now);
        let known = {
            let state = attempt.state();
            let questions = &state.workflow.questions;
            if let Some(status) = questions.get(&open.identity) {
                if let Some(answer) = status.answer_to(&question) {
                    let answer = answer.clone();
                    drop(state);
                    open.has_ended(None);
                    return Ok(Asking::Answered(answer));
                }
                if let Some(asked) = status.question.as_ref().filter(|_| status.is_open()) {
                    question.again = true;
                    // The time of the default is recorded once.
                    question.default_at = asked.question.default_at.filter(|_| question.default.is_some());
                }
            }
            questions.changed()
        };
        if !can_be_answered && question.default.is_none() {
            open.has_ended(Some(open.fingerprint.clone()));
            return Err(StepError::Unanswerable {
                question: request.name.clone(),
                store: session.profile().name,
            });
        }
        if question.default.is_some() && question.default_at.is_none() {
            question.default_at = request.question(open.identity.clone(), now).default_at;
        }
        let event = SessionEvent::Asked { question: Box::new(question.clone()) };
        // In any case to its end, so that a question that nobody waits for is withdrawn.
        open = to_end(async move {
            if let Some(tip) = open.session.change_questions(known, event).await? {
                (open.asked, open.question) = (tip.revision, Some(question));
            }
            refresh(&open.attempt, &open.session).await?;
            Ok::<_, SessionError>(open)
        })
        .await?;
        if open.asked > 0 {
            return Ok(Asking::Open(open));
        }
        session.resumed().await?;
    }
}

/// Reserves the name of a question for its next use.
async fn reserve(
    attempt: &Arc<Attempt>,
    session: &Session,
    request: &AskRequest,
) -> Result<OpenQuestion, StepError> {
    attempt.load(session).await?;
    refresh(attempt, session).await?;
    let AskRequest { name, key, .. } = request;
    let unnumbered =
        key.as_ref().map_or_else(|| StepIdentity::nth(name, 1), |key| StepIdentity::keyed(name, key));
    request.question(unnumbered, session.clock().now()).check()?;
    attempt.wait_for_name(|state| &state.question_names, name, key.as_deref()).await;
    let fingerprint = Fingerprint::of_question(&Question {
        choices: request.choices.clone(),
        ..Question::new(StepIdentity::nth(name, 1), request.text.clone())
    });
    let reserved = {
        let mut state = attempt.state();
        state.check_refusal()?;
        if state.question_names.taken(name, key.as_deref()).is_some() {
            Err(state.refuse(ErrorCode::StepOpen, format!("question `{name}` is open already")))
        } else {
            let identity = match key {
                Some(key) => StepIdentity::keyed(name, key),
                None => StepIdentity::nth(name, state.question_names.next_number(name, &fingerprint)),
            };
            state.question_names.open(&identity);
            Ok(identity)
        }
    };
    match reserved {
        Ok(identity) => Ok(OpenQuestion {
            attempt: Arc::clone(attempt),
            session: session.clone(),
            identity,
            fingerprint,
            asked: 0,
            question: None,
            is_over: false,
        }),
        Err(error) => Err(attempt.record_refusal(session, name, error).await),
    }
}

/// Reads the questions and answers that were recorded since the last time, by any process.
async fn refresh(attempt: &Attempt, session: &Session) -> Result<()> {
    let changed = session.head().waits.changed;
    loop {
        let after = attempt.state().questions_read;
        if after >= changed {
            return Ok(());
        }
        let page = session.read_log(after).await?;
        let Some(last) = page.last().map(|record| record.envelope.seq) else { return Ok(()) };
        let mut state = attempt.state();
        // Another task may have read the same page.
        let read = state.questions_read;
        for record in page.iter().filter(|record| record.envelope.seq > read) {
            let (revision, at) = (record.envelope.seq, record.envelope.at);
            state.workflow.questions.apply(&record.event, revision, at);
        }
        state.questions_read = state.questions_read.max(last);
    }
}

/// A question that waits for its answer. Dropped before that, it is withdrawn.
#[derive(Debug)]
pub(crate) struct OpenQuestion {
    attempt: Arc<Attempt>,
    session: Session,
    identity: StepIdentity,
    fingerprint: Fingerprint,
    /// The revision at which it was asked; 0 before.
    asked: u64,
    question: Option<Question>,
    is_over: bool,
}

impl OpenQuestion {
    /// Returns the identity.
    pub(crate) const fn identity(&self) -> &StepIdentity {
        &self.identity
    }

    /// Returns the time at which the default holds.
    pub(crate) fn default_at(&self) -> Option<Timestamp> {
        self.question.as_ref().and_then(|question| question.default_at)
    }

    /// Waits for the answer. The future can be dropped without loss.
    ///
    /// # Errors
    /// What ended the session.
    pub(crate) async fn answer(&mut self) -> Result<GivenAnswer, StepError> {
        let mut view = self.session.watch();
        loop {
            view.borrow_and_update();
            refresh(&self.attempt, &self.session).await?;
            if let Some(answer) = self.given() {
                self.has_ended(None);
                return Ok(answer);
            }
            let default = self
                .question
                .as_ref()
                .and_then(|question| Some((question.default.clone()?, question.default_at?)));
            let left = default.as_ref().map(|(_, at)| at.since(self.session.clock().now()));
            if let (Some((value, _)), Some(Duration::ZERO)) = (default, left) {
                self.answer_by_default(value).await?;
                continue;
            }
            let wait = left.unwrap_or(CLOCK_INTERVAL).min(CLOCK_INTERVAL);
            let cancellation = self.session.cancellation();
            tokio::select! {
                changed = view.changed() => changed.map_err(|_| SessionError::ShutDown)?,
                () = tokio::time::sleep(wait), if left.is_some() => {}
                reason = cancellation.cancelled() => return Err(ended(&self.session, reason).await),
            }
        }
    }

    fn given(&self) -> Option<GivenAnswer> {
        self.attempt.state().workflow.questions.get(&self.identity)?.answer.clone()
    }

    async fn answer_by_default(&self, value: String) -> Result<(), StepError> {
        let known = self.attempt.state().workflow.questions.changed();
        let answer = Answer { identity: self.identity.clone(), value, asked: Some(self.asked) };
        let event =
            SessionEvent::Answered { answer: Box::new(answer), by: "default".to_owned(), default: true };
        // If an answer came in between, that one holds.
        self.session.change_questions(known, event).await?;
        Ok(())
    }

    /// Leaves the question open: the session is being stopped, and the next attempt asks again.
    pub(crate) fn leave_open(mut self) {
        self.has_ended(Some(self.fingerprint.clone()));
    }

    /// Frees the name. `unkept` is the fingerprint of a use that the next one continues.
    fn has_ended(&mut self, unkept: Option<Fingerprint>) {
        self.is_over = true;
        let mut state = self.attempt.state();
        state.question_names.close(&self.identity);
        if unkept.is_some() && state.workflow.questions.get(&self.identity).is_none() {
            // Given up before it was recorded: it used no number.
            state.question_names.unused(&self.identity);
        } else {
            state.question_names.used(&self.identity, unkept);
        }
        drop(state);
        self.attempt.notify_names();
    }
}

impl Drop for OpenQuestion {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        self.has_ended(Some(self.fingerprint.clone()));
        if self.asked > 0
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let (attempt, session) = (Arc::clone(&self.attempt), self.session.clone());
            let (identity, asked) = (self.identity.clone(), self.asked);
            runtime.spawn(async move {
                if let Err(error) = withdraw(&attempt, &session, &identity, asked).await {
                    tracing::debug!(session = %session.id(), %error, "could not withdraw a question");
                }
            });
        }
    }
}

/// Withdraws a question, unless it was answered, or asked again.
async fn withdraw(attempt: &Attempt, session: &Session, identity: &StepIdentity, asked: u64) -> Result<()> {
    loop {
        refresh(attempt, session).await?;
        let known = {
            let State { workflow, .. } = &*attempt.state();
            let status = workflow.questions.get(identity).filter(|status| status.is_open());
            let is_it = status
                .and_then(|status| status.question.as_ref())
                .is_some_and(|known| known.revision == asked);
            if !is_it {
                return Ok(());
            }
            workflow.questions.changed()
        };
        if session.change_questions(known, SessionEvent::QuestionWithdrawn { asked }).await?.is_some() {
            return refresh(attempt, session).await;
        }
    }
}

/// Returns the error of work that waits in a session that has ended, or is being cancelled.
pub(crate) async fn ended(session: &Session, reason: String) -> StepError {
    match session.refresh().await {
        Err(error) if error.is_outcome() => error.into(),
        Ok(()) | Err(_) => SessionError::Cancelled { reason }.into(),
    }
}

/// Asks a person about a step or item whose end is unknown.
pub(crate) async fn ask_about_unknown(
    attempt: &Arc<Attempt>,
    session: &Session,
    name: &str,
    key: &str,
    text: String,
    asked: &(dyn Fn(&StepIdentity) + Send + Sync),
) -> Result<OnUnknown, StepError> {
    let request = AskRequest {
        name: name.to_owned(),
        key: Some(key.to_owned()),
        text: cut(&text, session_core::limits::STEP_TEXT_BYTES),
        choices: ["rerun", "fail", "skip"].map(str::to_owned).to_vec(),
        default: None,
    };
    let answer = match begin_ask(attempt, session, &request, true).await? {
        Asking::Answered(answer) => answer,
        Asking::Open(mut open) => {
            asked(open.identity());
            open.answer().await?
        }
    };
    Ok(answer.value.parse().unwrap_or(OnUnknown::Fail))
}

/// A question of Rust code. It is asked when it is awaited, once: later attempts get the recorded answer.
#[derive(Debug)]
#[must_use = "a question is asked when it is awaited"]
pub struct Ask<'a> {
    session: &'a Session,
    request: AskRequest,
}

impl<'a> Ask<'a> {
    pub(crate) fn new(session: &'a Session, name: String, text: String) -> Self {
        Self { session, request: AskRequest { name, text, ..AskRequest::default() } }
    }

    /// Identifies the question by a key, instead of the number of the use of its name.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.request.key = Some(key.into());
        self
    }

    /// Allows only these answers.
    pub fn choices<T: Into<String>>(mut self, choices: impl IntoIterator<Item = T>) -> Self {
        self.request.choices = choices.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the answer that holds if no other one has come after this time.
    pub fn default_after(mut self, answer: impl Into<String>, after: Duration) -> Self {
        self.request.default = Some((answer.into(), after));
        self
    }
}

impl<'a> IntoFuture for Ask<'a> {
    type Output = Result<String, StepError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let attempt = Attempt::of(self.session);
            let answer = match begin_ask(&attempt, self.session, &self.request, true).await? {
                Asking::Answered(answer) => answer,
                Asking::Open(mut open) => open.answer().await?,
            };
            Ok(answer.value)
        })
    }
}
