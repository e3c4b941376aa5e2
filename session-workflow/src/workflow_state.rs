//! The durable work of a session, as its log has it: steps, items, questions and sleeps.

use session_core::{
    Head, OwnerLoss, Record, Result, SessionEvent, SessionId, SessionManager, SessionManagerExt as _,
    StepIdentity, StorageError,
};

use crate::items::EachTable;
use crate::questions::QuestionTable;
use crate::sleeps::SleepTable;
use crate::table::StepTable;

/// Records that are read from a log in one call.
const PAGE: usize = 1024;

/// The durable work of a session: the fold of its log.
#[derive(Debug, Clone, Default)]
pub struct WorkflowState {
    head: Option<Head>,
    pub(crate) steps: StepTable,
    pub(crate) eaches: EachTable,
    pub(crate) questions: QuestionTable,
    pub(crate) sleeps: SleepTable,
    /// The first refusal of the last attempt.
    refusal: Option<StepRefusal>,
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

impl WorkflowState {
    /// Reads the log of a session.
    ///
    /// # Errors
    /// `NOT_FOUND`, and failures of the storage.
    pub async fn read(manager: &(impl SessionManager + ?Sized), id: SessionId) -> Result<Self> {
        let mut state = Self::default();
        let mut after = 0;
        // Fails if there is no such session.
        manager.get_head(id).await?;
        loop {
            let page = manager.read_records(id, after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(state) };
            after = last.envelope.seq;
            for record in &page {
                state.apply(id, record)?;
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
            let begins = head.lifecycle.attempt != before;
            if begins {
                self.refusal = None;
            }
            if let SessionEvent::Interrupted { evidence } = &record.event {
                let died = evidence.is_death() && head.lifecycle.loss == Some(OwnerLoss::Crashed);
                self.owner_is_gone(died);
            } else if begins || head.state().is_final() {
                self.owner_is_gone(false);
            }
        }
        if let SessionEvent::StepRefused { name, code, message } = &record.event {
            self.refusal.get_or_insert_with(|| StepRefusal {
                name: name.clone(),
                code: code.clone(),
                message: message.clone(),
            });
        }
        self.steps.apply(&record.event, revision, at, attempt);
        self.eaches.apply(&record.event, revision, at, attempt);
        self.questions.apply(&record.event, revision, at);
        self.sleeps.apply(&record.event, revision);
        Ok(())
    }

    /// Returns the head that it belongs to; `None` for a state without records.
    #[must_use]
    pub const fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }

    /// Returns the steps.
    #[must_use]
    pub const fn steps(&self) -> &StepTable {
        &self.steps
    }

    /// Returns the eaches with their items.
    #[must_use]
    pub const fn eaches(&self) -> &EachTable {
        &self.eaches
    }

    /// Returns the questions with their answers.
    #[must_use]
    pub const fn questions(&self) -> &QuestionTable {
        &self.questions
    }

    /// Returns the sleeps.
    #[must_use]
    pub const fn sleeps(&self) -> &SleepTable {
        &self.sleeps
    }

    /// Returns the first refusal of the last attempt.
    #[must_use]
    pub const fn refusal(&self) -> Option<&StepRefusal> {
        self.refusal.as_ref()
    }

    /// Returns the step or each at which a later attempt, or a retry, continues: the first one without a recorded end.
    #[must_use]
    pub fn next(&self) -> Option<&StepIdentity> {
        self.next_from(u64::MAX)
    }

    /// Returns the first step or each without a recorded end, or that first started at a revision or later.
    pub(crate) fn next_from(&self, revision: u64) -> Option<&StepIdentity> {
        let runs = |(first, is_completed, _): &(u64, bool, _)| !is_completed || *first >= revision;
        self.starts().filter(runs).min_by_key(|(first, ..)| *first).map(|(.., step)| step)
    }

    /// Returns the revision at which a step or each with this name first started.
    pub(crate) fn first_start_of(&self, name: &str) -> Option<u64> {
        self.starts().filter(|(.., step)| step.name == name).map(|(first, ..)| first).min()
    }

    /// Returns the first start of each step and each, and if it has a recorded end.
    fn starts(&self) -> impl Iterator<Item = (u64, bool, &StepIdentity)> {
        let steps = self.steps.in_order().into_iter();
        let steps = steps.map(|(step, status)| (status.first_start, status.is_completed(), step));
        let eaches = self.eaches.in_order().into_iter();
        steps.chain(eaches.map(|(each, status)| (status.first_start, status.is_completed(), each)))
    }

    fn owner_is_gone(&mut self, died: bool) {
        self.steps.owner_is_gone(died);
        self.eaches.owner_is_gone(died);
    }
}
