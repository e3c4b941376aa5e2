//! The steps of an owned session: decides what runs, and records it.

mod open_step;
mod value;

use std::sync::Arc;
use std::time::Duration;

use session_core::{
    Durability, ErrorCode, InputFile, Session, SessionError, SessionEvent, StepEnd, StepIdentity, StepReason,
};
use uuid::Uuid;

pub use self::open_step::{OpenStep, RecordedEnd};
pub use self::value::ValueReader;

use crate::ask::ask_about_unknown;
use crate::attempt::{Attempt, MAX_DEATHS, cut, decide_unknown, line_of};
use crate::decisions::{Decisions, OnChange, OnUnknown};
use crate::error::StepError;
use crate::fingerprint::Fingerprint;
use crate::idempotency_key::idempotency_key;
use crate::inputs::difference;
use crate::start::start;
use crate::table::{Start, StepState, StepStatus};

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

/// The steps of an owned session. All of its handles share them.
#[derive(Debug, Clone)]
pub struct Steps {
    attempt: Arc<Attempt>,
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
    /// Returns the steps of a session.
    #[must_use]
    pub fn of(session: &Session) -> Self {
        Self { attempt: Attempt::of(session) }
    }

    /// Sets the decisions of a person for this attempt.
    pub fn decide(&self, decisions: Decisions) {
        self.attempt.state().decisions = decisions;
    }

    /// Begins a step. If it runs, its start survives power loss on return. Waits while the session is paused.
    ///
    /// # Errors
    /// [`StepError`]. After a refusal, no step of the attempt starts any more, and the session fails.
    pub async fn begin(&self, session: &Session, request: StepRequest) -> Result<BegunStep, StepError> {
        self.begin_asking(session, request, &|_| {}).await
    }

    /// Begins a step like [`begin`](Self::begin), and calls `asked` with a question about its unknown end once that waits for an
    /// answer.
    pub(crate) async fn begin_asking(
        &self,
        session: &Session,
        request: StepRequest,
        asked: &(dyn Fn(&StepIdentity) + Send + Sync),
    ) -> Result<BegunStep, StepError> {
        self.attempt.load(session).await?;
        let StepRequest { name, key, fingerprint, command, .. } = &request;
        match key {
            Some(key) => StepIdentity::keyed(name, key).check()?,
            None => StepIdentity::nth(name, 1).check()?,
        }
        self.attempt.wait_for_name(|state| &state.names, name, key.as_deref()).await;
        let mut answer = None;
        let (step, plan) = loop {
            match self.plan(session, &request, answer) {
                Ok((_, Plan::Ask { key, text })) => {
                    answer = Some(ask_about_unknown(&self.attempt, session, name, &key, text, asked).await?);
                }
                Ok(planned) => break planned,
                Err(error) => return Err(self.attempt.record_refusal(session, name, error).await),
            }
        };
        let (because, reruns, why) = match plan {
            Plan::Run { because, reruns, why } => (because, reruns, why),
            Plan::Replay(status) => return Ok(BegunStep::Replay(RecordedEnd::new(&status))),
            Plan::Skip { start } => return self.skip(session, &step, start).await,
            Plan::Ask { .. } => unreachable!("it was answered"),
        };
        // From here on, dropping this future frees the name.
        let open = OpenStep::reserve(
            Arc::clone(&self.attempt),
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
        let key = idempotency_key_of(session, &step, reruns);
        let (at, attempt, fingerprint) = (session.clock().now(), session.attempt(), fingerprint.clone());
        let (table, inputs) = (Arc::clone(&self.attempt), request.inputs.clone());
        let open = start(session, open, started, move |open: &mut OpenStep, revision| {
            let (fingerprint, command) = (fingerprint.as_str(), command.as_deref());
            let start = Start { revision, at, attempt, fingerprint, reruns, command, inputs: &inputs };
            table.state().workflow.steps.started(&step, &start);
            open.started(revision, key);
        });
        Ok(BegunStep::Run(open.await?))
    }

    /// Returns what a step will do, and reserves its name if it runs.
    fn plan(
        &self,
        session: &Session,
        request: &StepRequest,
        answer: Option<OnUnknown>,
    ) -> Result<(StepIdentity, Plan), StepError> {
        let mut state = self.attempt.state();
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
        let revision = self.attempt.record(session, step, events, Durability::Flushed).await?;
        let mut state = self.attempt.state();
        state.workflow.steps.completed(start, end, revision, session.clock().now());
        let recorded = state.workflow.steps.get(step).map(RecordedEnd::new);
        drop(state);
        recorded.map(BegunStep::Replay).ok_or_else(|| SessionError::ShutDown.into())
    }
}

fn idempotency_key_of(session: &Session, step: &StepIdentity, reruns: u64) -> Uuid {
    idempotency_key(line_of(session), step, reruns)
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

#[cfg(test)]
mod tests;
