//! The steps of a session, as its log has them.

use std::collections::HashMap;

use session_core::{
    Head, InheritedStep, OwnerLoss, Record, Result, SessionEvent, SessionId, SessionManager,
    SessionManagerExt as _, StepEnd, StepFailure, StepIdentity, StepOutcome, StorageError, Timestamp,
};

/// Records that are read from a log in one call.
const PAGE: usize = 1024;

/// The steps of a session by their identity: the fold of its log.
#[derive(Debug, Clone, Default)]
pub struct StepTable {
    head: Option<Head>,
    steps: HashMap<StepIdentity, StepStatus>,
    /// The first refusal of the last attempt.
    refusal: Option<StepRefusal>,
    /// The step that was started, or taken over, at a revision.
    starts: HashMap<u64, StepIdentity>,
}

/// One step of a session.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct StepStatus {
    /// The state.
    pub state: StepState,
    /// The fingerprint of what it ran last.
    pub fingerprint: String,
    /// The command that it ran last, for people.
    pub command: Option<String>,
    /// The revision of its last start, or at which it was taken over.
    pub start: u64,
    /// The time of its last start, or of its end if it was taken over.
    pub started_at: Timestamp,
    /// The attempt of its last start; 0 if it was taken over.
    pub attempt: u32,
    /// The revision of its first start.
    pub first_start: u64,
    /// The number of its starts in this session.
    pub starts: u64,
    /// `true` if its last start had no end when its attempt ended.
    pub was_open: bool,
    /// The number of deaths of an owner at which it was open, without an end since.
    pub deaths: u64,
    /// The number of recorded ends that were run again on purpose.
    pub reruns: u64,
    /// The session that ran it, if it was taken over.
    pub inherited_from: Option<SessionId>,
    /// The parts of the value of its recorded end.
    pub(crate) value: Parts,
}

/// The refusal of a step, after which no further step of its attempt started.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StepRefusal {
    /// The name of the step.
    pub name: String,
    /// The stable error code.
    pub code: String,
    /// The reason.
    pub message: String,
}

/// The revisions of a value's parts. There may be other records between them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) count: u64,
}

impl Parts {
    pub(crate) fn add(&mut self, revision: u64) {
        if self.count == 0 {
            self.first = revision;
        }
        self.last = revision;
        self.count += 1;
    }
}

/// The state of a step.
#[derive(Debug, Clone, PartialEq)]
pub enum StepState {
    /// Started, not ended.
    Open,
    /// Recorded: it is not run again.
    Completed {
        /// The end.
        end: StepEnd,
        /// The time of the end.
        at: Timestamp,
        /// The revision of the end, or at which it was taken over.
        revision: u64,
    },
    /// Failed: it is run again.
    Failed(StepFailure),
    /// Started, and its end is unknown.
    Unknown,
}

impl StepStatus {
    /// Returns `true` if the step has a recorded end.
    #[must_use]
    pub const fn is_completed(&self) -> bool {
        matches!(self.state, StepState::Completed { .. })
    }
}

impl StepStatus {
    /// Reads the beginning of the value of its recorded end: its first part, which may be all of it. `None` if it has no value.
    ///
    /// # Errors
    /// Failures of the storage.
    pub async fn value_beginning(
        &self,
        manager: &(impl SessionManager + ?Sized),
        id: SessionId,
    ) -> Result<Option<Vec<u8>>> {
        if self.value.count == 0 || !self.is_completed() {
            return Ok(None);
        }
        let records = manager.read_records(id, self.value.first.saturating_sub(1), 1).await?;
        Ok(records.into_iter().find_map(|record| {
            let SessionEvent::StepValue { start, part } = record.event else { return None };
            (start == self.start).then_some(part)
        }))
    }
}

impl StepTable {
    /// Reads the steps of a session.
    ///
    /// # Errors
    /// `NOT_FOUND`, and failures of the storage.
    pub async fn read(manager: &(impl SessionManager + ?Sized), id: SessionId) -> Result<Self> {
        let mut table = Self::default();
        let mut after = 0;
        // Fails if there is no such session.
        manager.get_head(id).await?;
        loop {
            let page = manager.read_records(id, after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(table) };
            after = last.envelope.seq;
            for record in &page {
                table.apply(id, record)?;
            }
        }
    }

    /// Folds in the next record of the session's log.
    ///
    /// # Errors
    /// `INVALID_LOG` if it may not follow.
    pub fn apply(&mut self, id: SessionId, record: &Record) -> Result<()> {
        let before = self.head.as_ref().map_or(0, |head| head.lifecycle.attempt);
        let (revision, at, attempt) = (record.envelope.seq, record.envelope.at, record.envelope.attempt);
        Head::fold(&mut self.head, id, record).map_err(|source| StorageError::Invalid {
            id,
            revision,
            source,
        })?;
        if let Some(head) = &self.head {
            if head.lifecycle.attempt != before {
                self.refusal = None;
            }
            if let SessionEvent::Interrupted { evidence } = &record.event {
                let died = evidence.is_death() && head.lifecycle.loss == Some(OwnerLoss::Crashed);
                self.owner_is_gone(died);
            } else if head.lifecycle.attempt != before || head.state().is_final() {
                self.owner_is_gone(false);
            }
        }
        #[expect(clippy::wildcard_enum_match_arm, reason = "only records of steps change the table")]
        match &record.event {
            SessionEvent::Inherited { step } => self.inherited(step, revision),
            SessionEvent::StepStarted { step, fingerprint, reruns, command, .. } => {
                let start = Start {
                    revision,
                    at,
                    attempt,
                    fingerprint,
                    reruns: *reruns,
                    command: command.as_deref(),
                };
                self.started(step, &start);
            }
            SessionEvent::StepValue { start, .. } => self.part(*start, revision),
            SessionEvent::StepCompleted { start, end } => self.completed(*start, *end, revision, at),
            SessionEvent::StepFailed { start, failure } => self.failed(*start, failure.clone()),
            SessionEvent::StepRefused { name, code, message } => {
                self.refusal.get_or_insert_with(|| StepRefusal {
                    name: name.clone(),
                    code: code.clone(),
                    message: message.clone(),
                });
            }
            _ => {}
        }
        Ok(())
    }

