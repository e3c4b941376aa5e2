//! Logs to store, sealed and folded like the core does it.

use std::num::NonZeroUsize;

use serde_json::json;
use session_core::backend::{Batch, Chain, Expected, FORMAT, SessionStorage, Tip, UnsealedRecord};
use session_core::{
    Durability, Head, Owner, SessionConfig, SessionEvent, SessionId, StorageError, StoredRecord, Timestamp,
};

/// A log under construction, with all its records.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    pub(crate) id: SessionId,
    head: Option<Head>,
    pub(crate) records: Vec<StoredRecord>,
}

impl Log {
    pub(crate) fn new() -> Self {
        Self { id: SessionId::random(), head: None, records: Vec::new() }
    }

    /// Continues an existing log from its head; the earlier records are not in `records`.
    pub(crate) fn of(head: Head) -> Self {
        Self { id: head.id, head: Some(head), records: Vec::new() }
    }

    /// Stores a new log of this many records.
    pub(crate) async fn stored(storage: &dyn SessionStorage, records: usize) -> Self {
        let mut log = Self::new();
        for n in 0..records {
            log.next(storage, Durability::Flushed, n).await.unwrap();
        }
        log
    }

    pub(crate) fn tip(&self) -> Option<Tip> {
        self.head.as_ref().map(|head| head.tip)
    }

    pub(crate) fn revision(&self) -> u64 {
        self.tip().map_or(0, |tip| tip.revision)
    }

    pub(crate) fn expected(&self) -> Expected {
        self.tip().map_or(Expected::Absent, Expected::At)
    }

    /// Seals the next records without storing them.
    pub(crate) fn seal(&mut self, events: Vec<SessionEvent>) -> Batch {
        let mut chain = self.tip().map_or(Chain::start(self.id), |tip| Chain::at(self.id, tip));
        let mut records = Vec::new();
        for event in events {
            let attempt = self.head.as_ref().map_or(0, |head| head.lifecycle.attempt_for(event.kind()));
            let at =
                Timestamp::from_millis(1_700_000_000_000 + i64::try_from(chain.revision()).unwrap()).unwrap();
            let (stored, record) = chain.seal(UnsealedRecord { at, attempt, flushed: 0, event }).unwrap();
            Head::fold(&mut self.head, self.id, &record).unwrap();
            records.push(stored);
        }
        self.records.extend_from_slice(&records);
        Batch::new(records, self.head.clone().unwrap())
    }

    pub(crate) async fn append(
        &mut self,
        storage: &dyn SessionStorage,
        durability: Durability,
        events: Vec<SessionEvent>,
    ) -> Result<Tip, StorageError> {
        let (before, expected) = (self.clone(), self.expected());
        let batch = self.seal(events);
        let appended = storage.append(self.id, expected, batch, durability).await;
        if appended.is_err() {
            *self = before;
        }
        appended
    }

    /// Stores the next record: first the creation of the session, then notes.
    pub(crate) async fn next(
        &mut self,
        storage: &dyn SessionStorage,
        durability: Durability,
        data: impl serde::Serialize,
    ) -> Result<Tip, StorageError> {
        let event = if self.head.is_none() { created() } else { note(data) };
        self.append(storage, durability, vec![event]).await
    }
}

pub(crate) fn owner() -> Owner {
    Owner::new("host".into(), "machine".into(), "boot".into(), 4711, 1)
}

pub(crate) fn created() -> SessionEvent {
    let config = Box::new(SessionConfig::new("test").name("a name"));
    SessionEvent::Created { format: FORMAT, config, creator: owner(), origin: None, inherits: 0 }
}

pub(crate) fn started() -> SessionEvent {
    SessionEvent::Started { owner: owner() }
}

pub(crate) fn note(data: impl serde::Serialize) -> SessionEvent {
    SessionEvent::Noted { kind: "test.note".to_owned(), data: json!(data) }
}

/// Reads all records of a session, up to the end or an error.
pub(crate) async fn read(
    storage: &dyn SessionStorage,
    id: SessionId,
) -> (Vec<StoredRecord>, Result<(), StorageError>) {
    let mut records: Vec<StoredRecord> = Vec::new();
    loop {
        let after = records.last().map_or(0, StoredRecord::revision);
        match storage.records(id, after, const { NonZeroUsize::new(100).unwrap() }).await {
            Ok(page) if page.records.is_empty() => return (records, Ok(())),
            Ok(page) => records.extend(page.records),
            Err(error) => return (records, Err(error)),
        }
    }
}

/// Random numbers from a seed (`SplitMix64`, Steele, Lea and Flood 2014).
#[derive(Debug, Clone)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

/// Reads a number from the environment.
pub(crate) fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap())
}
