//! Valid logs for tests: sealed by the core's chain, checked by its state machine, with the head of every revision.

mod samples;
mod steps;

use std::sync::Arc;

use serde_json::Value;
use session_core::backend::{
    Batch, Chain, DecodeError, Expected, FORMAT, SessionStorage, SessionStorageExt as _, Tip, UnsealedRecord,
};
use session_core::{
    Changes, Commit, Durability, Evidence, Failure, FailureCause, FileChange, Head, LockFolderId, Owner,
    PauseReason, ProgressReport, SessionConfig, SessionEvent, SessionId, SessionSummary, StorageError,
    StoredRecord, Timestamp, TransitionError,
};

pub use self::samples::{in_state, of_every_kind};
pub use self::steps::{inherited_answer, inherited_items};

/// The time of record 1.
const FIRST: i64 = 1_795_253_400_123;
/// Milliseconds between records.
const STEP: i64 = 7;

/// Returns an owner whose process never existed.
#[must_use]
pub fn owner() -> Owner {
    let mut owner =
        Owner::new("testkit".into(), "machine-of-the-testkit".into(), "boot-1".into(), 4711, 1234);
    owner.lock_folder = "5e7d0c1b-2a39-4f48-9576-8695a4b3c2d1".parse::<LockFolderId>().ok();
    owner.pid_namespace = Some(4_026_531_836);
    owner
}

/// A log under construction, independent of any storage. A clone is a rival's version of the same log.
///
/// ```
/// use session_core::backend::{MemoryStorage, SessionStorage as _};
/// use session_core::{Durability, SessionConfig};
/// use session_testkit::logs::Log;
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let storage = MemoryStorage::new();
/// let mut log = Log::new(SessionConfig::new("import"));
/// log.started().noted(1).completed();
/// log.take().send(&storage, Durability::Flushed).await.unwrap();
/// assert_eq!(storage.head(log.id()).await.unwrap().as_ref(), Some(log.head()));
/// # });
/// ```
#[derive(Debug, Clone)]
pub struct Log {
    id: SessionId,
    chain: Chain,
    records: Vec<StoredRecord>,
    heads: Vec<Head>,
    taken: usize,
    now: i64,
}

/// A batch to append, with its expectation.
#[derive(Debug, Clone)]
pub struct Step {
    /// The session.
    pub id: SessionId,
    /// The expected tip.
    pub expected: Expected,
    /// The records.
    pub batch: Batch,
}

impl Step {
    /// Appends the batch to a storage.
    ///
    /// # Errors
    /// The errors of [`append`](SessionStorage::append).
    pub async fn send(
        self,
        storage: &dyn SessionStorage,
        durability: Durability,
    ) -> Result<Tip, StorageError> {
        storage.append(self.id, self.expected, self.batch, durability).await
    }

    /// Replaces the expectation.
    #[must_use]
    pub fn expecting(mut self, expected: Expected) -> Self {
        self.expected = expected;
        self
    }
}

/// The reason why stored records are not a valid log.
#[derive(Debug)]
#[non_exhaustive]
pub enum InvalidLog {
    /// The storage returned an error.
    Storage(StorageError),
    /// The chain is broken at this revision.
    BrokenChain(u64),
    /// This revision has a valid checksum but cannot be decoded.
    Undecodable(u64, DecodeError),
    /// This revision is not allowed by the state machine.
    Illegal(u64, TransitionError),
    /// There are no records.
    Empty,
}

impl Log {
    /// Creates a log of one record, `created`, under a random id.
    ///
    /// # Panics
    /// If the config is invalid.
    #[must_use]
    pub fn new(config: SessionConfig) -> Self {
        Self::with_id(SessionId::random(), config)
    }

    /// Creates a log of one record, `created`.
    ///
    /// # Panics
    /// If the config is invalid.
    #[must_use]
    pub fn with_id(id: SessionId, config: SessionConfig) -> Self {
        Self::created_by(owner(), id, config)
    }

    /// Creates a log of one record, `created`, with this creator. Equal arguments give equal logs.
    ///
    /// # Panics
    /// If the config is invalid.
    #[must_use]
    pub fn created_by(creator: Owner, id: SessionId, config: SessionConfig) -> Self {
        Self::inheriting(creator, id, config, 0)
    }

