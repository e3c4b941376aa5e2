//! The durable work of an attempt: what its log says, the uses of names, and the first refusal. Shared by all handles of the
//! session, so that steps, items, questions and sleeps of Rust code and of other programs have one order.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use session_core::{Durability, ErrorCode, Session, SessionError, SessionEvent, SessionId, StepIdentity};
use tokio::sync::{Notify, OnceCell};

use crate::decisions::{Decisions, OnUnknown};
use crate::error::StepError;
use crate::names::{Names, Taken};
use crate::workflow_state::WorkflowState;

/// Deaths of an owner at which a step was open, after which it is not run again by itself.
pub(crate) const MAX_DEATHS: u64 = 3;
/// Time in which the owner hears that a client has gone.
const GONE_CLIENT: Duration = Duration::from_millis(200);

/// The durable work of one attempt. All handles of the session share it.
#[derive(Debug, Default)]
pub(crate) struct Attempt {
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

impl Attempt {
    /// Returns the durable work of a session.
    pub(crate) fn of(session: &Session) -> Arc<Self> {
        session.extension(Self::default)
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

    /// Appends a part of the value or the end of a step. If that fails, no further step of the attempt starts, and the session
    /// fails.
    pub(crate) async fn record(
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

/// Cuts a text for people, at a character.
pub(crate) fn cut(text: &str, limit: usize) -> String {
    let end = (0..=limit.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.get(..end).unwrap_or_default().to_owned()
}
