//! Recovery: which sessions nobody answers for any more, and what becomes of them. Evidence decides, never age.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;

use super::engine::{Appended, Engine};
use super::ownership::Acquire;
use super::run::{WorkError, run_work};
use super::session::Session;
use crate::config::RecoveryPolicy;
use crate::error::{Result, SessionError};
use crate::event::SessionEvent;
use crate::head::Head;
use crate::id::{InstanceId, SessionId};
use crate::machine::SessionState;
use crate::owner::Evidence;
use crate::presence::Liveness;
use crate::reason::{Failure, FailureCause, PauseReason, SessionSummary};
use crate::recovery_report::{CrashedSession, RecoveryOutcome, RecoveryReport};
use crate::storage::{Durability, SessionFilter, SessionStorageExt as _};

/// What a recovery does.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct RecoveryOptions {
    /// What becomes of orphans, unless they were made with a policy of their own.
    pub policy: RecoveryPolicy,
    /// Whether the policy counts for those too.
    pub overrules: bool,
    /// Only these sessions; empty means all.
    pub only: Vec<SessionId>,
    /// Whoever declares owners dead of whom nothing is known, on his own responsibility.
    pub force: Option<String>,
    /// Looks, and changes nothing.
    pub dry_run: bool,
}

impl RecoveryOptions {
    /// A recovery with this policy.
    #[must_use]
    pub fn new(policy: RecoveryPolicy) -> Self {
        Self { policy, ..Self::default() }
    }

    /// The policy counts for sessions too that were made with one of their own.
    #[must_use]
    pub fn overruling(mut self) -> Self {
        self.overrules = true;
        self
    }

    /// Only this session, and those named before.
    #[must_use]
    pub fn only(mut self, id: SessionId) -> Self {
        self.only.push(id);
        self
    }

    /// Owners of whom nothing is known count as dead; `by` says so.
    #[must_use]
    pub fn force(mut self, by: impl Into<String>) -> Self {
        self.force = Some(by.into());
        self
    }

    /// Looks, and changes nothing.
    #[must_use]
    pub fn dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }
}

/// Makes the work of a session again after its owner died.
#[async_trait]
pub trait WorkHandler: Send + Sync + std::fmt::Debug {
    /// Whether it can make this session's work.
    fn handles(&self, head: &Head) -> bool;

    /// The work.
    async fn run(&self, session: Session) -> Result<SessionSummary, WorkError>;
}

/// What a recovery does with one session.
#[derive(Debug, Clone, PartialEq)]
enum Plan {
    Nothing,
    Append(Vec<SessionEvent>, RecoveryOutcome),
    Acquire(Acquire),
}

impl Engine {
    /// All orphans of a storage, and the sessions that could not be read.
    pub(crate) async fn orphans(&self) -> Result<Vec<CrashedSession>> {
        let mut known = HashMap::new();
        let mut orphans = Vec::new();
        for head in self.storage.list_all(&SessionFilter::active()).await?.heads {
            if let Some(evidence) = self.evidence(&head, &mut known).await? {
                orphans.push(CrashedSession { head, evidence });
            }
        }
        Ok(orphans)
    }

    /// How it is known that whoever keeps a session is dead. Each owner is looked at once.
    async fn evidence(
        &self,
        head: &Head,
        known: &mut HashMap<InstanceId, Liveness>,
    ) -> Result<Option<Evidence>> {
        let Some(keeper) = head.responsible_process() else { return Ok(None) };
        let liveness = if let Some(liveness) = known.get(&keeper.instance) {
            liveness.clone()
        } else {
            let liveness = self.liveness(keeper).await?;
            known.insert(keeper.instance, liveness.clone());
            liveness
        };
        Ok(match liveness {
            Liveness::Dead { evidence } => Some(evidence),
            Liveness::Alive | Liveness::Unknown { .. } => None,
        })
    }

    pub(crate) async fn recover(self: &Arc<Self>, options: RecoveryOptions) -> Result<RecoveryReport> {
        self.check_open()?;
        let mut report = RecoveryReport::default();
        let mut named = HashSet::new();
        let page = self.storage.list_all(&SessionFilter::active()).await?;
        let complete = page.unreadable.is_empty();
        report.failed.extend(page.unreadable.into_iter().map(|(id, error)| (id, error.into())));
        for head in page.heads {
            named.extend(head.responsible_process().map(|owner| owner.instance));
            if !options.only.is_empty() && !options.only.contains(&head.id) {
                continue;
            }
            match self.recover_one(&head, &options).await {
                Ok(None) => {}
                Ok(Some(outcome)) => report.recovered.push((head.id, outcome)),
                Err(error) => report.failed.push((head.id, error)),
            }
        }
        if complete && !options.dry_run {
            self.presence.sweep(&named).await?;
        }
        self.deliver_recovery(&report);
        Ok(report)
    }

