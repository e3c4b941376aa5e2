//! The disk calls of an append, counted: the numbers do not depend on the machine or on the length of the log.

#![cfg(feature = "fault-disk")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "in a test, a missing value is a failure")]

mod support;

use std::num::NonZeroUsize;
use std::sync::Arc;

use session_core::backend::{Batch, Expected, SessionStorage as _, SessionStorageExt as _};
use session_core::{Durability, StorageError};
use session_storage_file::fault::{Call, Effect, Fault, FaultDisk};
use session_storage_file::{FileStorage, FileStorageOptions};
use support::{Log, completed, progress};

/// The lengths of the logs before the measured append.
const HISTORIES: [usize; 3] = [2, 200, 20_000];

fn open(disk: &FaultDisk) -> FileStorage {
    let options = FileStorageOptions::new("/store").without_threads();
    FileStorage::with_disk(Arc::new(disk.clone()), options).unwrap()
}

/// Stores a session with this many flushed records, the last in an append of its own.
async fn grown(storage: &FileStorage, records: usize) -> Log {
    let mut log = Log::started(storage).await;
    while log.records.len() < records {
        let batch = (records - log.records.len()).min(1000);
        log.append(storage, Durability::Flushed, vec![progress(1); batch]).await.unwrap();
    }
    log.append(storage, Durability::Flushed, vec![progress(2)]).await.unwrap();
    log
}

/// A call of the disk, parsed from its trace.
#[derive(Debug, Clone, PartialEq, Eq)]
struct CallRecord {
    call: String,
    file: String,
    /// The number of bytes that a read or write transfers.
    bytes: usize,
}

/// Returns the disk calls of an operation.
async fn record_calls<T>(disk: &FaultDisk, work: impl Future<Output = T>) -> Vec<CallRecord> {
    disk.start_trace();
    work.await;
    disk.trace_lines().iter().map(|line| parse_call(line)).collect()
}

/// Parses `7: process 0: WriteAt /store/x/events.jsonl 139 at 1789 None`.
fn parse_call(line: &str) -> CallRecord {
    let mut words = line.split_whitespace().skip(3);
    let (call, path) = (words.next().unwrap(), words.next().unwrap_or_default());
    let file = path.rsplit('/').next().unwrap().to_owned();
    let bytes = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
    CallRecord { call: call.to_owned(), file, bytes }
}

fn count(calls: &[CallRecord], name: &str, file: &str) -> usize {
    calls.iter().filter(|call| call.call == name && call.file == file).count()
}

/// Checks the costs of an append to a session that this process has written before.
fn assert_lean(calls: &[CallRecord], lines: usize) {
    let written = calls.iter().find(|call| call.call == "WriteAt" && call.file == "events.jsonl");
    assert_eq!(written.map(|call| call.bytes), Some(lines), "the lines, and nothing else: {calls:#?}");
    assert_eq!(count(calls, "WriteAt", "events.jsonl"), 1, "the lines are written once: {calls:#?}");
    assert!(count(calls, "WriteAt", "head.json") <= 2, "at most two slots: {calls:#?}");
    for call in calls {
        let known = ["TryLock", "Unlock", "ReadAt", "Kind", "Len", "WriteAt", "Sync"];
        assert!(known.contains(&call.call.as_str()), "nothing is opened, renamed or created: {call:?}");
        assert!(
            call.call != "ReadAt" || call.bytes <= 64,
            "only the ends that reveal other writers are read: {call:?}"
        );
    }
}

fn length(log: &Log, records: usize) -> usize {
    log.records.iter().rev().take(records).map(|record| record.line().len() + 1).sum()
}

#[tokio::test]
async fn a_flushed_append_costs_one_flush_for_any_log_length() {
    let mut all = Vec::new();
    for history in HISTORIES {
        let disk = FaultDisk::new();
        let storage = open(&disk);
        let mut log = grown(&storage, history).await;
        let calls = record_calls(&disk, log.append(&storage, Durability::Flushed, vec![progress(3)])).await;
        assert_lean(&calls, length(&log, 1));
        assert_eq!(count(&calls, "Sync", "events.jsonl"), 1, "{calls:#?}");
        assert_eq!(calls.iter().filter(|call| call.call == "Sync").count(), 1, "{calls:#?}");
        // The slot that announces the flush has no head: the slot before it has one.
        let slots: Vec<_> =
            calls.iter().filter(|call| call.file == "head.json" && call.call == "WriteAt").collect();
        assert!(slots[0].bytes < 400 && slots[1].bytes > 400, "{slots:?}");
        // Byte counts grow with the digits of the numbers; the calls stay the same.
        all.push(calls.into_iter().map(|call| (call.call, call.file)).collect::<Vec<_>>());
    }
    all.dedup();
    assert_eq!(all.len(), 1, "the calls depend on the history: {all:#?}");
}

