//! The state machine: one pure function that returns the next state of a session, or the reason why a record may not
//! follow. Live changes, replay, recovery, import and `verify` all call it. The table of allowed events is in `table`.

mod program_end;
mod state;
mod table;

use serde::{Deserialize, Serialize};

pub(crate) use self::program_end::step_refused;
pub use self::program_end::{ProgramEnd, StopRequest};
pub use self::state::{SessionState, StateName};
pub use self::table::{Rule, rule};

use crate::event::{EventKind, Role, SessionEvent, is_zero};
use crate::owner::{Owner, OwnerLoss};
use crate::reason::{Interruption, PauseReason};
use crate::record::Record;

/// A pending pause request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PauseRequest {
    /// The reason.
    pub reason: String,
    /// The requester.
    pub by: String,
}

/// A cancel request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CancelRequest {
    /// The reason.
    pub reason: String,
    /// The requester.
    pub by: String,
    /// `true` if the work is ended immediately, without a chance to stop by itself.
    #[serde(default)]
    pub force: bool,
}

impl CancelRequest {
    /// Creates a request that lets the work stop by itself.
    #[must_use]
    pub fn new(reason: impl Into<String>, by: impl Into<String>) -> Self {
        Self { reason: reason.into(), by: by.into(), force: false }
    }

    /// Ends the work immediately, without a chance to stop by itself.
    #[must_use]
    pub fn force(mut self) -> Self {
        self.force = true;
        self
    }
}

/// The pending requests of a session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Requests {
    /// The latest pause request since the session was last started or resumed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause: Option<PauseRequest>,
    /// The latest requester of a resume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resume: Option<String>,
    /// The first cancel request; a later one can only add force to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cancel: Option<CancelRequest>,
    /// The revision of the latest answer to the question that the session waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<u64>,
}

/// The part of a session's state that decides which events may follow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Lifecycle {
    /// The state.
    pub state: SessionState,
    /// The attempt: 0 before the first start, then one more with each new owner.
    pub attempt: u32,
    /// The owner, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
    /// The highest iteration that was started.
    #[serde(default)]
    pub iteration: u64,
    /// The last iteration that was completed.
    #[serde(default)]
    pub iterations_completed: u64,
    /// `true` while the iteration that was started last is open.
    #[serde(default)]
    pub iteration_open: bool,
    /// The pending requests.
    #[serde(default)]
    pub requests: Requests,
    /// The way in which the last owner was lost, while there is no new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<OwnerLoss>,
    /// The first stop signal that reached the owner in this attempt, if it was SIGTERM or SIGHUP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_requested: Option<StopRequest>,
    /// The end of the session's own program in this attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program_end: Option<ProgramEnd>,
    /// The number of records with steps of the retried session that are still missing. The session cannot start without
    /// them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub to_inherit: u64,
    /// `true` once a step of this attempt was refused: the session cannot complete any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub step_refused: bool,
}

/// The reason why a record may not follow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransitionError {
    /// The event is not allowed in this state.
    #[error("`{event}` is not possible while the session {}", display_state(*state))]
    IllegalTransition {
        /// The state; `None` if the session does not exist.
        state: Option<StateName>,
        /// The kind that was rejected.
        event: EventKind,
        /// The kinds that are allowed.
        allowed: Vec<EventKind>,
    },
    /// An iteration is out of order.
    #[error("iteration {found} is out of order: expected {expected}")]
    Iteration {
        /// The next number.
        expected: u64,
        /// The number that was given.
        found: u64,
    },
    /// An item begins where only ends may be recorded.
    #[error("no item can begin while the session is {state}, nor after a refused step")]
    ItemBegins {
        /// The state.
        state: StateName,
    },
    /// The record was written for an owner that has been replaced.
    #[error("attempt {attempt} no longer owns the session, which is at attempt {current}")]
    Fenced {
        /// The attempt of the record.
        attempt: u32,
        /// The attempt of the session.
        current: u32,
    },
    /// The record names the wrong attempt, but no owner was replaced: the session is unowned, or any process may append
    /// this kind.
    #[error("the record names attempt {found}, expected {expected}")]
    Attempt {
        /// The session's attempt.
        expected: u32,
        /// The record's.
        found: u32,
    },
    /// The record's number does not match its position.
    #[error("the record is numbered {found}, expected {expected}")]
    Sequence {
        /// The position.
        expected: u64,
        /// The number.
        found: u64,
    },
    /// The record claims that a revision was flushed that did not exist yet.
    #[error("the record claims that revision {flushed} was flushed before it existed")]
    Flushed {
        /// The revision.
        flushed: u64,
    },
}

