//! The steps that a retry takes over from the session that it retries.

use session_core::{
    InheritedItem, InheritedStep, Record, Result, SessionConfig, SessionError, SessionEvent, SessionId,
    SessionManager, SessionManagerExt as _, StepIdentity, StepOutcome, Timestamp,
};

use session_core::backend::Tip;

use crate::items::{EachStatus, ItemState, ItemStatus};
use crate::questions::QuestionStatus;
use crate::table::{StepState, StepStatus};
use crate::workflow_state::WorkflowState;

/// Bytes of values, and number of records, that are appended in one call.
const BATCH_BYTES: usize = 512 * 1024;
const BATCH_RECORDS: usize = 256;
/// Bytes of items in one record, and what the members of one item take in addition.
const ITEMS_BYTES: usize = 128 * 1024;
const ITEM_BYTES: usize = 64;

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
    parts: Vec<InheritedPart>,
    next: Option<StepIdentity>,
}

/// One record that is taken over, with the values that follow it.
#[derive(Debug, Clone)]
struct InheritedPart {
    /// The revision in the source that decides about it: of its end, or of its start if the end is unknown.
    place: u64,
    step: InheritedStep,
    values: Vec<InheritedValue>,
}

/// A value that is taken over.
#[derive(Debug, Clone, Copy)]
struct InheritedValue {
    /// The number of the item; 0 for the value of a step.
    item: u64,
    /// The revision of the start of the step in the source.
    start: u64,
    first: u64,
    last: u64,
    count: u64,
}

impl Inheritance {
    /// Reads what a retry of this session takes over. A session that was created as a retry, and whose creator died before
    /// it had taken over everything, is passed over for the one that it retries.
    ///
    /// # Errors
    /// `NOT_FOUND`, also for a predecessor that is needed; `INVALID_ARGUMENT` if no step or each has the name of
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
        let state = WorkflowState::read(manager, source).await?;
        let before = match take_over {
            TakeOver::All => u64::MAX,
            TakeOver::Before(name) => state.first_start_of(name).ok_or_else(|| {
                SessionError::InvalidArgument { what: format!("session {source} has no step `{name}`") }
            })?,
        };
        let mut parts = parts_of(&state, source, before);
        parts.sort_by_key(|part| part.place);
        let next = match take_over {
            TakeOver::All => state.next().cloned(),
            TakeOver::Before(_) => state.next_from(before).cloned(),
        };
        Ok(Self { source, line: config.line.unwrap_or(source), parts, next })
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
        let values = |part: &InheritedPart| part.values.iter().map(|value| value.count).sum::<u64>();
        self.parts.iter().map(|part| 1 + values(part)).sum()
    }

    /// Returns the number of recorded ends of steps and items that are taken over.
    #[must_use]
    pub fn completed(&self) -> usize {
        let completed = |part: &InheritedPart| match &part.step.outcome {
            StepOutcome::Completed(_) => 1,
            StepOutcome::Items { items, .. } => items.iter().filter(|item| !item.unknown).count(),
            StepOutcome::Unknown { .. } | StepOutcome::Answered { .. } | StepOutcome::Slept => 0,
        };
        self.parts.iter().map(completed).sum()
    }

    /// Returns the step at which the retry continues: the first one that has to run, as far as it is known.
    #[must_use]
    pub const fn next(&self) -> Option<&StepIdentity> {
        self.next.as_ref()
    }

    /// Appends everything to the new session, each step and item with its value.
    ///
    /// # Errors
    /// `CONFLICT` if another process appends to it, and failures of the storage. The session cannot start then.
    pub async fn append(&self, manager: &(impl SessionManager + ?Sized), id: SessionId) -> Result<()> {
        let tip = manager.get_head(id).await?.tip;
        let mut batch = Batch { manager, id, tip, events: Vec::new(), bytes: 0 };
        for part in &self.parts {
            batch.push(SessionEvent::Inherited { step: Box::new(part.step.clone()) }, 0).await?;
            let start = batch.revision();
            let (Some(first), Some(last)) = (
                part.values.iter().map(|value| value.first).min(),
                part.values.iter().map(|value| value.last).max(),
            ) else {
                continue;
            };
            let mut after = first.saturating_sub(1);
            while after < last {
                let limit = usize::try_from(last - after).unwrap_or(usize::MAX).min(BATCH_RECORDS);
                let records = manager.read_records(self.source, after, limit).await?;
                let Some(end) = records.last() else { break };
                after = end.envelope.seq;
                for record in records {
                    if let Some((event, bytes)) = part.value_of(record, start) {
                        batch.push(event, bytes).await?;
                    }
                }
            }
        }
        batch.append().await
    }
}