#[tokio::test]
async fn a_buffered_append_flushes_nothing_for_any_log_length() {
    let mut all = Vec::new();
    for history in HISTORIES {
        let disk = FaultDisk::new();
        let storage = open(&disk);
        let mut log = grown(&storage, history).await;
        let calls = record_calls(&disk, log.append(&storage, Durability::Buffered, vec![progress(3)])).await;
        assert_lean(&calls, length(&log, 1));
        assert!(calls.iter().all(|call| call.call != "Sync"), "{calls:#?}");
        all.push(calls.into_iter().map(|call| (call.call, call.file)).collect::<Vec<_>>());
    }
    all.dedup();
    assert_eq!(all.len(), 1, "the calls depend on the history: {all:#?}");
}

/// A session whose files were closed to make room for others is reopened but not read again: the cached state
/// of its log is still valid.
#[tokio::test]
async fn an_evicted_session_is_not_read_again() {
    for history in HISTORIES {
        let disk = FaultDisk::new();
        let one = FileStorageOptions::new("/store").without_threads().open_sessions(NonZeroUsize::MIN);
        let storage = FileStorage::with_disk(Arc::new(disk.clone()), one).unwrap();
        let mut log = grown(&storage, history).await;
        let mut other = grown(&storage, 10).await;
        for _ in 0..3 {
            let calls =
                record_calls(&disk, log.append(&storage, Durability::Flushed, vec![progress(3)])).await;
            assert_eq!(calls.iter().filter(|call| call.call == "Open").count(), 3, "{calls:#?}");
            assert_eq!(count(&calls, "WriteAt", "events.jsonl"), 1, "{calls:#?}");
            assert!(calls.iter().all(|call| call.call != "ReadAt" || call.bytes <= 64), "{calls:#?}");
            other.append(&storage, Durability::Flushed, vec![progress(4)]).await.unwrap();
        }
        // A concurrent append of another process is detected.
        let elsewhere = open(&disk.process());
        let before = log.clone();
        log.append(&elsewhere, Durability::Flushed, vec![progress(5)]).await.unwrap();
        let mut stale = before;
        let refused = stale.append(&storage, Durability::Flushed, vec![progress(6)]).await.unwrap_err();
        assert!(matches!(refused, StorageError::Conflict { actual: Some(tip), .. } if tip == log.tip()));
        log.append(&storage, Durability::Flushed, vec![progress(7)]).await.unwrap();
        assert_eq!(storage.records_after(log.id, 0).await.unwrap(), log.records);
    }
}

#[tokio::test]
async fn a_batch_costs_what_one_record_costs() {
    let disk = FaultDisk::new();
    let storage = open(&disk);
    let mut log = grown(&storage, 10).await;
    let calls = record_calls(&disk, log.append(&storage, Durability::Flushed, vec![progress(3); 100])).await;
    assert_lean(&calls, length(&log, 100));
    assert_eq!(calls.iter().filter(|call| call.call == "Sync").count(), 1, "{calls:#?}");
}

#[tokio::test]
async fn one_flush_covers_all_buffered_records() {
    let disk = FaultDisk::new();
    let storage = open(&disk);
    let mut log = grown(&storage, 10).await;
    for percent in 3..50 {
        log.append(&storage, Durability::Buffered, vec![progress(percent)]).await.unwrap();
    }
    let flush = || storage.append(log.id, Expected::At(log.tip()), Batch::empty(), Durability::Flushed);
    let calls = record_calls(&disk, flush()).await;
    assert_eq!(calls.iter().filter(|call| call.call == "Sync").count(), 1, "{calls:#?}");
    assert_eq!(count(&calls, "WriteAt", "events.jsonl"), 0, "{calls:#?}");
    // A log that is already flushed is not flushed again.
    let calls = record_calls(&disk, flush()).await;
    assert!(calls.iter().all(|call| !["Sync", "WriteAt"].contains(&call.call.as_str())), "{calls:#?}");
}

#[tokio::test]
async fn the_final_append_flushes_once_and_removes_the_marker() {
    let disk = FaultDisk::new();
    let storage = open(&disk);
    let mut log = grown(&storage, 10).await;
    let id = log.id.to_string();
    let calls = record_calls(&disk, log.append(&storage, Durability::Flushed, vec![completed()])).await;
    assert_eq!(calls.iter().filter(|call| call.call == "Sync").count(), 1, "{calls:#?}");
    assert_eq!(count(&calls, "WriteAt", "events.jsonl"), 1, "{calls:#?}");
    assert_eq!(count(&calls, "RemoveFile", &id), 1, "{calls:#?}");
}

/// The slot that announces a flush has no head; the slot before it, read in the same call, has one.
#[tokio::test]
async fn a_head_read_reads_the_slots_once_even_during_a_flush() {
    let disk = FaultDisk::new();
    let writer = disk.process();
    let storage = open(&writer);
    let mut log = grown(&storage, 10).await;
    let check = |disk: FaultDisk, id| async move {
        let reader = open(&disk);
        let calls = record_calls(&disk, async { assert!(reader.head(id).await.unwrap().is_some()) }).await;
        assert_eq!(count(&calls, "ReadAt", "head.json"), 1, "{calls:#?}");
    };
    check(disk.process(), log.id).await;
    writer.inject(Fault::nth(0, Effect::Death).on(Call::Sync));
    log.append(&storage, Durability::Flushed, vec![progress(3)]).await.unwrap_err();
    assert!(writer.is_dead());
    check(disk.process(), log.id).await;
}