fn display_state(state: Option<StateName>) -> String {
    state.map_or_else(|| "does not exist".to_owned(), |state| format!("is {state}"))
}

impl Lifecycle {
    /// Returns the lifecycle after a record. `before` is `None` for a session that does not exist yet.
    ///
    /// # Errors
    /// [`TransitionError`] if the record may not follow.
    pub fn apply(before: Option<&Self>, record: &Record) -> Result<Self, TransitionError> {
        let kind = record.event.kind();
        let Some(before) = before else {
            if kind != EventKind::Created {
                return Err(TransitionError::IllegalTransition {
                    state: None,
                    event: kind,
                    allowed: Self::allowed(None),
                });
            }
            return match record.envelope.attempt {
                0 => {
                    let SessionEvent::Created { inherits, .. } = record.event else {
                        return Ok(Self::created(0));
                    };
                    Ok(Self::created(inherits))
                }
                found => Err(TransitionError::Attempt { expected: 0, found }),
            };
        };
        let mut next = before.clone();
        next.advance(record)?;
        Ok(next)
    }

    /// Applies a record in place. Returns `true` if it changed anything: most records only document the work.
    ///
    /// # Errors
    /// [`TransitionError`] if the record may not follow. Nothing is changed then.
    pub(crate) fn advance(&mut self, record: &Record) -> Result<bool, TransitionError> {
        self.check_owner(record)?;
        self.check_rule(record.event.kind())?;
        self.check_items(&record.event)?;
        self.check_attempt(record)?;
        self.apply_event(record)
    }

    /// Returns the kinds that may follow.
    #[must_use]
    pub fn allowed(before: Option<&Self>) -> Vec<EventKind> {
        EventKind::ALL
            .iter()
            .copied()
            .filter(|kind| match before {
                None => rule(None, *kind) == Rule::Legal,
                Some(before) => before.allows(*kind),
            })
            .collect()
    }

    /// Returns the attempt that a record of this kind must carry: `started` and `resumed` carry the one that they
    /// begin.
    #[must_use]
    pub const fn attempt_for(&self, kind: EventKind) -> u32 {
        let begins = match self.owner {
            None => matches!(kind, EventKind::Started | EventKind::Resumed),
            Some(_) => matches!(kind, EventKind::Started),
        };
        if begins { self.attempt.saturating_add(1) } else { self.attempt }
    }

    const fn created(to_inherit: u64) -> Self {
        Self {
            state: SessionState::Created,
            attempt: 0,
            owner: None,
            iteration: 0,
            iterations_completed: 0,
            iteration_open: false,
            requests: Requests { pause: None, resume: None, cancel: None, answer: None },
            loss: None,
            stop_requested: None,
            program_end: None,
            to_inherit,
            step_refused: false,
        }
    }

