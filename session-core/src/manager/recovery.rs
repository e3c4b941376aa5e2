//! Recovery: finding orphaned sessions, and ending, pausing or resuming them. Evidence decides, never age.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;

use super::acquire::{Acquire, acquire};
use super::engine::Engine;
use super::locked_session::LockedSession;
use super::run::{WorkError, run_work};
use super::session::Session;
use crate::config::RecoveryPolicy;
use crate::error::{Result, SessionError};
use crate::event::{EventKind, SessionEvent};
use crate::head::Head;
use crate::id::{InstanceId, SessionId};
use crate::log_writer::Decide;
use crate::machine::SessionState;
use crate::owner::{Evidence, OwnerLoss};
use crate::presence::Liveness;
use crate::reason::{Failure, FailureCause, PauseReason, SessionSummary};
use crate::recovery_report::{CrashedSession, CrashedSessions, RecoveryOutcome, RecoveryReport};
use crate::storage::{Durability, SessionFilter, SessionStorageExt as _};

/// Options of a recovery.
///
/// ```
/// use session_core::{InMemorySessionManager, RecoveryOptions, RecoveryPolicy, SessionManager as _};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), session_core::SessionError> {
/// # let manager = InMemorySessionManager::new();
/// let plan = RecoveryOptions::new(RecoveryPolicy::Resume).dry_run();
/// for (id, outcome) in manager.recover(plan).await?.recovered {
///     println!("{id}: {outcome:?}");
/// }
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct RecoveryOptions {
    /// The policy for orphans whose configuration has no policy.
    pub policy: RecoveryPolicy,
    /// `true` if the policy overrules those in configurations.
    pub overrules: bool,
    /// The sessions to recover; empty means all.
    pub only: Vec<SessionId>,
    /// The person who decided to treat owners of unknown liveness as dead.
    pub force: Option<String>,
    /// `true` if nothing is changed.
    pub dry_run: bool,
}

impl RecoveryOptions {
    /// Creates options with this policy.
    #[must_use]
    pub fn new(policy: RecoveryPolicy) -> Self {
        Self { policy, ..Self::default() }
    }

    /// Lets the policy overrule those in configurations.
    #[must_use]
    pub fn overruling(mut self) -> Self {
        self.overrules = true;
        self
    }

    /// Restricts the recovery to this session, and those added before.
    #[must_use]
    pub fn only(mut self, id: SessionId) -> Self {
        self.only.push(id);
        self
    }

    /// Treats owners of unknown liveness as dead. `by` is the person who decided that, for the log.
    #[must_use]
    pub fn force(mut self, by: impl Into<String>) -> Self {
        self.force = Some(by.into());
        self
    }

    /// Turns the recovery into a dry run, which reports outcomes and changes nothing.
    #[must_use]
    pub fn dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }
}

/// Restarts the work of sessions after their owner died.
#[async_trait]
pub trait WorkHandler: Send + Sync + std::fmt::Debug {
    /// Returns `true` if this handler can run the work of the session.
    fn handles(&self, head: &Head) -> bool;

    /// Runs the work.
    async fn run(&self, session: Session) -> Result<SessionSummary, WorkError>;
}

/// The decision of a recovery for one session.
#[derive(Debug, Clone, PartialEq)]
enum Plan {
    Nothing,
    Append(Vec<SessionEvent>, RecoveryOutcome),
    Acquire(Acquire),
}

impl Plan {
    fn ends_session(&self) -> bool {
        match self {
            Self::Append(_, outcome) => *outcome != RecoveryOutcome::Paused,
            Self::Nothing | Self::Acquire(_) => false,
        }
    }
}

/// The recovery of a manager's orphans.
#[derive(Debug)]
pub(crate) struct Recovery {
    engine: Arc<Engine>,
    handlers: Vec<Arc<dyn WorkHandler>>,
    max_attempts: u32,
}

impl Recovery {
    pub(crate) fn new(engine: Arc<Engine>, handlers: Vec<Arc<dyn WorkHandler>>, max_attempts: u32) -> Self {
        Self { engine, handlers, max_attempts }
    }

