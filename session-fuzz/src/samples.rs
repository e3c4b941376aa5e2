//! Sample sessions whose every byte is known: their logs, and the disks that they are stored on.

mod events;
mod scripts;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use session_core::backend::{Batch, Chain, Expected, SessionStorage as _, UnsealedRecord};
use session_core::{Durability, Head, SessionEvent, SessionId, StoredRecord, Timestamp};
use session_storage_file::fault::{Content, FaultDisk, Moment};
use session_storage_file::{FileStorage, FileStorageOptions};

use self::events::created;
pub(crate) use self::events::note;
use self::scripts::Script;
use crate::wait;

/// The path of the store.
const ROOT: &str = "/store";

/// A session's log, and a disk that contains it and another session, on a machine that has not rebooted.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) id: SessionId,
    pub(crate) records: Vec<StoredRecord>,
    /// The head after each record.
    pub(crate) heads: Vec<Head>,
    /// The number of records known to be flushed.
    pub(crate) flushed: usize,
    pub(crate) disk: Moment,
    pub(crate) bystander: SessionId,
}

/// Returns all samples.
pub(crate) fn all() -> &'static [Sample] {
    static SAMPLES: OnceLock<Vec<Sample>> = OnceLock::new();
    SAMPLES.get_or_init(|| (0..scripts::all().len()).map(Sample::build).collect())
}

/// Returns the sample that a byte selects.
pub(crate) fn select(byte: u8) -> &'static Sample {
    let all = all();
    &all[usize::from(byte) % all.len()]
}

impl Sample {
    fn build(number: usize) -> Self {
        let disk = FaultDisk::new();
        let storage = open(&disk);
        let bystander = SessionId::from_key("fuzz-bystander");
        write(&storage, bystander, vec![(vec![created("bystander")], Durability::Flushed)]);
        let id = SessionId::from_key(&format!("fuzz-{number}"));
        let (records, heads, flushed) = write(&storage, id, scripts::all().swap_remove(number));
        drop(storage);
        Self { id, records, heads, flushed, disk: disk.now(), bystander }
    }

    /// Returns the bytes of its log.
    pub(crate) fn log(&self) -> Vec<u8> {
        self.records.iter().flat_map(|record| [record.line().as_bytes(), b"\n"]).flatten().copied().collect()
    }

    /// Returns the bytes of its slots.
    pub(crate) fn slots(&self) -> Vec<u8> {
        match self.disk.kill().tree().remove(&self.path("head.json")) {
            Some(Content::File(bytes)) => bytes.to_vec(),
            other => panic!("the slots are {other:?}"),
        }
    }

    /// Returns the path of one of its files.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(ROOT).join(format!("sessions/{}/{name}", self.id))
    }
}

/// Opens the store on a disk.
pub(crate) fn open(disk: &FaultDisk) -> FileStorage {
    let options = FileStorageOptions::new(ROOT).without_threads();
    FileStorage::with_disk(Arc::new(disk.clone()), options).expect("the store itself is intact")
}

/// Seals the next records of a log.
pub(crate) fn seal(id: SessionId, before: Option<&Head>, flushed: usize, events: Vec<SessionEvent>) -> Batch {
    let mut chain = before.map_or(Chain::start(id), |head| Chain::at(id, head.tip));
    let mut head = before.cloned();
    let mut records = Vec::new();
    for event in events {
        let revision = chain.revision();
        let at = Timestamp::from_millis(1_795_253_400_000 + i64::try_from(revision).unwrap()).unwrap();
        let attempt = head.as_ref().map_or(0, |head| head.lifecycle.attempt_for(event.kind()));
        let unsealed = UnsealedRecord { at, attempt, flushed: revision.min(flushed as u64), event };
        let (stored, record) = chain.seal(unsealed).expect("the event is within the limits");
        Head::fold(&mut head, id, &record).expect("the state machine allows the event");
        records.push(stored);
    }
    Batch::new(records, head.expect("there are events"))
}

fn write(storage: &FileStorage, id: SessionId, script: Script) -> (Vec<StoredRecord>, Vec<Head>, usize) {
    let (mut records, mut heads, mut flushed) = (Vec::new(), Vec::<Head>::new(), 0);
    for (events, durability) in script {
        // Sealed one at a time, to get the head after each.
        let before = heads.last().map_or(Expected::Absent, |head| Expected::At(head.tip));
        let mut batch = Vec::new();
        for event in events {
            let next = seal(id, heads.last(), flushed, vec![event]);
            batch.extend(next.load().expect("it is in memory"));
            heads.extend(next.head().cloned());
        }
        records.extend_from_slice(&batch);
        let batch = Batch::new(batch, heads.last().expect("a script begins with an event").clone());
        wait(storage.append(id, before, batch, durability)).expect("the disk does not fail");
        if durability == Durability::Flushed {
            flushed = records.len();
        }
    }
    (records, heads, flushed)
}