impl InheritedPart {
    /// Returns the record of a value for the new session, if this one of the source belongs to it.
    fn value_of(&self, record: Record, start: u64) -> Option<(SessionEvent, usize)> {
        let revision = record.envelope.seq;
        let has = |value: &InheritedValue| (value.first..=value.last).contains(&revision);
        #[expect(clippy::wildcard_enum_match_arm, reason = "only values are taken over here")]
        match record.event {
            SessionEvent::StepValue { start: of, part } => {
                let is_ours =
                    self.values.iter().any(|value| value.item == 0 && value.start == of && has(value));
                let bytes = part.len();
                is_ours.then_some((SessionEvent::StepValue { start, part }, bytes))
            }
            SessionEvent::ItemValue { item, part, .. } => {
                let is_ours = self.values.iter().any(|value| value.item == item && has(value));
                let bytes = part.len();
                is_ours.then_some((SessionEvent::ItemValue { each: start, item, part }, bytes))
            }
            _ => None,
        }
    }
}

/// Records that are appended in calls of a bounded size.
struct Batch<'a, M: ?Sized> {
    manager: &'a M,
    id: SessionId,
    tip: Tip,
    events: Vec<SessionEvent>,
    bytes: usize,
}

impl<M: SessionManager + ?Sized> Batch<'_, M> {
    async fn push(&mut self, event: SessionEvent, bytes: usize) -> Result<()> {
        self.events.push(event);
        self.bytes += bytes;
        if self.bytes >= BATCH_BYTES || self.events.len() >= BATCH_RECORDS {
            return self.append().await;
        }
        Ok(())
    }

    /// Returns the revision of the record that was pushed last.
    fn revision(&self) -> u64 {
        self.tip.revision + u64::try_from(self.events.len()).unwrap_or(0)
    }

    async fn append(&mut self) -> Result<()> {
        if !self.events.is_empty() {
            self.bytes = 0;
            self.tip =
                self.manager.inherit_steps(self.id, self.tip, std::mem::take(&mut self.events)).await?;
        }
        Ok(())
    }
}

/// Returns all that a retry takes over of what was decided before a revision, in no order.
fn parts_of(state: &WorkflowState, source: SessionId, before: u64) -> Vec<InheritedPart> {
    let steps =
        state.steps().in_order().into_iter().filter_map(|(step, status)| step_part(step, status, source));
    let answers =
        state.questions().iter().filter_map(|(question, status)| answer_part(question, status, source));
    let sleeps = state.sleeps().iter().filter(|(_, status)| status.has_passed).map(|(sleep, status)| {
        let step = inherited(sleep, source, status.until, StepOutcome::Slept);
        InheritedPart { place: status.end, step, values: Vec::new() }
    });
    let mut parts: Vec<_> = steps.chain(answers).chain(sleeps).filter(|part| part.place < before).collect();
    for (each, status) in state.eaches().in_order() {
        parts.extend(each_parts(each, status, source, before));
    }
    parts
}

