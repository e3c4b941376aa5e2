//! The steps that a retry takes over from the session that it retries.

use session_core::{
    InheritedStep, Result, SessionConfig, SessionError, SessionEvent, SessionId, SessionManager,
    SessionManagerExt as _, StepIdentity, StepOutcome,
};

use crate::table::{StepState, StepStatus, StepTable};

/// Bytes of values, and number of records, that are appended in one call.
const BATCH_BYTES: usize = 512 * 1024;
const BATCH_RECORDS: usize = 256;

/// The steps that a retry takes over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TakeOver {
    /// All recorded ends, and steps whose end is unknown.
    #[default]
    All,
    /// Of these, what ended before the step with this name first started.
    Before(String),
}

/// The steps that a retry takes over from an ended session.
///
/// ```
/// use session_core::{InMemorySessionManager, SessionConfig, SessionManager as _, SessionManagerExt as _};
/// use session_workflow::{Inheritance, SessionSteps as _, TakeOver};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let manager = InMemorySessionManager::new();
/// let failed = manager.run(SessionConfig::new("release"), async |session| {
///     session.step("build", async || Ok(7)).await?;
///     Err::<(), _>("no network".into())
/// }).await?;
///
/// let inheritance = Inheritance::of(&manager, failed.id, &TakeOver::All).await?;
/// let config = inheritance.config(SessionConfig::new("release").retry_of(failed.id));
/// let id = manager.create_session_inheriting(config, None, inheritance.records()).await?;
/// inheritance.append(&manager, id).await?;
/// let session = manager.start_session(id).await?;
/// let built: i32 = session.step("build", async || unreachable!("it is recorded")).await?;
/// assert_eq!(built, 7);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Inheritance {
    /// The session whose log has the steps.
    source: SessionId,
    line: SessionId,
    steps: Vec<(StepIdentity, StepStatus, u64)>,
    next: Option<StepIdentity>,
}

impl Inheritance {
    /// Reads what a retry of this session takes over. A session that was created as a retry, and whose creator died before
    /// it had taken over everything, is passed over for the one that it retries.
    ///
    /// # Errors
    /// `NOT_FOUND`, also for a predecessor that is needed; `INVALID_ARGUMENT` if no step has the name of
    /// [`TakeOver::Before`]; failures of the storage.
    pub async fn of(
        manager: &(impl SessionManager + ?Sized),
        ended: SessionId,
        take_over: &TakeOver,
    ) -> Result<Self> {
        let mut source = ended;
        let config = loop {
            let stored = manager.restore_session(source).await?;
            match stored.config.retry_of {
                Some(before) if stored.head.lifecycle.to_inherit > 0 => source = before,
                _ => break stored.config,
            }
        };
        let table = StepTable::read(manager, source).await?;
        let first_of = |name: &str| {
            let named = table.in_order().into_iter().filter(|(step, _)| step.name == name);
            named.map(|(_, status)| status.first_start).min()
        };
        let before = match take_over {
            TakeOver::All => u64::MAX,
            TakeOver::Before(name) => first_of(name).ok_or_else(|| SessionError::InvalidArgument {
                what: format!("session {source} has no step `{name}`"),
            })?,
        };
        let place = |status: &StepStatus| match status.state {
            StepState::Completed { revision, .. } => Some(revision),
            StepState::Unknown | StepState::Open => Some(status.start),
            StepState::Failed(_) => None,
        };
        let mut steps = Vec::new();
        let mut next = None;
        for (step, status) in table.in_order() {
            match place(status).filter(|place| *place < before) {
                Some(place) => {
                    steps.push((step.clone(), status.clone(), place));
                    if !status.is_completed() {
                        next.get_or_insert_with(|| step.clone());
                    }
                }
                None => {
                    next.get_or_insert_with(|| step.clone());
                }
            }
        }
        steps.sort_by_key(|(.., place)| *place);
        Ok(Self { source, line: config.line.unwrap_or(source), steps, next })
    }

    /// Sets the line of retries in the configuration of the new session: its idempotency keys are those of the old one.
    #[must_use]
    pub fn config(&self, mut config: SessionConfig) -> SessionConfig {
        config.line = Some(self.line);
        config
    }

    /// Returns the number of records that [`append`](Self::append) will append.
    #[must_use]
    pub fn records(&self) -> u64 {
        let parts = |status: &StepStatus| if has_value(status) { status.value.count } else { 0 };
        self.steps.iter().map(|(_, status, _)| 1 + parts(status)).sum()
    }

    /// Returns the number of recorded ends that are taken over.
    #[must_use]
    pub fn completed(&self) -> usize {
        self.steps.iter().filter(|(_, status, _)| status.is_completed()).count()
    }

    /// Returns the step at which the retry continues: the first one that has to run, as far as it is known.
    #[must_use]
    pub const fn next(&self) -> Option<&StepIdentity> {
        self.next.as_ref()
    }

    /// Appends the steps to the new session, each with its value.
    ///
    /// # Errors
    /// `CONFLICT` if another process appends to it, and failures of the storage. The session cannot start then.
    pub async fn append(&self, manager: &(impl SessionManager + ?Sized), id: SessionId) -> Result<()> {
        let mut tip = manager.get_head(id).await?.tip;
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for (step, status, _) in &self.steps {
            batch.push(SessionEvent::Inherited { step: Box::new(self.inherited(step, status)) });
            let start = tip.revision + batch.len() as u64;
            if has_value(status) {
                let (mut after, last) = (status.value.first.saturating_sub(1), status.value.last);
                while after < last {
                    let limit = usize::try_from(last - after).unwrap_or(usize::MAX).min(BATCH_RECORDS);
                    let records = manager.read_records(self.source, after, limit).await?;
                    let Some(end) = records.last() else { break };
                    after = end.envelope.seq;
                    for record in records {
                        if let SessionEvent::StepValue { start: of, part } = record.event
                            && of == status.start
                            && record.envelope.seq <= last
                        {
                            bytes += part.len();
                            batch.push(SessionEvent::StepValue { start, part });
                        }
                        if bytes >= BATCH_BYTES {
                            tip = manager.inherit_steps(id, tip, std::mem::take(&mut batch)).await?;
                            bytes = 0;
                        }
                    }
                }
            }
            if batch.len() >= BATCH_RECORDS {
                tip = manager.inherit_steps(id, tip, std::mem::take(&mut batch)).await?;
                bytes = 0;
            }
        }
        if batch.is_empty() { Ok(()) } else { manager.inherit_steps(id, tip, batch).await.map(drop) }
    }

    fn inherited(&self, step: &StepIdentity, status: &StepStatus) -> InheritedStep {
        let (outcome, at) = match status.state {
            StepState::Completed { end, at, .. } => (StepOutcome::Completed(end), at),
            StepState::Open | StepState::Unknown | StepState::Failed(_) => {
                (StepOutcome::Unknown { deaths: status.deaths }, status.started_at)
            }
        };
        InheritedStep {
            step: step.clone(),
            fingerprint: status.fingerprint.clone(),
            reruns: status.reruns,
            command: status.command.clone(),
            from: status.inherited_from.unwrap_or(self.source),
            at,
            inputs: Vec::new(),
            outcome,
        }
    }
}

fn has_value(status: &StepStatus) -> bool {
    matches!(status.state, StepState::Completed { end, .. } if end.value_bytes.is_some())
}
