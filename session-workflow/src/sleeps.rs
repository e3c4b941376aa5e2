//! The sleeps of a session, as its log has them.

use std::collections::HashMap;

use session_core::{SessionEvent, StepIdentity, StepOutcome, Timestamp};

/// The sleeps of a session by their identity: the fold of its log.
#[derive(Debug, Clone, Default)]
pub struct SleepTable {
    sleeps: HashMap<StepIdentity, SleepStatus>,
    starts: HashMap<u64, StepIdentity>,
}

/// One sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SleepStatus {
    /// The wake-up time, recorded once.
    pub until: Timestamp,
    /// The revision of its first start, or at which it was taken over.
    pub start: u64,
    /// `true` once it has passed: the sleep has ended.
    pub has_passed: bool,
    /// The revision at which that was recorded, or taken over; 0 before.
    pub end: u64,
}

impl SleepTable {
    /// Returns one sleep.
    #[must_use]
    pub fn get(&self, sleep: &StepIdentity) -> Option<&SleepStatus> {
        self.sleeps.get(sleep)
    }

    /// Returns all sleeps.
    pub fn iter(&self) -> impl Iterator<Item = (&StepIdentity, &SleepStatus)> {
        self.sleeps.iter()
    }

    /// Folds in an event at its revision.
    pub(crate) fn apply(&mut self, event: &SessionEvent, revision: u64) {
        #[expect(clippy::wildcard_enum_match_arm, reason = "only records of sleeps change the table")]
        match event {
            SessionEvent::SleepStarted { step, until } => self.started(step, *until, revision),
            SessionEvent::SleepEnded { start, passed: true } => self.passed(*start, revision),
            SessionEvent::Inherited { step } if step.outcome == StepOutcome::Slept => {
                let status = SleepStatus { until: step.at, start: revision, has_passed: true, end: revision };
                self.sleeps.insert(step.step.clone(), status);
            }
            _ => {}
        }
    }

    pub(crate) fn started(&mut self, step: &StepIdentity, until: Timestamp, revision: u64) {
        self.starts.insert(revision, step.clone());
        // The first wake-up time holds.
        self.sleeps.entry(step.clone()).or_insert(SleepStatus {
            until,
            start: revision,
            has_passed: false,
            end: 0,
        });
    }

    pub(crate) fn passed(&mut self, start: u64, revision: u64) {
        if let Some(status) = self.starts.get(&start).and_then(|step| self.sleeps.get_mut(step)) {
            (status.has_passed, status.end) = (true, revision);
        }
    }
}