    /// Returns all sessions that lost their owner and were not resumed since, except those that a person paused or stopped.
    pub(crate) async fn crashed(&self) -> Result<CrashedSessions> {
        let mut known = HashMap::new();
        let page = self.engine.storage().list_all(&SessionFilter::active()).await?;
        let mut crashed = CrashedSessions { unreadable: page.unreadable, ..CrashedSessions::default() };
        for head in page.heads {
            let evidence = match head.state() {
                SessionState::Paused { reason: PauseReason::Requested(_) | PauseReason::Limit(_) }
                | SessionState::Completed { .. }
                | SessionState::Failed { .. }
                | SessionState::Cancelled { .. } => None,
                // Only a person resumes it.
                SessionState::Paused { .. } if head.lifecycle.loss == Some(OwnerLoss::Stopped) => None,
                // The loss is in the log.
                SessionState::Paused { .. } if head.lifecycle.owner.is_none() => {
                    match self.last_interruption(&head).await {
                        Ok(evidence) => evidence,
                        Err(SessionError::Storage(error)) => {
                            crashed.unreadable.push((head.id, error));
                            None
                        }
                        Err(error) => return Err(error),
                    }
                }
                SessionState::Created | SessionState::Running { .. } | SessionState::Paused { .. } => {
                    let evidence = self.evidence(&head, &mut known).await?;
                    evidence.filter(|evidence| head.lifecycle.loss_by(evidence) != OwnerLoss::Stopped)
                }
            };
            if let Some(evidence) = evidence {
                let outcome = self.engine.sinks.outcome_at_opening(head.id);
                crashed.sessions.push(CrashedSession { head, evidence, outcome });
            }
        }
        crashed.sessions.sort_by_key(|crashed| (crashed.head.created_at, crashed.head.id));
        Ok(crashed)
    }

    /// Reads the evidence of the last `interrupted` in a log. It is near the end: only requests and notes may follow.
    async fn last_interruption(&self, head: &Head) -> Result<Option<Evidence>> {
        for revision in (1..=head.tip.revision).rev() {
            if let SessionEvent::Interrupted { evidence } =
                self.engine.writer.event(head.id, revision).await?
            {
                return Ok(Some(evidence));
            }
        }
        Ok(None)
    }

    /// Returns the evidence that the process responsible for a session is dead. Checks each process once.
    async fn evidence(
        &self,
        head: &Head,
        known: &mut HashMap<InstanceId, Liveness>,
    ) -> Result<Option<Evidence>> {
        let Some(owner) = head.responsible_process() else { return Ok(None) };
        let liveness = if let Some(liveness) = known.get(&owner.instance) {
            liveness.clone()
        } else {
            let liveness = self.engine.identity.liveness(owner).await?;
            known.insert(owner.instance, liveness.clone());
            liveness
        };
        Ok(match liveness {
            Liveness::Dead { evidence } => Some(evidence),
            Liveness::Alive | Liveness::Unknown { .. } => None,
        })
    }

    pub(crate) async fn recover(&self, options: RecoveryOptions) -> Result<RecoveryReport> {
        self.engine.check_open()?;
        let mut report = RecoveryReport::default();
        let mut named = HashSet::new();
        let page = self.engine.storage().list_all(&SessionFilter::active()).await?;
        let complete = page.unreadable.is_empty();
        report.failed.extend(page.unreadable.into_iter().map(|(id, error)| (id, error.into())));
        for (id, error) in &report.failed {
            tracing::warn!(session = %id, %error, code = %error.code(), "cannot read a session: it is not recovered");
        }
        for head in page.heads {
            named.extend(head.responsible_process().map(|owner| owner.instance));
            if !options.only.is_empty() && !options.only.contains(&head.id) {
                continue;
            }
            match self.recover_one(&head, &options).await {
                Ok(None) => {}
                Ok(Some(outcome)) => {
                    if !options.dry_run {
                        tracing::warn!(session = %head.id, name = head.name, ?outcome, "recovered a session that lost its owner");
                    }
                    report.recovered.push((head.id, outcome));
                }
                Err(error) => {
                    tracing::warn!(session = %head.id, %error, code = %error.code(), "could not recover a session");
                    report.failed.push((head.id, error));
                }
            }
        }
        if complete && !options.dry_run {
            self.engine.identity.presence().sweep(&named).await?;
        }
        self.engine.sinks.recovered(&report);
        Ok(report)
    }

    async fn recover_one(&self, head: &Head, options: &RecoveryOptions) -> Result<Option<RecoveryOutcome>> {
        let mut plan = self.plan(head, options).await?;
        if !options.dry_run && matches!(plan, Plan::Append(..)) {
            if plan.ends_session() {
                self.engine.end_leftovers(head.id).await?;
            }
            let mut decision = PlanAgain { recovery: self, options, plan };
            let mut session = LockedSession::lock(&self.engine, head.id).await;
            session.append(Durability::Flushed, &mut decision).await?;
            plan = decision.plan;
        }
        Ok(match plan {
            Plan::Nothing => None,
            Plan::Append(_, outcome) => Some(outcome),
            Plan::Acquire(how) => {
                if !options.dry_run {
                    self.run_handler(acquire(&self.engine, head.id, how).await?);
                }
                Some(RecoveryOutcome::Resumed)
            }
        })
    }

    async fn plan(&self, head: &Head, options: &RecoveryOptions) -> Result<Plan> {
        let mut evidence = self.evidence(head, &mut HashMap::new()).await?;
        if evidence.is_none()
            && let (Some(by), Some(owner)) = (&options.force, head.responsible_process())
            && matches!(self.engine.identity.liveness(owner).await?, Liveness::Unknown { .. })
        {
            evidence = Some(Evidence::Forced { by: by.clone() });
        }
        // A session is left alone while its responsible process may be alive. A session that its owner released has
        // none; any other pause waits for a person.
        let released = head.lifecycle.owner.is_none()
            && matches!(head.state(), SessionState::Paused { reason: PauseReason::Interrupted(_) });
        if evidence.is_none() && !released {
            return Ok(Plan::Nothing);
        }
        let policy = self.policy(head, options).await?;
        let resumable = self.handlers.iter().find(|handler| handler.handles(head));
        Ok(plan(head, evidence, policy, self.max_attempts, resumable.is_some()))
    }

