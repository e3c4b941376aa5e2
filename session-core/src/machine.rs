//! The state machine: one pure function that says what a record makes of a session, or why it may not be there.
//! Live changes, replay, recovery, import and `verify` all call it; which events may follow is in `table`.

mod state;
mod table;

use serde::{Deserialize, Serialize};

pub use self::state::{SessionState, StateName};
pub use self::table::{Rule, rule};

use crate::event::{EventKind, Role, SessionEvent};
use crate::owner::Owner;
use crate::reason::PauseReason;
use crate::record::Record;

/// A pause that was asked for and not yet answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PauseRequest {
    /// Why.
    pub reason: String,
    /// Who asks.
    pub by: String,
}

/// A cancel that was asked for and not yet answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CancelRequest {
    /// Why.
    pub reason: String,
    /// Who asks.
    pub by: String,
    /// Whether the work is ended without being asked.
    #[serde(default)]
    pub force: bool,
}

impl CancelRequest {
    /// A request that lets the work end in its own way.
    #[must_use]
    pub fn new(reason: impl Into<String>, by: impl Into<String>) -> Self {
        Self { reason: reason.into(), by: by.into(), force: false }
    }

    /// Ends the work without asking it.
    #[must_use]
    pub fn force(mut self) -> Self {
        self.force = true;
        self
    }
}

/// What was asked for and not yet answered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Requests {
    /// The latest pause request since the session last ran freely.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause: Option<PauseRequest>,
    /// Who asked last to go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resume: Option<String>,
    /// The first cancel request; a later one can only add force to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cancel: Option<CancelRequest>,
    /// The revision of the latest answer to the question that the session waits on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<u64>,
}

/// Everything that decides which event may come next.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Lifecycle {
    /// What the session is.
    pub state: SessionState,
    /// 0 before the first start, 1 with it, one more with each new owner.
    pub attempt: u32,
    /// Who runs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
    /// The highest iteration that was started.
    #[serde(default)]
    pub iteration: u64,
    /// The last iteration that was completed.
    #[serde(default)]
    pub iterations_completed: u64,
    /// Whether the iteration that was started last is open.
    #[serde(default)]
    pub iteration_open: bool,
    /// What was asked for.
    #[serde(default)]
    pub requests: Requests,
}

/// Why a record may not follow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransitionError {
    /// The machine has no such transition.
    #[error("`{event}` is not possible while the session {}", display_state(*state))]
    IllegalTransition {
        /// The state; `None` is the session that does not exist.
        state: Option<StateName>,
        /// The kind that was refused.
        event: EventKind,
        /// The kinds that would have been possible.
        allowed: Vec<EventKind>,
    },
    /// An iteration out of order.
    #[error("iteration {found} cannot come now, it is the turn of iteration {expected}")]
    Iteration {
        /// The number whose turn it is.
        expected: u64,
        /// The number that was given.
        found: u64,
    },
    /// The record speaks for an owner that the session no longer has.
    #[error("attempt {attempt} no longer owns the session, which is at attempt {current}")]
    Fenced {
        /// The attempt of the record.
        attempt: u32,
        /// The attempt of the session.
        current: u32,
    },
    /// The record names an attempt that is not its turn, and fences nobody: nobody owns the session, or the kind is
    /// one that anyone may append.
    #[error("names attempt {found} instead of {expected}")]
    Attempt {
        /// The session's attempt.
        expected: u32,
        /// The record's.
        found: u32,
    },
    /// The record stands at a place that its number does not name.
    #[error("is numbered {found} instead of {expected}")]
    Sequence {
        /// The place.
        expected: u64,
        /// The number.
        found: u64,
    },
    /// The record claims that a record was flushed which did not yet exist.
    #[error("claims that revision {flushed} was flushed before it existed")]
    Flushed {
        /// The claim.
        flushed: u64,
    },
}

fn display_state(state: Option<StateName>) -> String {
    state.map_or_else(|| "does not exist".to_owned(), |state| format!("is {state}"))
}

impl Lifecycle {
    /// What a record makes of a session; `None` is the session that does not exist yet.
    ///
    /// # Errors
    /// [`TransitionError`] where the record may not follow.
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
                0 => Ok(Self::created()),
                found => Err(TransitionError::Attempt { expected: 0, found }),
            };
        };
        let mut next = before.clone();
        next.advance(record)?;
        Ok(next)
    }

    /// As [`apply`](Self::apply), in place. Says whether the record changed anything: most only tell what the work did.
    ///
    /// # Errors
    /// [`TransitionError`] where the record may not follow. Nothing is changed then.
    pub(crate) fn advance(&mut self, record: &Record) -> Result<bool, TransitionError> {
        self.check_owner(record)?;
        self.check_rule(record.event.kind())?;
        self.check_attempt(record)?;
        self.apply_event(record)
    }

    /// The kinds that may follow.
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

    /// The attempt that a record of this kind must carry: `started` and `resumed` carry the one that they begin.
    #[must_use]
    pub const fn attempt_for(&self, kind: EventKind) -> u32 {
        let begins = match self.owner {
            None => matches!(kind, EventKind::Started | EventKind::Resumed),
            Some(_) => matches!(kind, EventKind::Started),
        };
        if begins { self.attempt.saturating_add(1) } else { self.attempt }
    }

    const fn created() -> Self {
        Self {
            state: SessionState::Created,
            attempt: 0,
            owner: None,
            iteration: 0,
            iterations_completed: 0,
            iteration_open: false,
            requests: Requests { pause: None, resume: None, cancel: None, answer: None },
        }
    }

    /// Fencing comes before the table: whoever was replaced has to stop, whatever the state is now. Where the session
    /// never had an owner, or ended, nobody was replaced, and the table alone speaks.
    fn check_owner(&self, record: &Record) -> Result<(), TransitionError> {
        if !matches!(self.state.name(), StateName::Running | StateName::Paused) {
            return Ok(());
        }
        let (found, expected) = (record.envelope.attempt, self.attempt_for(record.event.kind()));
        let fenced = match (record.event.kind().role(), &record.event, &self.owner) {
            (Role::Owner, _, None) => true,
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

    fn allows(&self, kind: EventKind) -> bool {
        match rule(Some(self.state.name()), kind) {
            Rule::Illegal => false,
            Rule::Legal => true,
            Rule::NoIterationOpen => !self.iteration_open,
            Rule::IterationOpen => self.iteration_open,
            Rule::AwaitingInput => {
                matches!(&self.state, SessionState::Paused { reason: PauseReason::AwaitingInput(_) })
            }
            Rule::Owned => self.owner.is_some(),
        }
    }

    fn illegal(&self, event: EventKind) -> TransitionError {
        TransitionError::IllegalTransition {
            state: Some(self.state.name()),
            event,
            allowed: Self::allowed(Some(self)),
        }
    }

    /// What an event that is allowed does, and whether that is anything.
    fn apply_event(&mut self, record: &Record) -> Result<bool, TransitionError> {
        match &record.event {
            SessionEvent::Created { .. } => return Err(self.illegal(EventKind::Created)),
            SessionEvent::CommandExecuted { .. }
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
                self.owner = None;
                self.iteration_open = false;
                if matches!(self.state, SessionState::Running { .. }) {
                    self.state =
                        SessionState::Paused { reason: PauseReason::Interrupted(evidence.to_string()) };
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

    /// Pausing and resuming answer both requests; a pending cancel survives everything but the end.
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
    }
}

const fn check_number(found: u64, expected: u64) -> Result<u64, TransitionError> {
    if found == expected { Ok(found) } else { Err(TransitionError::Iteration { expected, found }) }
}
