//! Logs for storage tests, sealed like those of the core.

use session_core::backend::{Batch, Chain, Expected, FORMAT, SessionStorage, Tip, UnsealedRecord};
use session_core::{
    Durability, Head, Owner, ProgressReport, SessionConfig, SessionEvent, SessionId, SessionSummary,
    StorageError, StoredRecord, Timestamp,
};

/// A log that is being written, with all its records.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    pub(crate) id: SessionId,
    pub(crate) chain: Chain,
    pub(crate) head: Option<Head>,
    pub(crate) records: Vec<StoredRecord>,
    pub(crate) flushed: u64,
}

impl Log {
    pub(crate) fn new() -> Self {
        Self::of(SessionId::random())
    }

    pub(crate) fn of(id: SessionId) -> Self {
        Self { id, chain: Chain::start(id), head: None, records: Vec::new(), flushed: 0 }
    }

    /// Seals the next records without storing them.
    pub(crate) fn seal(&mut self, events: Vec<SessionEvent>) -> Batch {
        let first = self.records.len();
        for event in events {
            let kind = event.kind();
            let attempt = self.head.as_ref().map_or(0, |head| head.lifecycle.attempt_for(kind));
            let at = Timestamp::from_millis(1_700_000_000_000 + i64::try_from(self.records.len()).unwrap())
                .unwrap();
            let draft = UnsealedRecord { at, attempt, flushed: self.flushed, event };
            let (stored, record) = self.chain.seal(draft).unwrap();
            Head::fold(&mut self.head, self.id, &record).unwrap();
            self.records.push(stored);
        }
        Batch::new(self.records[first..].to_vec(), self.head.clone().unwrap())
    }

    pub(crate) fn tip(&self) -> Tip {
        self.chain.tip().unwrap()
    }

    pub(crate) fn expected(&self) -> Expected {
        self.chain.tip().map_or(Expected::Absent, Expected::At)
    }

    /// Seals and stores the next records.
    pub(crate) async fn append(
        &mut self,
        storage: &dyn SessionStorage,
        durability: Durability,
        events: Vec<SessionEvent>,
    ) -> Result<Tip, StorageError> {
        let expected = self.expected();
        let before = self.clone();
        let batch = self.seal(events);
        match storage.append(self.id, expected, batch, durability).await {
            Ok(tip) => {
                assert_eq!(tip, self.tip());
                if durability == Durability::Flushed {
                    self.flushed = tip.revision;
                }
                Ok(tip)
            }
            Err(error) => {
                *self = before;
                Err(error)
            }
        }
    }

    /// Stores a started session in one batch.
    pub(crate) async fn started(storage: &dyn SessionStorage) -> Self {
        let mut log = Self::new();
        log.append(storage, Durability::Flushed, vec![created(), started()]).await.unwrap();
        log
    }
}

pub(crate) fn owner() -> Owner {
    Owner::new("host".into(), "machine".into(), "boot".into(), 4711, 1)
}

pub(crate) fn created() -> SessionEvent {
    SessionEvent::Created {
        format: FORMAT,
        config: Box::new(SessionConfig::new("test").name("a name")),
        creator: owner(),
        origin: None,
        inherits: 0,
    }
}

pub(crate) fn started() -> SessionEvent {
    SessionEvent::Started { owner: owner() }
}

pub(crate) fn progress(percent: u32) -> SessionEvent {
    SessionEvent::ProgressReported { report: ProgressReport::new().percent(f64::from(percent % 101)) }
}

pub(crate) fn completed() -> SessionEvent {
    SessionEvent::Completed { summary: SessionSummary::default() }
}