    /// Returns the policy of the session's configuration, unless it has none or is overruled.
    async fn policy(&self, head: &Head, options: &RecoveryOptions) -> Result<RecoveryPolicy> {
        if options.overrules {
            return Ok(options.policy);
        }
        let config = self.engine.storage().load(head.id).await?.config;
        Ok(config.recovery.unwrap_or(options.policy))
    }

    fn run_handler(&self, session: Session) {
        let head = session.head();
        let Some(handler) = self.handlers.iter().find(|handler| handler.handles(&head)).cloned() else {
            return;
        };
        let work = async move |session| handler.run(session).await;
        tokio::spawn(async move {
            let id = session.id();
            if let Err(error) = run_work(session, work).await {
                tracing::warn!(session = %id, %error, code = %error.code(), "recovered work: could not end its session");
            }
        });
    }
}

/// Makes the plan for a session again, for the head that is current when its events are appended.
struct PlanAgain<'a> {
    recovery: &'a Recovery,
    options: &'a RecoveryOptions,
    plan: Plan,
}

impl Decide for &mut PlanAgain<'_> {
    async fn decide(&mut self, head: &Head) -> Result<Option<Vec<SessionEvent>>> {
        self.plan = self.recovery.plan(head, self.options).await?;
        Ok(match &self.plan {
            Plan::Append(events, _) => Some(events.clone()),
            Plan::Nothing | Plan::Acquire(_) => None,
        })
    }
}

/// Decides the outcome for an orphaned session: the complete policy as a pure function.
fn plan(
    head: &Head,
    evidence: Option<Evidence>,
    policy: RecoveryPolicy,
    max_attempts: u32,
    resumable: bool,
) -> Plan {
    let owned = head.lifecycle.owner.is_some();
    let loss = evidence.as_ref().filter(|_| owned).map(|evidence| head.lifecycle.loss_by(evidence));
    let died = evidence.as_ref().is_some_and(Evidence::is_death) && loss == Some(OwnerLoss::Crashed);
    let deaths = head.deaths.saturating_add(u32::from(died));
    let why = evidence.as_ref().map_or_else(|| "interrupted".to_owned(), ToString::to_string);
    let interrupted: Vec<SessionEvent> = if owned {
        evidence.map(|evidence| SessionEvent::Interrupted { evidence }).into_iter().collect()
    } else {
        Vec::new()
    };
    let and = |event: SessionEvent| interrupted.iter().cloned().chain([event]).collect();
    let paused = |interrupted: Vec<SessionEvent>| {
        if interrupted.is_empty() {
            Plan::Nothing
        } else {
            Plan::Append(interrupted, RecoveryOutcome::Paused)
        }
    };
    let crash = |message: String| SessionEvent::Failed { error: Failure::new(FailureCause::Crash, message) };
    if let Some(ending) = head.lifecycle.ending_of_program() {
        let completed = ending.kind() == EventKind::Completed;
        let outcome = if completed { RecoveryOutcome::Completed } else { RecoveryOutcome::Failed };
        return Plan::Append(and(ending), outcome);
    }
    if let Some(request) = &head.lifecycle.requests.cancel {
        return Plan::Append(
            and(SessionEvent::Cancelled { reason: request.reason.clone() }),
            RecoveryOutcome::Cancelled,
        );
    }
    if head.lifecycle.to_inherit > 0 {
        let message =
            "its creator died before it had taken over all steps: a retry takes them from its predecessor";
        return Plan::Append(and(crash(message.to_owned())), RecoveryOutcome::Failed);
    }
    // What a person stopped or paused, only a person resumes.
    let by_person = loss.or(head.lifecycle.loss) == Some(OwnerLoss::Stopped)
        || matches!(
            head.state(),
            SessionState::Paused { reason: PauseReason::Requested(_) | PauseReason::Limit(_) }
        );
    if by_person {
        return paused(interrupted);
    }
    if deaths >= max_attempts && max_attempts > 0 {
        let message = format!("its owner died {deaths} times without progress; the last time: {why}");
        return Plan::Append(and(crash(message)), RecoveryOutcome::Failed);
    }
    let created = matches!(head.state(), SessionState::Created);
    match policy {
        RecoveryPolicy::Fail => Plan::Append(and(crash(why)), RecoveryOutcome::Failed),
        RecoveryPolicy::Resume if resumable => {
            Plan::Acquire(if created { Acquire::Start } else { Acquire::Resume })
        }
        RecoveryPolicy::Pause | RecoveryPolicy::Resume => paused(interrupted),
    }
}