fn inherited(step: &StepIdentity, from: SessionId, at: Timestamp, outcome: StepOutcome) -> InheritedStep {
    let (fingerprint, command, inputs) = (String::new(), None, Vec::new());
    InheritedStep { step: step.clone(), fingerprint, reruns: 0, command, from, at, inputs, outcome }
}

fn answer_part(question: &StepIdentity, status: &QuestionStatus, source: SessionId) -> Option<InheritedPart> {
    let given = status.answer.as_ref()?;
    let outcome = StepOutcome::Answered { answer: given.value.clone(), by: given.by.clone() };
    let fingerprint = given.to.as_ref().map(|to| to.as_str().to_owned()).unwrap_or_default();
    let step = InheritedStep { fingerprint, ..inherited(question, source, given.at, outcome) };
    Some(InheritedPart { place: given.revision, step, values: Vec::new() })
}

fn step_part(step: &StepIdentity, status: &StepStatus, source: SessionId) -> Option<InheritedPart> {
    let (place, at, outcome) = match status.state {
        StepState::Completed { end, at, revision } => (revision, at, StepOutcome::Completed(end)),
        StepState::Unknown | StepState::Open => {
            (status.start, status.started_at, StepOutcome::Unknown { deaths: status.deaths })
        }
        StepState::Failed(_) => return None,
    };
    let has_value = matches!(status.state, StepState::Completed { end, .. } if end.value_bytes.is_some());
    let value = status.value;
    let values = InheritedValue {
        item: 0,
        start: status.start,
        first: value.first,
        last: value.last,
        count: value.count,
    };
    let step = InheritedStep {
        fingerprint: status.fingerprint.clone(),
        reruns: status.reruns,
        command: status.command.clone(),
        inputs: status.inputs.clone(),
        ..inherited(step, status.inherited_from.unwrap_or(source), at, outcome)
    };
    let values = Some(values).filter(|value| has_value && value.count > 0).into_iter().collect();
    Some(InheritedPart { place, step, values })
}

/// Returns the items of an each that are done or unknown, in records of a bounded size.
fn each_parts(
    each: &StepIdentity,
    status: &EachStatus,
    source: SessionId,
    before: u64,
) -> Vec<InheritedPart> {
    let place = |item: &ItemStatus| match item.state {
        ItemState::Done => Some(item.end),
        ItemState::Open | ItemState::Unknown => Some(item.start),
        ItemState::Failed => None,
    };
    let placed = status.items().filter_map(|(number, item)| Some((place(item)?, number, item)));
    let mut items: Vec<_> = placed.filter(|(place, ..)| *place < before).collect();
    items.sort_unstable_by_key(|(place, number, _)| (*place, *number));
    let at = status.started_at.unwrap_or_else(|| Timestamp::from_millis(0).expect("1970 has a timestamp"));
    let mut parts: Vec<InheritedPart> = Vec::new();
    let mut room = 0;
    for (place, number, item) in items {
        let size = item.identity.arg.len() + ITEM_BYTES;
        if parts.is_empty() || size > room {
            room = ITEMS_BYTES;
            let outcome = StepOutcome::Items { items: Vec::new(), too_long: status.is_too_long };
            let step = InheritedStep {
                fingerprint: status.fingerprint.clone(),
                reruns: status.reruns,
                command: status.command.clone(),
                ..inherited(each, source, at, outcome)
            };
            parts.push(InheritedPart { place, step, values: Vec::new() });
        }
        room = room.saturating_sub(size);
        let Some(part) = parts.last_mut() else { continue };
        let unknown = item.state != ItemState::Done;
        if let StepOutcome::Items { items, .. } = &mut part.step.outcome {
            let (identity, deaths) = (item.identity.clone(), item.deaths);
            items.push(InheritedItem { item: number, identity, unknown, deaths });
        }
        if !unknown && item.value.count > 0 {
            let (first, last, count) = (item.value.first, item.value.last, item.value.count);
            part.values.push(InheritedValue { item: number, start: 0, first, last, count });
        }
    }
    parts
}