    /// Creates a log of one record, `created`, of a session that cannot start before it has this number of records with
    /// steps of another one. Equal arguments give equal logs.
    ///
    /// # Panics
    /// If the config is invalid.
    #[must_use]
    pub fn inheriting(creator: Owner, id: SessionId, config: SessionConfig, inherits: u64) -> Self {
        let mut log = Self {
            id,
            chain: Chain::start(id),
            records: Vec::new(),
            heads: Vec::new(),
            taken: 0,
            now: FIRST,
        };
        let config = Box::new(if config.name.is_none() { config.name("unnamed") } else { config });
        log.push(SessionEvent::Created { format: FORMAT, config, creator, origin: None, inherits });
        log
    }

    /// Creates a log of one record, `created`, with a default config.
    #[must_use]
    pub fn plain() -> Self {
        Self::new(SessionConfig::new("test").name("plain"))
    }

    /// Reads a log from a storage, checks every checksum and folds every record. All records are treated as taken.
    ///
    /// # Errors
    /// [`InvalidLog`] if the storage does not return a valid log.
    pub async fn read(storage: &dyn SessionStorage, id: SessionId) -> Result<Self, InvalidLog> {
        let records = storage.records_after(id, 0).await.map_err(InvalidLog::Storage)?;
        Self::from_records(id, records)
    }

    /// Creates a log from records, checks every checksum and folds every record. All records are treated as taken.
    ///
    /// # Errors
    /// [`InvalidLog`] if the records are not a valid log.
    pub fn from_records(id: SessionId, records: Vec<StoredRecord>) -> Result<Self, InvalidLog> {
        let (mut chain, mut head, mut heads) = (Chain::start(id), None, Vec::new());
        for record in &records {
            let revision = chain.revision() + 1;
            chain.follow(record).map_err(|_| InvalidLog::BrokenChain(revision))?;
            let record = record.decode().map_err(|error| InvalidLog::Undecodable(revision, error))?;
            Head::fold(&mut head, id, &record).map_err(|rejected| InvalidLog::Illegal(revision, rejected))?;
            heads.extend(head.clone());
        }
        let now = head.ok_or(InvalidLog::Empty)?.updated_at.as_millis();
        Ok(Self { id, chain, taken: records.len(), records, heads, now })
    }

    /// Adds an event, with the attempt that the state machine requires.
    ///
    /// # Panics
    /// If the state machine does not allow the event, or the event exceeds the limits of the format.
    pub fn push(&mut self, event: SessionEvent) -> &mut Self {
        self.now += STEP;
        let head = self.heads.last();
        let unsealed = UnsealedRecord {
            at: Timestamp::from_millis(self.now).expect("the time is in range"),
            attempt: head.map_or(0, |head| head.lifecycle.attempt_for(event.kind())),
            flushed: 0,
            event,
        };
        let (stored, record) = self.chain.seal(unsealed).expect("the event is within the limits");
        let mut head = head.cloned();
        Head::fold(&mut head, self.id, &record).expect("the machine allows the event");
        self.heads.extend(head);
        self.records.push(stored);
        self
    }

    /// Adds `started`, by a new owner.
    pub fn started(&mut self) -> &mut Self {
        self.push(SessionEvent::Started { owner: owner() })
    }

    /// Adds `noted`, with this data.
    pub fn noted(&mut self, data: impl Into<Value>) -> &mut Self {
        self.push(SessionEvent::Noted { kind: "testkit.note".into(), data: data.into() })
    }

    /// Adds `progress_reported`.
    pub fn progress(&mut self, completed: u64, total: u64) -> &mut Self {
        let report = ProgressReport::new().completed_steps(completed).total_steps(total).step("on it");
        self.push(SessionEvent::ProgressReported { report })
    }

    /// Adds a resumable `checkpoint_saved`.
    pub fn checkpoint(&mut self, state: impl Into<Value>) -> &mut Self {
        self.push(SessionEvent::CheckpointSaved { state: state.into(), resumable: true })
    }

    /// Adds the next iteration: `iteration_started` and `iteration_completed`.
    pub fn iteration(&mut self) -> &mut Self {
        let number = self.head().lifecycle.iterations_completed + 1;
        self.push(SessionEvent::IterationStarted { number });
        let changes = Changes::new()
            .file(FileChange::modified(format!("src/{number} é.rs")).lines(2, 3))
            .commit(Commit::new(format!("{number:040x}"), "Do a part of it"));
        self.push(SessionEvent::IterationCompleted { number, changes })
    }

    /// Adds `paused`.
    pub fn paused(&mut self, reason: PauseReason) -> &mut Self {
        self.push(SessionEvent::Paused { reason })
    }

