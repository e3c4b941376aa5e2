//! The steps of an owned session: decides what runs, and records it. Shared by all handles of the session, so that steps of
//! Rust code and of other programs have one order.

mod open_step;
mod value;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use session_core::{
    Durability, ErrorCode, InputFile, Session, SessionError, SessionEvent, SessionId, StepEnd, StepIdentity,
    StepReason,
};
use tokio::sync::{Notify, OnceCell};
use uuid::Uuid;

pub use self::open_step::{OpenStep, RecordedEnd};
pub use self::value::ValueReader;

use crate::ask::ask_about_unknown;
use crate::decisions::{Decisions, OnChange, OnUnknown};
use crate::error::StepError;
use crate::fingerprint::Fingerprint;
use crate::idempotency_key::idempotency_key;
use crate::inputs::difference;
use crate::names::{Names, Taken};
use crate::table::{Start, StepState, StepStatus};
use crate::workflow_state::WorkflowState;

/// Deaths of an owner at which a step was open, after which it is not run again by itself.
pub(crate) const MAX_DEATHS: u64 = 3;
/// Time in which the owner hears that a client has gone.
const GONE_CLIENT: Duration = Duration::from_millis(200);

/// A step that is about to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepRequest {
    /// The name.
    pub name: String,
    /// The key, instead of the number of the use.
    pub key: Option<String>,
    /// The fingerprint of what it runs.
    pub fingerprint: Fingerprint,
    /// The command that it runs, for people: cut to 4 KiB.
    pub command: Option<String>,
    /// The treatment of an unknown end.
    pub on_unknown: OnUnknown,
    /// The treatment of a recorded end of something else.
    pub on_change: OnChange,
    /// The input files: a recorded end holds only for the same content.
    pub inputs: Vec<InputFile>,
    /// The age from which a recorded end does not hold any more.
    pub max_age: Option<Duration>,
    /// `false` if no other process can answer a question: what would be asked is refused then.
    pub can_ask: bool,
}

impl StepRequest {
    /// Creates a request that refuses changes and runs a step with an unknown end again.
    #[must_use]
    pub fn new(name: impl Into<String>, fingerprint: Fingerprint) -> Self {
        Self {
            name: name.into(),
            key: None,
            fingerprint,
            command: None,
            on_unknown: OnUnknown::default(),
            on_change: OnChange::default(),
            inputs: Vec::new(),
            max_age: None,
            can_ask: true,
        }
    }
}

/// The decision about a step.
#[derive(Debug)]
pub enum BegunStep {
    /// It runs: its start is recorded.
    Run(OpenStep),
    /// It does not run: this end is recorded.
    Replay(RecordedEnd),
}

/// The steps of an owned session.
#[derive(Debug, Default)]
pub struct Steps {
    state: Mutex<State>,
    /// Set once the log of former attempts was read.
    is_loaded: OnceCell<()>,
    /// Notified when a name is free, or will be.
    names_changed: Notify,
}

/// The state of an attempt's durable work.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) workflow: WorkflowState,
    /// The revision up to which questions and answers were read.
    pub(crate) questions_read: u64,
    pub(crate) names: Names,
    pub(crate) question_names: Names,
    pub(crate) sleep_names: Names,
    pub(crate) each_names: Names,
    pub(crate) decisions: Decisions,
    /// The first refusal of this attempt.
    refusal: Option<(ErrorCode, String)>,
}

/// A decision without its records.
enum Plan {
    Run {
        because: StepReason,
        reruns: u64,
        why: Option<String>,
    },
    Skip {
        start: u64,
    },
    Replay(Box<StepStatus>),
    /// A person decides: with the key of the question and its text.
    Ask {
        key: String,
        text: String,
    },
}

impl Steps {
    /// Returns the steps of a session. All of its handles share them.
    #[must_use]
    pub fn of(session: &Session) -> Arc<Self> {
        session.extension(Self::default)
    }

    /// Sets the decisions of a person for this attempt.
    pub fn decide(&self, decisions: Decisions) {
        self.state().decisions = decisions;
    }

