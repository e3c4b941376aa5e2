//! The steps of a session, as its log has them.

use std::collections::HashMap;

use session_core::{
    InheritedStep, InputFile, Result, SessionEvent, SessionId, SessionManager, SessionManagerExt as _,
    StepEnd, StepFailure, StepIdentity, StepOutcome, Timestamp,
};

/// The steps of a session by their identity: the fold of its log.
#[derive(Debug, Clone, Default)]
pub struct StepTable {
    steps: HashMap<StepIdentity, StepStatus>,
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
    /// Its input files, with the content that they had before it ran last.
    pub inputs: Vec<InputFile>,
    /// The parts of the value of its recorded end.
    pub(crate) value: Parts,
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
    /// Folds in an event at its revision.
    pub(crate) fn apply(&mut self, event: &SessionEvent, revision: u64, at: Timestamp, attempt: u32) {
        #[expect(clippy::wildcard_enum_match_arm, reason = "only records of steps change the table")]
        match event {
            SessionEvent::Inherited { step } => self.inherited(step, revision),
            SessionEvent::StepStarted { step, fingerprint, reruns, command, inputs, .. } => {
                let start = Start {
                    revision,
                    at,
                    attempt,
                    fingerprint,
                    reruns: *reruns,
                    command: command.as_deref(),
                    inputs,
                };
                self.started(step, &start);
            }
            SessionEvent::StepValue { start, .. } => self.part(*start, revision),
            SessionEvent::StepCompleted { start, end } => self.completed(*start, *end, revision, at),
            SessionEvent::StepFailed { start, failure } => self.failed(*start, failure.clone()),
            _ => {}
        }
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
            inputs: step.inputs.clone(),
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
            inputs: start.inputs.to_vec(),
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
    pub(crate) fn owner_is_gone(&mut self, died: bool) {
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
    pub(crate) inputs: &'a [InputFile],
}
