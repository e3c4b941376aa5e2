//! Failed flushes, panics and hang of sled: the errors of waiting callers, and the state after reopening.

use std::future::Future as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use session_core::backend::{Batch, Expected, SessionStorage as _, SessionStorageExt as _};
use session_core::maintenance::{Condition, StorageMaintenance as _};
use session_core::{Durability, ErrorCode, SessionFilter, StorageError};

use crate::{SledStorage, SledStorageOptions};

#[path = "../../tests/common/logs.rs"]
#[expect(dead_code, reason = "other tests need more of it")]
mod logs;

use logs::{Log, read};

fn open(path: &Path) -> SledStorage {
    SledStorage::open(SledStorageOptions::new(path).lock_timeout(Duration::from_secs(30))).unwrap()
}

fn code<T: std::fmt::Debug>(result: Result<T, StorageError>) -> ErrorCode {
    result.unwrap_err().code()
}

/// Checks that every request to a closed store fails.
async fn assert_closed(storage: &SledStorage, log: &Log) {
    let mut log = log.clone();
    for durability in [Durability::Buffered, Durability::Flushed] {
        assert_eq!(code(log.next(storage, durability, "more").await), ErrorCode::Closed);
    }
    let flush = storage.append(log.id, log.expected(), Batch::empty(), Durability::Flushed).await;
    assert_eq!(code(flush), ErrorCode::Closed);
    assert_eq!(code(storage.head(log.id).await), ErrorCode::Closed);
    assert_eq!(code(storage.list_all(&SessionFilter::all()).await), ErrorCode::Closed);
    assert_eq!(code(storage.delete(log.id, log.tip().unwrap()).await), ErrorCode::Closed);
    assert_eq!(code(storage.verify_all().await), ErrorCode::Closed);
    assert_eq!(code(storage.reconcile().await), ErrorCode::Closed);
}