    /// Begins a step. If it runs, its start survives power loss on return. Waits while the session is paused.
    ///
    /// # Errors
    /// [`StepError`]. After a refusal, no step of the attempt starts any more, and the session fails.
    pub async fn begin(
        self: &Arc<Self>,
        session: &Session,
        request: StepRequest,
    ) -> Result<BegunStep, StepError> {
        self.begin_asking(session, request, &|_| {}).await
    }

    /// Begins a step like [`begin`](Self::begin), and calls `asked` with a question about its unknown end once that waits for an
    /// answer.
    pub(crate) async fn begin_asking(
        self: &Arc<Self>,
        session: &Session,
        request: StepRequest,
        asked: &(dyn Fn(&StepIdentity) + Send + Sync),
    ) -> Result<BegunStep, StepError> {
        self.load(session).await?;
        let StepRequest { name, key, fingerprint, command, .. } = &request;
        match key {
            Some(key) => StepIdentity::keyed(name, key).check()?,
            None => StepIdentity::nth(name, 1).check()?,
        }
        self.wait_for_name(|state| &state.names, name, key.as_deref()).await;
        let mut answer = None;
        let (step, plan) = loop {
            match self.plan(session, &request, answer) {
                Ok((_, Plan::Ask { key, text })) => {
                    answer = Some(ask_about_unknown(self, session, name, &key, text, asked).await?);
                }
                Ok(planned) => break planned,
                Err(error) => return Err(self.record_refusal(session, name, error).await),
            }
        };
        let (because, reruns, why) = match plan {
            Plan::Run { because, reruns, why } => (because, reruns, why),
            Plan::Replay(status) => return Ok(BegunStep::Replay(RecordedEnd::new(&status))),
            Plan::Skip { start } => return self.skip(session, &step, start).await,
            Plan::Ask { .. } => unreachable!("it was answered"),
        };
        // From here on, dropping this future frees the name.
        let mut open = OpenStep::reserve(
            Arc::clone(self),
            session.clone(),
            step.clone(),
            fingerprint.clone(),
            because,
            why,
        );
        let command = command.as_deref().map(|text| cut(text, session_core::limits::STEP_TEXT_BYTES));
        let started = SessionEvent::StepStarted {
            step: step.clone(),
            fingerprint: fingerprint.as_str().to_owned(),
            because,
            reruns,
            command: command.clone(),
            inputs: request.inputs.clone(),
        };
        let tip = session.start_step(started).await?;
        let start = Start {
            revision: tip.revision,
            at: session.clock().now(),
            attempt: session.attempt(),
            fingerprint: fingerprint.as_str(),
            reruns,
            command: command.as_deref(),
            inputs: &request.inputs,
        };
        self.state().workflow.steps.started(&step, &start);
        open.started(tip.revision, idempotency_key_of(session, &step, reruns));
        Ok(BegunStep::Run(open))
    }

    /// Records a refusal that was decided on, and returns it.
    pub(crate) async fn record_refusal(&self, session: &Session, name: &str, error: StepError) -> StepError {
        if let StepError::Refused { code, message } = &error
            && let Err(error) = session.refuse_step(name, *code, message).await
        {
            tracing::warn!(session = %session.id(), step = name, %error, "could not record a refusal yet");
        }
        error
    }