    /// Checks for a replaced owner before the table is consulted: a replaced owner has to stop in every state. If the
    /// session never had an owner, or has ended, no owner was replaced, and only the table applies.
    fn check_owner(&self, record: &Record) -> Result<(), TransitionError> {
        if !matches!(self.state.name(), StateName::Running | StateName::Paused) {
            return Ok(());
        }
        let (found, expected) = (record.envelope.attempt, self.attempt_for(record.event.kind()));
        let fenced = match (record.event.kind().role(), &record.event, &self.owner) {
            (Role::Owner, _, None) => true,
            // As long as the program had not succeeded, only its owner can complete the session.
            (_, SessionEvent::Completed { .. }, None) => found != expected || !self.program_succeeded(),
            (Role::OwnerOrClaimant, SessionEvent::Resumed { owner }, Some(current)) => {
                found != expected || owner.instance != current.instance
            }
            (Role::Owner | Role::OwnerOrClaimant, ..) => found != expected,
            (Role::Anyone | Role::Claimant | Role::Recoverer, ..) => false,
        };
        if fenced { Err(TransitionError::Fenced { attempt: found, current: self.attempt }) } else { Ok(()) }
    }

    fn check_attempt(&self, record: &Record) -> Result<(), TransitionError> {
        let (found, expected) = (record.envelope.attempt, self.attempt_for(record.event.kind()));
        if found == expected { Ok(()) } else { Err(TransitionError::Attempt { expected, found }) }
    }

    fn check_rule(&self, kind: EventKind) -> Result<(), TransitionError> {
        if self.allows(kind) { Ok(()) } else { Err(self.illegal(kind)) }
    }

    /// Checks a record of items: whether one begins decides if it may follow.
    fn check_items(&self, event: &SessionEvent) -> Result<(), TransitionError> {
        let SessionEvent::ItemsMoved { moves } = event else { return Ok(()) };
        let may_begin = matches!(self.state, SessionState::Running { .. }) && !self.step_refused;
        if may_begin || moves.begun.is_empty() {
            Ok(())
        } else {
            Err(TransitionError::ItemBegins { state: self.state.name() })
        }
    }

    fn allows(&self, kind: EventKind) -> bool {
        match rule(Some(self.state.name()), kind) {
            Rule::Illegal => false,
            // The rules of items depend on the record.
            Rule::Legal | Rule::NoItemRefused | Rule::NoItemBegins => true,
            Rule::NoIterationOpen => !self.iteration_open,
            Rule::IterationOpen => self.iteration_open,
            Rule::AwaitingInput => {
                matches!(&self.state, SessionState::Paused { reason: PauseReason::AwaitingInput(_) })
            }
            Rule::Owned => self.owner.is_some(),
            Rule::ProgramSucceeded => self.owner.is_none() && self.program_succeeded(),
            Rule::Inheriting => self.to_inherit > 0,
            Rule::Inherited => self.to_inherit == 0,
            Rule::NoStepRefused => !self.step_refused,
        }
    }

    fn illegal(&self, event: EventKind) -> TransitionError {
        TransitionError::IllegalTransition {
            state: Some(self.state.name()),
            event,
            allowed: Self::allowed(Some(self)),
        }
    }

