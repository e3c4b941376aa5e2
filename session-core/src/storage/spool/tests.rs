//! Logs of all sizes are read as they were added.

use super::*;
use crate::Head;
use crate::backend::{
    Batch, CheckedLog, Expected, MemoryStorage, SessionStorage as _, SessionStorageExt as _,
};
use crate::record::{Chain, Record, UnsealedRecord};
use crate::{Owner, SessionConfig, SessionEvent, SessionId, Timestamp};

/// The lines of a log with this many notes of this length, after record 1.
fn lines(id: SessionId, notes: usize, length: usize) -> Vec<String> {
    let creator = Owner::new("host".into(), "machine".into(), "boot".into(), 1, 1);
    let config = Box::new(SessionConfig::new("test").name("spooled"));
    let created =
        SessionEvent::Created { format: crate::event::FORMAT, config, creator, origin: None, inherits: 0 };
    let event = SessionEvent::Noted { kind: "test.note".into(), data: "x".repeat(length).into() };
    let (mut chain, mut head) = (Chain::start(id), None::<Head>);
    std::iter::once(created)
        .chain(std::iter::repeat_n(event, notes))
        .map(|event| {
            let attempt = head.as_ref().map_or(0, |head| head.lifecycle.attempt_for(event.kind()));
            let at = Timestamp::from_millis(1_795_253_400_123).unwrap();
            let (stored, record): (StoredRecord, Record) =
                chain.seal(UnsealedRecord { at, attempt, flushed: 0, event }).unwrap();
            Head::fold(&mut head, id, &record).unwrap();
            stored.line().to_owned()
        })
        .collect()
}

fn batch_of(lines: &[String], id: SessionId) -> Batch {
    let mut head = None;
    let (mut chain, mut spool) = (Chain::start(id), Spool::default());
    for line in lines {
        let record = chain.check(line.as_bytes()).unwrap();
        Head::fold(&mut head, id, &record.decode().unwrap()).unwrap();
        spool.add(record).unwrap();
    }
    match spool.finish().unwrap() {
        CompleteLog::Memory(records) => Batch::new(records, head.unwrap()),
        CompleteLog::File(lines) => Batch::spooled(lines, head.unwrap()),
    }
}

#[test]
fn a_long_log_is_spooled_and_read_as_it_was_added() {
    let id = SessionId::random();
    for (notes, length) in [(3, 10), (12, 100_000), (4, 500_000), (3000, 500)] {
        let lines = lines(id, notes, length);
        let batch = batch_of(&lines, id);
        for _ in 0..2 {
            let read = batch.records().map(|record| record.unwrap().line().to_owned()).collect::<Vec<_>>();
            assert!(read == lines, "{notes} notes of {length}");
        }
        assert_eq!(batch.bytes(), lines.iter().map(|line| line.len() as u64 + 1).sum::<u64>());
        assert_eq!((batch.len(), batch.is_empty()), (lines.len() as u64, false));
        assert_eq!(batch.load().unwrap().last().unwrap().tip(), batch.head().unwrap().tip);
        assert!(batch.fits(Expected::Absent));
        assert!(!batch.fits(Expected::At(batch.head().unwrap().tip)));
    }
}

#[test]
fn a_spooled_log_is_not_held_in_memory() {
    let id = SessionId::random();
    let mut spool = Spool::default();
    let mut chain = Chain::start(id);
    for line in lines(id, 4, 500_000) {
        spool.add(chain.check(line.as_bytes()).unwrap()).unwrap();
    }
    assert!(matches!(spool, Spool::File { .. }), "{spool:?}");
}

#[tokio::test]
async fn the_memory_storage_stores_a_spooled_log() {
    let (id, storage) = (SessionId::random(), MemoryStorage::new());
    let lines = lines(id, 4, 500_000);
    let mut log = CheckedLog::new(id);
    for line in &lines {
        log.add(line.as_bytes()).unwrap();
    }
    let tip = log.tip().unwrap();
    storage.import_log(log).await.unwrap();
    let read = storage.records_after(id, 0).await.unwrap();
    assert!(read.iter().map(StoredRecord::line).eq(lines.iter().map(String::as_str)));
    assert_eq!(storage.head(id).await.unwrap().unwrap().tip, tip);
}