    /// Adds `interrupted`, with the death of the owner as evidence.
    pub fn interrupted(&mut self) -> &mut Self {
        self.push(SessionEvent::Interrupted { evidence: Evidence::LockReleased })
    }

    /// Adds `resumed`, by its owner if it has one, or else by a new one.
    pub fn resumed(&mut self) -> &mut Self {
        let owner = self.head().lifecycle.owner.clone().unwrap_or_else(owner);
        self.push(SessionEvent::Resumed { owner })
    }

    /// Adds `cancel_requested`.
    pub fn cancel_requested(&mut self) -> &mut Self {
        self.push(SessionEvent::CancelRequested {
            reason: "enough".into(),
            by: "testkit".into(),
            force: false,
        })
    }

    /// Adds `completed`.
    pub fn completed(&mut self) -> &mut Self {
        self.push(SessionEvent::Completed { summary: SessionSummary::new().message("done") })
    }

    /// Adds `failed`.
    pub fn failed(&mut self) -> &mut Self {
        self.push(SessionEvent::Failed { error: Failure::new(FailureCause::Work, "it broke") })
    }

    /// Adds `cancelled`.
    pub fn cancelled(&mut self) -> &mut Self {
        self.push(SessionEvent::Cancelled { reason: "enough".into() })
    }

    /// Adds a note, unless the session has ended.
    pub fn grow(&mut self, data: impl Into<Value>) -> &mut Self {
        if self.head().state().is_final() { self } else { self.noted(data) }
    }

    /// Returns the session's id.
    #[must_use]
    pub const fn id(&self) -> SessionId {
        self.id
    }

    /// Returns the head.
    ///
    /// # Panics
    /// Never: a log has a first record.
    #[must_use]
    pub fn head(&self) -> &Head {
        self.heads.last().expect("a log has a first record")
    }

    /// Returns the head after a revision; `None` if there is no such revision.
    #[must_use]
    pub fn head_at(&self, revision: u64) -> Option<&Head> {
        self.heads.get(usize::try_from(revision.checked_sub(1)?).ok()?)
    }

    /// Returns the tip.
    #[must_use]
    pub fn tip(&self) -> Tip {
        self.head().tip
    }

    /// Returns the number of records.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.tip().revision
    }

    /// Returns all records.
    #[must_use]
    pub fn records(&self) -> &[StoredRecord] {
        &self.records
    }

    /// Returns the lines of all records, without line feeds.
    #[must_use]
    pub fn lines(&self) -> Vec<Arc<str>> {
        self.records.iter().map(|record| record.line().into()).collect()
    }

    /// Returns a copy of the log up to a revision. All records are treated as taken.
    ///
    /// # Panics
    /// If there is no such revision.
    #[must_use]
    pub fn up_to(&self, revision: u64) -> Self {
        let len = usize::try_from(revision).unwrap_or(usize::MAX);
        let records = self.records.get(..len).expect("the log is that long").to_vec();
        Self::from_records(self.id, records).expect("a prefix of a log is a log")
    }

    /// Returns the records pushed since the last call as one step; an empty batch if there are none.
    pub fn take(&mut self) -> Step {
        let step = self.step(self.taken, self.records.len());
        self.taken = self.records.len();
        step
    }

    /// Returns the records pushed since the last call as one step each.
    pub fn take_each(&mut self) -> Vec<Step> {
        let steps = (self.taken..self.records.len()).map(|at| self.step(at, at + 1)).collect();
        self.taken = self.records.len();
        steps
    }

    /// Returns all records as one step, taken or not.
    #[must_use]
    pub fn whole(&self) -> Step {
        self.step(0, self.records.len())
    }

    /// Returns the records after a revision as one step, taken or not.
    #[must_use]
    pub fn after(&self, revision: u64) -> Step {
        self.step(usize::try_from(revision).unwrap_or(usize::MAX), self.records.len())
    }

    /// Returns the records with the revisions `from + 1` to `to` as a step.
    fn step(&self, from: usize, to: usize) -> Step {
        let tip = from.checked_sub(1).and_then(|at| self.records.get(at)).map(StoredRecord::tip);
        let records = self.records.get(from..to).unwrap_or_default().to_vec();
        let head = to.checked_sub(1).and_then(|at| self.heads.get(at));
        let batch = match head {
            Some(head) if !records.is_empty() => Batch::new(records, head.clone()),
            _ => Batch::empty(),
        };
        Step { id: self.id, expected: tip.map_or(Expected::Absent, Expected::At), batch }
    }
}