/// Checks that the stored records are a prefix of the sent ones, contain all acknowledged ones, and can be appended to.
async fn assert_recovered(storage: &SledStorage, acknowledged: &Log, sent: &Log) {
    let (records, end) = read(storage, sent.id).await;
    end.unwrap();
    assert!(records.starts_with(&acknowledged.records) && sent.records.starts_with(&records), "{records:?}");
    assert_eq!(storage.verify(sent.id).await.unwrap().condition, Condition::Healthy);
    let mut log = Log::of(storage.head(sent.id).await.unwrap().unwrap());
    log.next(storage, Durability::Flushed, "continued").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_flush_closes_the_store_and_reopening_rewrites_it() {
    for keep_failed_handle in [false, true] {
        for durability in [Durability::Flushed, Durability::Buffered] {
            let folder = tempfile::tempdir().unwrap();
            let storage = open(folder.path());
            let acknowledged = Log::stored(&storage, 3).await;
            let other = Log::stored(&storage, 2).await;
            let mut sent = acknowledged.clone();
            if durability == Durability::Buffered {
                sent.next(&storage, durability, "buffered before").await.unwrap();
            }
            storage.set_flush_hook(|| Err(rustix::io::Errno::IO.into())).await;
            let (before, expected) = (sent.tip(), sent.expected());
            let batch = sent.seal(vec![logs::note("in flight")]);
            let error = storage.append(sent.id, expected, batch, Durability::Flushed).await.unwrap_err();
            assert_eq!(error.code(), ErrorCode::OutcomeUnknown, "{error}");
            assert_closed(&storage, &acknowledged).await;
            assert!(before.is_some());
            let inode = || std::fs::metadata(folder.path().join("db/db")).unwrap().ino();
            let file = inode();
            let kept = keep_failed_handle.then_some(storage);
            let storage = open(folder.path());
            assert_ne!(inode(), file, "the file whose flush failed is not used any more");
            assert_recovered(&storage, &acknowledged, &sent).await;
            assert_recovered(&storage, &other, &other).await;
            if let Some(kept) = kept {
                assert_closed(&kept, &acknowledged).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creation_with_a_failed_flush_is_stored_or_can_be_retried() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(folder.path());
    Log::stored(&storage, 1).await;
    storage.set_flush_hook(|| Err(rustix::io::Errno::NOSPC.into())).await;
    let mut log = Log::new();
    assert_eq!(code(log.next(&storage, Durability::Flushed, 0).await), ErrorCode::OutcomeUnknown);
    let storage = open(folder.path());
    match log.next(&storage, Durability::Flushed, 0).await {
        Ok(_) => {}
        Err(StorageError::Conflict { actual: Some(_), .. }) => {
            assert!(storage.head(log.id).await.unwrap().is_some());
        }
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_of_sled_closes_the_store_but_not_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(folder.path());
    let acknowledged = Log::stored(&storage, 3).await;
    let mut sent = acknowledged.clone();
    storage.set_flush_hook(|| panic!("a panic as of sled")).await;
    let (expected, batch) = (sent.expected(), sent.seal(vec![logs::note("in flight")]));
    let error = storage.append(sent.id, expected, batch, Durability::Flushed).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::OutcomeUnknown, "{error}");
    assert_closed(&storage, &acknowledged).await;
    assert_recovered(&open(folder.path()), &acknowledged, &sent).await;
}

/// sled can wait forever for one of its threads that has ended.
#[tokio::test(flavor = "multi_thread")]
async fn a_hung_engine_reports_closed_and_keeps_its_lock() {
    let folder = tempfile::tempdir().unwrap();
    let options = SledStorageOptions::new(folder.path()).engine_timeout(Duration::from_secs(2));
    let storage = SledStorage::open(options).unwrap();
    let acknowledged = Log::stored(&storage, 3).await;
    let (resume, hang) = channel::<()>();
    storage
        .set_flush_hook(move || {
            let _ = hang.recv();
            Ok(())
        })
        .await;
    let mut sent = acknowledged.clone();
    let (expected, batch) = (sent.expected(), sent.seal(vec![logs::note("in flight")]));
    let began = Instant::now();
    let error = storage.append(sent.id, expected, batch, Durability::Flushed).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::OutcomeUnknown, "{error}");
    assert!(began.elapsed() < Duration::from_secs(20));
    assert_closed(&storage, &acknowledged).await;
    let again = || SledStorage::open(SledStorageOptions::new(folder.path()).lock_timeout(Duration::ZERO));
    let error = again().unwrap_err();
    assert_eq!(error.code(), ErrorCode::StorageUnavailable, "{error}");
    assert!(error.to_string().contains(&format!("this process (pid {})", std::process::id())), "{error}");
    // When the hang ends, the store is released.
    drop(resume);
    assert_recovered(&open(folder.path()), &acknowledged, &sent).await;
}

/// Appends queued during a flush share the next one. The marks show it: each has the change that it was flushed with.
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_appends_to_several_sessions_share_a_flush() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(folder.path());
    let mut logs = Vec::new();
    for _ in 0..32 {
        logs.push(Log::stored(&storage, 1).await);
    }
    let (resume, hang) = channel::<()>();
    storage
        .set_flush_hook(move || {
            let _ = hang.recv();
            Ok(())
        })
        .await;
    let mut first = logs.pop().unwrap();
    let busy = {
        let storage = storage.clone();
        tokio::spawn(async move { first.next(&storage, Durability::Flushed, "first").await })
    };
    while !std::fs::read_to_string(folder.path().join("unclean")).unwrap().starts_with("flushing 1") {
        tokio::task::yield_now().await;
    }
    let mut appends: Vec<_> = logs
        .iter()
        .map(|log| {
            let (mut log, storage) = (log.clone(), storage.clone());
            Box::pin(async move { log.next(&storage, Durability::Flushed, "concurrent").await })
        })
        .collect();
    std::future::poll_fn(|cx| {
        for append in &mut appends {
            assert!(append.as_mut().poll(cx).is_pending());
        }
        std::task::Poll::Ready(())
    })
    .await;
    drop(resume);
    busy.await.unwrap().unwrap();
    for append in appends {
        append.await.unwrap();
    }
    let marks = std::fs::read_to_string(folder.path().join("marks")).unwrap();
    let mut changes: Vec<&str> = logs
        .iter()
        .map(|log| {
            let last = marks.lines().rfind(|line| line.contains(&log.id.to_string())).unwrap();
            last.split(' ').next().unwrap()
        })
        .collect();
    changes.dedup();
    assert_eq!(changes.len(), 1, "{changes:?}");
}

/// After power loss the session would be there again, without its output.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_keeps_its_folder_until_its_deletion_is_flushed() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(folder.path());
    let log = Log::stored(&storage, 2).await;
    let output = storage.sessions_dir().join(log.id.to_string()).join("output");
    std::fs::create_dir_all(&output).unwrap();
    storage.set_flush_hook(|| Err(rustix::io::Errno::IO.into())).await;
    let deleted = storage.delete(log.id, log.tip().unwrap()).await;
    assert_eq!(code(deleted), ErrorCode::OutcomeUnknown);
    assert!(output.exists());
}

/// The next process has to know that what it can read may not be on the disk.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_last_flush_leaves_the_marker() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(folder.path());
    let mut log = Log::stored(&storage, 2).await;
    log.next(&storage, Durability::Buffered, "buffered").await.unwrap();
    storage.set_flush_hook(|| Err(rustix::io::Errno::IO.into())).await;
    drop(storage);
    let marker = std::fs::read_to_string(folder.path().join("unclean")).unwrap();
    assert!(marker.starts_with("flushing 1\n"), "{marker}");
}