    /// Returns the head that the steps belong to; `None` for a table without records.
    #[must_use]
    pub const fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }

    /// Returns one step.
    #[must_use]
    pub fn get(&self, step: &StepIdentity) -> Option<&StepStatus> {
        self.steps.get(step)
    }

    /// Returns all steps, in the order of their first start.
    #[must_use]
    pub fn in_order(&self) -> Vec<(&StepIdentity, &StepStatus)> {
        let mut all: Vec<_> = self.steps.iter().collect();
        all.sort_by_key(|(_, status)| status.first_start);
        all
    }

    /// Returns the step at which a later attempt, or a retry, continues: the first one without a recorded end.
    #[must_use]
    pub fn next(&self) -> Option<&StepIdentity> {
        let unrecorded = self.steps.iter().filter(|(_, status)| !status.is_completed());
        unrecorded.min_by_key(|(_, status)| status.first_start).map(|(step, _)| step)
    }

    /// Returns the first refusal of the last attempt.
    #[must_use]
    pub const fn refusal(&self) -> Option<&StepRefusal> {
        self.refusal.as_ref()
    }

    fn inherited(&mut self, step: &InheritedStep, revision: u64) {
        let (state, deaths) = match step.outcome {
            StepOutcome::Completed(end) => (StepState::Completed { end, at: step.at, revision }, 0),
            StepOutcome::Unknown { deaths } => (StepState::Unknown, deaths),
            StepOutcome::Items { .. } | StepOutcome::Answered { .. } | StepOutcome::Slept => return,
        };
        let status = StepStatus {
            state,
            fingerprint: step.fingerprint.clone(),
            command: step.command.clone(),
            start: revision,
            started_at: step.at,
            attempt: 0,
            first_start: revision,
            starts: 0,
            was_open: false,
            deaths,
            reruns: step.reruns,
            inherited_from: Some(step.from),
            value: Parts::default(),
        };
        self.starts.insert(revision, step.step.clone());
        self.steps.insert(step.step.clone(), status);
    }

    pub(crate) fn started(&mut self, step: &StepIdentity, start: &Start<'_>) {
        let known = self.steps.get(step);
        let status = StepStatus {
            state: StepState::Open,
            fingerprint: start.fingerprint.to_owned(),
            command: start.command.map(str::to_owned),
            start: start.revision,
            started_at: start.at,
            attempt: start.attempt,
            first_start: known.map_or(start.revision, |known| known.first_start),
            starts: known.map_or(0, |known| known.starts) + 1,
            was_open: false,
            deaths: known.map_or(0, |known| known.deaths),
            reruns: start.reruns,
            inherited_from: None,
            value: Parts::default(),
        };
        if let Some(known) = known {
            // A late end of an earlier start means nothing any more.
            self.starts.remove(&known.start);
        }
        self.starts.insert(start.revision, step.clone());
        self.steps.insert(step.clone(), status);
    }

    fn of_start(&mut self, start: u64) -> Option<&mut StepStatus> {
        self.steps.get_mut(self.starts.get(&start)?)
    }

    pub(crate) fn part(&mut self, start: u64, revision: u64) {
        if let Some(status) = self.of_start(start) {
            status.value.add(revision);
        }
    }

    pub(crate) fn completed(&mut self, start: u64, end: StepEnd, revision: u64, at: Timestamp) {
        if let Some(status) = self.of_start(start)
            // The first end of a start holds.
            && (status.state == StepState::Open || end.skipped && status.state == StepState::Unknown)
        {
            status.state = StepState::Completed { end, at, revision };
            status.deaths = 0;
        }
    }

    /// Sets the parts of the value of a step.
    pub(crate) fn value_is(&mut self, start: u64, parts: Parts) {
        if let Some(status) = self.of_start(start) {
            status.value = parts;
        }
    }

    pub(crate) fn failed(&mut self, start: u64, failure: StepFailure) {
        if let Some(status) = self.of_start(start).filter(|status| status.state == StepState::Open) {
            if failure.unknown {
                status.state = StepState::Unknown;
            } else {
                status.state = StepState::Failed(failure);
                status.deaths = 0;
            }
        }
    }

    /// The end of every open step is unknown. `died` is `true` if the owner's death is the cause.
    fn owner_is_gone(&mut self, died: bool) {
        for status in self.steps.values_mut().filter(|status| status.state == StepState::Open) {
            status.state = StepState::Unknown;
            status.was_open = true;
            status.deaths += u64::from(died);
        }
    }
}

/// The start of a step.
#[derive(Debug)]
pub(crate) struct Start<'a> {
    pub(crate) revision: u64,
    pub(crate) at: Timestamp,
    pub(crate) attempt: u32,
    pub(crate) fingerprint: &'a str,
    pub(crate) reruns: u64,
    pub(crate) command: Option<&'a str>,
}