    /// Waits while the processes of a step with this name are being ended. The owner may hear of a client that has gone a
    /// little later than the process that started it.
    pub(crate) async fn wait_for_name(
        &self,
        names: impl Fn(&State) -> &Names + Send + Sync,
        name: &str,
        key: Option<&str>,
    ) {
        let give_up = tokio::time::Instant::now() + GONE_CLIENT;
        loop {
            let changed = self.names_changed.notified();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            let taken = names(&self.state()).taken(name, key);
            match taken {
                None => return,
                Some(Taken::Ending) => changed.await,
                Some(Taken::Running) => {
                    if tokio::time::timeout_at(give_up, changed).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Returns what a step will do, and reserves its name if it runs.
    fn plan(
        &self,
        session: &Session,
        request: &StepRequest,
        answer: Option<OnUnknown>,
    ) -> Result<(StepIdentity, Plan), StepError> {
        let mut state = self.state();
        state.check_refusal()?;
        let StepRequest { name, key, fingerprint, .. } = request;
        if state.names.taken(name, key.as_deref()).is_some() {
            let other =
                key.as_ref().map_or_else(|| format!("step `{name}`"), |key| format!("step `{name}[{key}]`"));
            return Err(state.refuse(ErrorCode::StepOpen, format!("{other} is running already")));
        }
        let step = match key {
            Some(key) => StepIdentity::keyed(name, key),
            None => StepIdentity::nth(name, state.names.next_number(name, fingerprint)),
        };
        let plan = match state.workflow.steps.get(&step) {
            None => Plan::Run { because: StepReason::First, reruns: 0, why: None },
            Some(known) => match &known.state {
                StepState::Completed { at, .. } if known.fingerprint == fingerprint.as_str() => {
                    let age = session.clock().now().since(*at);
                    match outdated(request, known, age) {
                        Some((because, why)) if state.decisions.for_changed(name) != Some(OnChange::Keep) => {
                            Plan::Run { because, reruns: known.reruns + 1, why: Some(why) }
                        }
                        _ => Plan::Replay(Box::new(known.clone())),
                    }
                }
                StepState::Completed { .. } => {
                    match state.decisions.for_changed(name).unwrap_or(request.on_change) {
                        OnChange::Keep => Plan::Replay(Box::new(known.clone())),
                        OnChange::Rerun => {
                            let why = Some("what it runs has changed".to_owned());
                            Plan::Run { because: StepReason::Changed, reruns: known.reruns + 1, why }
                        }
                        OnChange::Refuse => {
                            let message = changed(&step, known, request);
                            return Err(state.refuse(ErrorCode::StepChanged, message));
                        }
                    }
                }
                StepState::Failed(_) => {
                    Plan::Run { because: StepReason::Failed, reruns: known.reruns, why: None }
                }
                StepState::Unknown | StepState::Open => {
                    let decision = answer.or_else(|| state.decisions.for_unknown(name));
                    match decide_unknown(decision, request.on_unknown, known.deaths, request.can_ask) {
                        OnUnknown::Rerun => {
                            Plan::Run { because: StepReason::Unknown, reruns: known.reruns, why: None }
                        }
                        OnUnknown::Skip => Plan::Skip { start: known.start },
                        OnUnknown::Ask => {
                            let (key, text) = (format!("unknown:{}", known.start), unknown(&step, known));
                            return Ok((step, Plan::Ask { key, text }));
                        }
                        OnUnknown::Fail => {
                            let message = unknown(&step, known);
                            return Err(state.refuse(ErrorCode::StepUnknown, message));
                        }
                    }
                }
            },
        };
        if let Plan::Run { .. } = plan {
            state.names.open(&step);
        } else {
            state.names.used(&step, None);
        }
        Ok((step, plan))
    }

    /// Records a step whose end is unknown as done.
    async fn skip(&self, session: &Session, step: &StepIdentity, start: u64) -> Result<BegunStep, StepError> {
        let end = StepEnd { skipped: true, ..StepEnd::default() };
        let events = vec![SessionEvent::StepCompleted { start, end }];
        let revision = self.record(session, step, events, Durability::Flushed).await?;
        let mut state = self.state();
        state.workflow.steps.completed(start, end, revision, session.clock().now());
        let recorded = state.workflow.steps.get(step).map(RecordedEnd::new);
        drop(state);
        recorded.map(BegunStep::Replay).ok_or_else(|| SessionError::ShutDown.into())
    }

    /// Appends a part of the value or the end of a step. If that fails, no further step of the attempt starts, and the session
    /// fails.
    async fn record(
        &self,
        session: &Session,
        step: &StepIdentity,
        events: Vec<SessionEvent>,
        durability: Durability,
    ) -> Result<u64, StepError> {
        match session.end_step(events, durability).await {
            Ok(tip) => Ok(tip.revision),
            Err(error) => Err(self.lost(session, step, error).await),
        }
    }

    /// Takes note that an end could not be recorded: no further step of the attempt starts, and the session fails.
    pub(crate) async fn lost(
        &self,
        session: &Session,
        step: &StepIdentity,
        error: SessionError,
    ) -> StepError {
        if session.head().state().is_final() {
            return error.into();
        }
        let message = format!("the end of step `{step}` could not be recorded: {error}");
        let code = error.code();
        self.state().refuse(code, message.clone());
        if let Err(error) = session.refuse_step(&step.name, code, &message).await {
            tracing::warn!(session = %session.id(), %step, %error, "could not record a lost end yet");
        }
        error.into()
    }

    /// Reads what former attempts, and the session that this one retries, have recorded.
    pub(crate) async fn load(&self, session: &Session) -> Result<(), StepError> {
        let load = async || {
            let mut workflow = WorkflowState::default();
            let mut after = 0;
            loop {
                let page = session.read_log(after).await?;
                let Some(last) = page.last() else { break };
                after = last.envelope.seq;
                for record in &page {
                    workflow.apply(session.id(), record)?;
                }
            }
            let mut state = self.state();
            (state.workflow, state.questions_read) = (workflow, after);
            Ok(())
        };
        self.is_loaded.get_or_try_init(load).await.map(drop)
    }

    pub(crate) fn notify_names(&self) {
        self.names_changed.notify_waiters();
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn idempotency_key_of(session: &Session, step: &StepIdentity, reruns: u64) -> Uuid {
    idempotency_key(line_of(session), step, reruns)
}

/// Returns the first session of the line of retries.
pub(crate) fn line_of(session: &Session) -> SessionId {
    session.config().line.unwrap_or_else(|| session.id())
}

/// Returns the treatment of an unknown end: that of a person, else that of the caller.
pub(crate) fn decide_unknown(
    decision: Option<OnUnknown>,
    otherwise: OnUnknown,
    deaths: u64,
    can_ask: bool,
) -> OnUnknown {
    let decided = match (decision, otherwise) {
        (Some(decision), _) => decision,
        // Only a person runs it once more.
        (None, OnUnknown::Rerun) if deaths >= MAX_DEATHS => OnUnknown::Ask,
        (None, otherwise) => otherwise,
    };
    if decided == OnUnknown::Ask && !can_ask { OnUnknown::Fail } else { decided }
}

/// Returns the reason why a recorded end of the same command does not hold any more.
fn outdated(request: &StepRequest, known: &StepStatus, age: Duration) -> Option<(StepReason, String)> {
    if let Some(difference) = difference(&request.inputs, &known.inputs) {
        return Some((StepReason::Input, difference));
    }
    let limit = request.max_age.filter(|limit| age > *limit)?;
    let (age, limit) = (age.as_secs(), limit.as_secs_f64());
    Some((StepReason::Age, format!("its recorded end is {age} s old, more than {limit} s")))
}

impl State {
    /// Checks that no step of this attempt was refused.
    pub(crate) fn check_refusal(&self) -> Result<(), StepError> {
        match &self.refusal {
            None => Ok(()),
            Some((code, message)) => Err(StepError::AfterRefusal { code: *code, message: message.clone() }),
        }
    }

    pub(crate) fn refuse(&mut self, code: ErrorCode, message: String) -> StepError {
        self.refusal.get_or_insert_with(|| (code, message.clone()));
        StepError::Refused { code, message }
    }
}

/// Shows what a step would run, and what its recorded end was recorded for.
fn changed(step: &StepIdentity, known: &StepStatus, request: &StepRequest) -> String {
    match (&request.command, &known.command) {
        (Some(now), Some(then)) if now != then => {
            format!("step `{step}` would run `{now}`, but its recorded end is that of `{then}`")
        }
        (Some(now), Some(_)) => {
            let (is, was) = (&request.fingerprint, &known.fingerprint);
            format!(
                "step `{step}` (`{now}`) has another input than its recorded end (fingerprint {is}, recorded {was})"
            )
        }
        _ => {
            let (is, was) = (&request.fingerprint, &known.fingerprint);
            format!("step `{step}` has the fingerprint `{is}`, but its recorded end has `{was}`")
        }
    }
}

fn unknown(step: &StepIdentity, known: &StepStatus) -> String {
    let (at, deaths) = (known.started_at, known.deaths);
    if deaths >= MAX_DEATHS {
        format!(
            "step `{step}` was running at {deaths} deaths of its owner, the last time since {at}: it may have happened"
        )
    } else {
        format!("step `{step}` was started at {at}, and its end is unknown: it may have happened")
    }
}

/// Cuts a text for people, at a character.
pub(crate) fn cut(text: &str, limit: usize) -> String {
    let end = (0..=limit.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