    async fn recover_one(
        self: &Arc<Self>,
        head: &Head,
        options: &RecoveryOptions,
    ) -> Result<Option<RecoveryOutcome>> {
        let id = head.id;
        let deadline = tokio::time::Instant::now() + self.options.conflict_timeout;
        let mut current = head.clone();
        loop {
            let plan = self.plan(&current, options).await?;
            if options.dry_run {
                return Ok(match plan {
                    Plan::Nothing => None,
                    Plan::Append(_, outcome) => Some(outcome),
                    Plan::Acquire(_) => Some(RecoveryOutcome::Resumed),
                });
            }
            match plan {
                Plan::Nothing => return Ok(None),
                Plan::Acquire(take) => {
                    let session = self.acquire(id, take).await?;
                    self.work(session);
                    return Ok(Some(RecoveryOutcome::Resumed));
                }
                Plan::Append(events, outcome) => {
                    let entry = self.entry(id);
                    let _turn = entry.state.lock().await;
                    let mut tail = self.load(id).await?;
                    if tail.head.tip == current.tip
                        && let Appended::Done(_) = self.append(&mut tail, events, Durability::Flushed).await?
                    {
                        return Ok(Some(outcome));
                    }
                    if tokio::time::Instant::now() >= deadline {
                        return Err(SessionError::Contended { id });
                    }
                    current = tail.head;
                }
            }
        }
    }

    async fn plan(&self, head: &Head, options: &RecoveryOptions) -> Result<Plan> {
        let mut evidence = self.evidence(head, &mut HashMap::new()).await?;
        if evidence.is_none()
            && let (Some(by), Some(keeper)) = (&options.force, head.responsible_process())
            && matches!(self.liveness(keeper).await?, Liveness::Unknown { .. })
        {
            evidence = Some(Evidence::Forced { by: by.clone() });
        }
        // Whoever keeps a session answers for it, as long as that one may live. Nobody does for one that an owner left
        // behind; any other pause waits for a person.
        let parked = head.lifecycle.owner.is_none()
            && matches!(head.state(), SessionState::Paused { reason: PauseReason::Interrupted(_) });
        if evidence.is_none() && !parked {
            return Ok(Plan::Nothing);
        }
        let policy = self.policy(head, options).await?;
        let resumable = self.options.handlers.iter().find(|handler| handler.handles(head));
        Ok(plan(head, evidence, policy, self.options.max_attempts, resumable.is_some()))
    }

    /// What the session was made with counts, unless it is overruled.
    async fn policy(&self, head: &Head, options: &RecoveryOptions) -> Result<RecoveryPolicy> {
        if options.overrules {
            return Ok(options.policy);
        }
        let config = self.storage.load(head.id).await?.config;
        Ok(config.recovery.unwrap_or(options.policy))
    }

    fn work(self: &Arc<Self>, session: Session) {
        let head = session.head();
        let Some(handler) = self.options.handlers.iter().find(|handler| handler.handles(&head)).cloned()
        else {
            return;
        };
        let work = async move |session| handler.run(session).await;
        tokio::spawn(async move {
            let id = session.id();
            if let Err(error) = run_work(session, work).await {
                tracing::warn!(session = %id, %error, code = %error.code(), "recovered work could not end its session");
            }
        });
    }
}

/// What becomes of a session that nobody answers for: the whole of the policy, apart from the world.
fn plan(
    head: &Head,
    evidence: Option<Evidence>,
    policy: RecoveryPolicy,
    max_attempts: u32,
    resumable: bool,
) -> Plan {
    let owned = head.lifecycle.owner.is_some();
    let died = evidence.as_ref().is_some_and(Evidence::is_death) && owned;
    let deaths = head.deaths.saturating_add(u32::from(died));
    let why = evidence.as_ref().map_or_else(|| "interrupted".to_owned(), ToString::to_string);
    let interrupted: Vec<SessionEvent> = if owned {
        evidence.map(|evidence| SessionEvent::Interrupted { evidence }).into_iter().collect()
    } else {
        Vec::new()
    };
    let and = |event: SessionEvent| interrupted.iter().cloned().chain([event]).collect();
    let crash = |message: String| SessionEvent::Failed { error: Failure::new(FailureCause::Crash, message) };
    if let Some(request) = &head.lifecycle.requests.cancel {
        return Plan::Append(
            and(SessionEvent::Cancelled { reason: request.reason.clone() }),
            RecoveryOutcome::Cancelled,
        );
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
        RecoveryPolicy::Pause | RecoveryPolicy::Resume if interrupted.is_empty() => Plan::Nothing,
        RecoveryPolicy::Pause | RecoveryPolicy::Resume => Plan::Append(interrupted, RecoveryOutcome::Paused),
    }
}