/// Appends to several sessions share a flush, and so its failure.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_flush_fails_all_appends_of_its_group() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(folder.path());
    let mut logs = Vec::new();
    for _ in 0..16 {
        logs.push(Log::stored(&storage, 2).await);
    }
    storage.set_flush_hook(|| Err(rustix::io::Errno::IO.into())).await;
    let appends: Vec<_> = logs
        .iter()
        .map(|log| {
            let (storage, mut log) = (storage.clone(), log.clone());
            tokio::spawn(async move { log.next(&storage, Durability::Flushed, "concurrent").await })
        })
        .collect();
    for append in appends {
        let code = code(append.await.unwrap());
        assert!(matches!(code, ErrorCode::OutcomeUnknown | ErrorCode::Closed), "{code:?}");
    }
    let storage = open(folder.path());
    for log in &logs {
        let (records, end) = read(&storage, log.id).await;
        end.unwrap();
        assert!(records.starts_with(&log.records));
        let flush = storage.append(
            log.id,
            Expected::At(records.last().unwrap().tip()),
            Batch::empty(),
            Durability::Flushed,
        );
        flush.await.unwrap();
    }
}

/// A process that died during a long import leaves no session, and what it left is removed when the store is opened.
#[tokio::test]
async fn an_interrupted_import_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(folder.path());
    let other = Log::stored(&storage, 2).await;
    drop(storage);
    let layout = crate::layout::Layout::new(folder.path().to_owned());
    let mut log = Log::new();
    let batch = log.seal(vec![logs::created(), logs::note("never completed")]);
    let left = crate::db::Db::open(&layout.db(), 1 << 20).unwrap();
    let meta = left.meta().unwrap().unwrap();
    let mut change = crate::db::ChangeSet::new(crate::db::Meta { change: meta.change + 1, ..meta });
    change.begin_import(log.id);
    for record in batch.records() {
        let record = record.unwrap();
        change.put_line(log.id, record.revision(), record.line().as_bytes());
    }
    left.apply(change).unwrap();
    left.flush().unwrap();
    drop(left);

    let storage = open(folder.path());
    assert_eq!(storage.head(log.id).await.unwrap(), None);
    assert_eq!(code(storage.records_after(log.id, 0).await), ErrorCode::NotFound);
    let listed = storage.verify_all().await.unwrap().sessions;
    assert_eq!(listed.iter().map(|health| health.id).collect::<Vec<_>>(), [other.id]);
    let tip = batch.head().unwrap().tip;
    let stored = storage.append(log.id, Expected::Absent, batch, Durability::Flushed).await.unwrap();
    assert_eq!(stored, tip);
    drop(storage);
    let left = crate::db::Db::open(&layout.db(), 1 << 20).unwrap();
    assert_eq!(left.imports().count(), 0);
}