    /// Applies an allowed event. Returns `true` if that changed anything.
    fn apply_event(&mut self, record: &Record) -> Result<bool, TransitionError> {
        match &record.event {
            SessionEvent::Created { .. } => return Err(self.illegal(EventKind::Created)),
            SessionEvent::CommandExecuted { main: true, exit_code, signal, stop, .. } => {
                let (exit_code, signal, stop) = (*exit_code, *signal, *stop);
                self.program_end = Some(ProgramEnd { exit_code, signal, stop, at: record.envelope.at });
            }
            SessionEvent::StopRequested { signal } => {
                let request = StopRequest { signal: *signal, at: record.envelope.at };
                self.stop_requested.get_or_insert(request);
            }
            SessionEvent::Inherited { .. } => self.to_inherit = self.to_inherit.saturating_sub(1),
            SessionEvent::StepValue { .. } | SessionEvent::ItemValue { .. } if self.to_inherit > 0 => {
                self.to_inherit -= 1;
            }
            SessionEvent::StepRefused { .. } => self.step_refused = true,
            SessionEvent::CommandExecuted { .. }
            | SessionEvent::StepStarted { .. }
            | SessionEvent::StepValue { .. }
            | SessionEvent::StepCompleted { .. }
            | SessionEvent::StepFailed { .. }
            | SessionEvent::EachStarted { .. }
            | SessionEvent::ItemsMoved { .. }
            | SessionEvent::ItemValue { .. }
            | SessionEvent::Asked { .. }
            | SessionEvent::Answered { .. }
            | SessionEvent::QuestionWithdrawn { .. }
            | SessionEvent::SleepStarted { .. }
            | SessionEvent::SleepEnded { .. }
            | SessionEvent::WorktreeIntended { .. }
            | SessionEvent::WorktreeMade { .. }
            | SessionEvent::AnalysisCompleted { .. }
            | SessionEvent::CheckpointSaved { .. }
            | SessionEvent::ProgressReported { .. }
            | SessionEvent::Noted { .. } => return Ok(false),
            SessionEvent::IterationStarted { number } => {
                self.iteration = check_number(*number, self.iterations_completed.saturating_add(1))?;
                self.iteration_open = true;
                self.state = SessionState::Running { iteration: self.iteration };
            }
            SessionEvent::IterationCompleted { number, .. } => {
                self.iterations_completed = check_number(*number, self.iteration)?;
                self.iteration_open = false;
            }
            SessionEvent::PauseRequested { reason, by } => {
                self.requests.pause = Some(PauseRequest { reason: reason.clone(), by: by.clone() });
            }
            SessionEvent::ResumeRequested { by } => self.requests.resume = Some(by.clone()),
            SessionEvent::CancelRequested { reason, by, force } => match &mut self.requests.cancel {
                Some(pending) => pending.force |= force,
                none => *none = Some(CancelRequest { reason: reason.clone(), by: by.clone(), force: *force }),
            },
            SessionEvent::InputProvided { .. } => self.requests.answer = Some(record.envelope.seq),
            SessionEvent::Started { owner } | SessionEvent::Resumed { owner } => {
                if self.owner.is_none() {
                    (self.loss, self.stop_requested, self.program_end) = (None, None, None);
                    self.step_refused = false;
                }
                self.attempt = record.envelope.attempt;
                self.owner = Some(owner.clone());
                self.state = SessionState::Running { iteration: self.iteration };
                self.clear_requests();
            }
            SessionEvent::Paused { reason } => {
                self.state = SessionState::Paused { reason: reason.clone() };
                self.clear_requests();
            }
            SessionEvent::Interrupted { evidence } => {
                let kind = self.loss_by(evidence);
                self.owner = None;
                self.loss = Some(kind);
                self.iteration_open = false;
                if matches!(self.state, SessionState::Running { .. }) {
                    let interruption = Interruption::new(kind, evidence.to_string());
                    self.state = SessionState::Paused { reason: PauseReason::Interrupted(interruption) };
                }
            }
            SessionEvent::Completed { summary } => {
                self.end(SessionState::Completed { summary: summary.clone() });
            }
            SessionEvent::Failed { error } => self.end(SessionState::Failed { error: error.clone() }),
            SessionEvent::Cancelled { reason } => {
                self.end(SessionState::Cancelled { reason: reason.clone() });
            }
        }
        Ok(true)
    }

    /// Clears the requests that pausing and resuming answer. A pending cancel remains until the end.
    fn clear_requests(&mut self) {
        self.requests.pause = None;
        self.requests.resume = None;
        self.requests.answer = None;
    }

    fn end(&mut self, state: SessionState) {
        self.state = state;
        self.owner = None;
        self.iteration_open = false;
        self.requests = Requests::default();
        (self.loss, self.stop_requested, self.program_end) = (None, None, None);
        self.step_refused = false;
    }
}

const fn check_number(found: u64, expected: u64) -> Result<u64, TransitionError> {
    if found == expected { Ok(found) } else { Err(TransitionError::Iteration { expected, found }) }
}
