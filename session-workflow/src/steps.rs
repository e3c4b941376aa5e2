//! The steps of an owned session: decides what runs, and records it. Shared by all handles of the session, so that steps of
//! Rust code and of other programs have one order.

mod names;
mod open_step;
mod value;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use session_core::{
    Clock as _, Durability, ErrorCode, Session, SessionError, SessionEvent, StepEnd, StepIdentity,
    StepReason, SystemClock,
};
use tokio::sync::{Notify, OnceCell};
use uuid::Uuid;

pub use self::open_step::{OpenStep, RecordedEnd};
pub use self::value::ValueReader;

use self::names::{Names, Taken};
use crate::decisions::{Decisions, OnChange, OnUnknown};
use crate::error::StepError;
use crate::fingerprint::Fingerprint;
use crate::idempotency_key::idempotency_key;
use crate::table::{Start, StepState, StepStatus, StepTable};

/// Deaths of an owner at which a step was open, after which it is not run again by itself.
const MAX_DEATHS: u64 = 3;
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

#[derive(Debug, Default)]
struct State {
    table: StepTable,
    names: Names,
    decisions: Decisions,
    /// The first refusal of this attempt.
    refusal: Option<(ErrorCode, String)>,
}

/// A decision without its records.
enum Plan {
    Run { because: StepReason, reruns: u64 },
    Skip { start: u64 },
    Replay(Box<StepStatus>),
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
        self.load(session).await?;
        let StepRequest { name, key, fingerprint, command, .. } = &request;
        match key {
            Some(key) => StepIdentity::keyed(name, key).check()?,
            None => StepIdentity::nth(name, 1).check()?,
        }
        self.wait_for_name(name, key.as_deref()).await;
        let planned = self.plan(&request);
        let (step, plan) = match planned {
            Ok(planned) => planned,
            Err(error) => {
                if let StepError::Refused { code, message } = &error
                    && let Err(error) = session.refuse_step(name, *code, message).await
                {
                    tracing::warn!(session = %session.id(), step = name, %error, "could not record a refusal yet");
                }
                return Err(error);
            }
        };
        let (because, reruns) = match plan {
            Plan::Run { because, reruns } => (because, reruns),
            Plan::Replay(status) => return Ok(BegunStep::Replay(RecordedEnd::new(&status))),
            Plan::Skip { start } => return self.skip(session, &step, start).await,
        };
        // From here on, dropping this future frees the name.
        let mut open =
            OpenStep::reserve(Arc::clone(self), session.clone(), step.clone(), fingerprint.clone(), because);
        let command = command.as_deref().map(|text| cut(text, session_core::limits::STEP_TEXT_BYTES));
        let started = SessionEvent::StepStarted {
            step: step.clone(),
            fingerprint: fingerprint.as_str().to_owned(),
            because,
            reruns,
            command: command.clone(),
            inputs: Vec::new(),
        };
        let tip = session.start_step(started).await?;
        let start = Start {
            revision: tip.revision,
            at: SystemClock.now(),
            attempt: session.attempt(),
            fingerprint: fingerprint.as_str(),
            reruns,
            command: command.as_deref(),
        };
        self.state().table.started(&step, &start);
        open.started(tip.revision, idempotency_key_of(session, &step, reruns));
        Ok(BegunStep::Run(open))
    }

    /// Waits while the processes of a step with this name are being ended. The owner may hear of a client that has gone a
    /// little later than the process that started it.
    async fn wait_for_name(&self, name: &str, key: Option<&str>) {
        let give_up = tokio::time::Instant::now() + GONE_CLIENT;
        loop {
            let changed = self.names_changed.notified();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            let taken = self.state().names.taken(name, key);
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
    fn plan(&self, request: &StepRequest) -> Result<(StepIdentity, Plan), StepError> {
        let mut state = self.state();
        if let Some((code, message)) = &state.refusal {
            return Err(StepError::AfterRefusal { code: *code, message: message.clone() });
        }
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
        let plan = match state.table.get(&step) {
            None => Plan::Run { because: StepReason::First, reruns: 0 },
            Some(known) => match &known.state {
                StepState::Completed { .. } if known.fingerprint == fingerprint.as_str() => {
                    Plan::Replay(Box::new(known.clone()))
                }
                StepState::Completed { .. } => {
                    match state.decisions.for_changed(name).unwrap_or(request.on_change) {
                        OnChange::Keep => Plan::Replay(Box::new(known.clone())),
                        OnChange::Rerun => {
                            Plan::Run { because: StepReason::Changed, reruns: known.reruns + 1 }
                        }
                        OnChange::Refuse => {
                            let message = changed(&step, known, request);
                            return Err(state.refuse(ErrorCode::StepChanged, message));
                        }
                    }
                }
                StepState::Failed(_) => Plan::Run { because: StepReason::Failed, reruns: known.reruns },
                StepState::Unknown | StepState::Open => {
                    let decision = state.decisions.for_unknown(name);
                    match decision.unwrap_or(request.on_unknown) {
                        // Only a person runs it once more.
                        OnUnknown::Rerun if decision.is_some() || known.deaths < MAX_DEATHS => {
                            Plan::Run { because: StepReason::Unknown, reruns: known.reruns }
                        }
                        OnUnknown::Skip => Plan::Skip { start: known.start },
                        OnUnknown::Rerun | OnUnknown::Fail => {
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
        state.table.completed(start, end, revision, SystemClock.now());
        let recorded = state.table.get(step).map(RecordedEnd::new);
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
            Err(error) if session.head().state().is_final() => Err(error.into()),
            Err(error) => {
                let message = format!("the end of step `{step}` could not be recorded: {error}");
                let code = error.code();
                self.state().refuse(code, message.clone());
                if let Err(error) = session.refuse_step(&step.name, code, &message).await {
                    tracing::warn!(session = %session.id(), %step, %error, "could not record a lost end yet");
                }
                Err(error.into())
            }
        }
    }

    /// Reads what former attempts, and the session that this one retries, have recorded.
    async fn load(&self, session: &Session) -> Result<(), StepError> {
        let load = async || {
            let mut table = StepTable::default();
            let mut after = 0;
            loop {
                let page = session.read_log(after).await?;
                let Some(last) = page.last() else { break };
                after = last.envelope.seq;
                for record in &page {
                    table.apply(session.id(), record)?;
                }
            }
            self.state().table = table;
            Ok(())
        };
        self.is_loaded.get_or_try_init(load).await.map(drop)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn idempotency_key_of(session: &Session, step: &StepIdentity, reruns: u64) -> Uuid {
    idempotency_key(session.config().line.unwrap_or_else(|| session.id()), step, reruns)
}

impl State {
    fn refuse(&mut self, code: ErrorCode, message: String) -> StepError {
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
