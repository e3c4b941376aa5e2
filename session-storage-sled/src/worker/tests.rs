//! Flushes that fail, panics of sled's and hangs: what whoever waits is told, and what comes after.

use std::future::Future as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use session_core::{
    Batch, Condition, Durability, ErrorCode, Expected, SessionFilter, SessionStorage as _,
    SessionStorageExt as _, StorageError, StorageMaintenance as _,
};

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

/// Nothing is done with a store that is closed, whoever asks.
async fn is_closed(storage: &SledStorage, log: &Log) {
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

/// What is there is a prefix of what was sent, with all that was acknowledged, and can be written.
async fn goes_on(storage: &SledStorage, acknowledged: &Log, sent: &Log) {
    let (records, end) = read(storage, sent.id).await;
    end.unwrap();
    assert!(records.starts_with(&acknowledged.records) && sent.records.starts_with(&records), "{records:?}");
    assert_eq!(storage.verify(sent.id).await.unwrap().condition, Condition::Healthy);
    let mut log = Log::of(storage.head(sent.id).await.unwrap().unwrap());
    log.next(storage, Durability::Flushed, "goes on").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_flush_that_failed_the_store_is_closed_and_made_anew_when_it_is_opened_again() {
    for by_another in [false, true] {
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
            let batch = sent.seal(vec![logs::note("on its way")]);
            let error = storage.append(sent.id, expected, batch, Durability::Flushed).await.unwrap_err();
            assert_eq!(error.code(), ErrorCode::OutcomeUnknown, "{error}");
            is_closed(&storage, &acknowledged).await;
            assert!(before.is_some());
            let inode = || std::fs::metadata(folder.path().join("db/db")).unwrap().ino();
            let file = inode();
            // The handle that failed may be there still, or not.
            let kept = by_another.then_some(storage);
            let storage = open(folder.path());
            assert_ne!(inode(), file, "nothing is acknowledged on top of the file whose flush failed");
            goes_on(&storage, &acknowledged, &sent).await;
            goes_on(&storage, &other, &other).await;
            if let Some(kept) = kept {
                is_closed(&kept, &acknowledged).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creation_whose_flush_failed_is_there_or_can_be_made_again() {
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
async fn a_panic_closes_the_store_and_not_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(folder.path());
    let acknowledged = Log::stored(&storage, 3).await;
    let mut sent = acknowledged.clone();
    storage.set_flush_hook(|| panic!("as sled might")).await;
    let (expected, batch) = (sent.expected(), sent.seal(vec![logs::note("on its way")]));
    let error = storage.append(sent.id, expected, batch, Durability::Flushed).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::OutcomeUnknown, "{error}");
    is_closed(&storage, &acknowledged).await;
    goes_on(&open(folder.path()), &acknowledged, &sent).await;
}

/// sled can wait for ever for a thread of its own that has ended.
#[tokio::test(flavor = "multi_thread")]
async fn a_hang_is_an_error_and_the_store_stays_with_whoever_hangs() {
    let folder = tempfile::tempdir().unwrap();
    let options = SledStorageOptions::new(folder.path()).engine_timeout(Duration::from_secs(2));
    let storage = SledStorage::open(options).unwrap();
    let acknowledged = Log::stored(&storage, 3).await;
    let (let_go, hangs) = channel::<()>();
    storage
        .set_flush_hook(move || {
            let _ = hangs.recv();
            Ok(())
        })
        .await;
    let mut sent = acknowledged.clone();
    let (expected, batch) = (sent.expected(), sent.seal(vec![logs::note("on its way")]));
    let began = Instant::now();
    let error = storage.append(sent.id, expected, batch, Durability::Flushed).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::OutcomeUnknown, "{error}");
    assert!(began.elapsed() < Duration::from_secs(20));
    is_closed(&storage, &acknowledged).await;
    let again = || SledStorage::open(SledStorageOptions::new(folder.path()).lock_timeout(Duration::ZERO));
    let error = again().unwrap_err();
    assert_eq!(error.code(), ErrorCode::StorageUnavailable, "{error}");
    assert!(error.to_string().contains(&format!("this process (pid {})", std::process::id())), "{error}");
    // Once it comes to its end after all, the store is free.
    drop(let_go);
    goes_on(&open(folder.path()), &acknowledged, &sent).await;
}

/// What has queued up while a flush was on its way shares the next one. The marks tell: each has the change that it was
/// flushed with.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_append_at_once_share_a_flush() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(folder.path());
    let mut logs = Vec::new();
    for _ in 0..32 {
        logs.push(Log::stored(&storage, 1).await);
    }
    let (let_go, hangs) = channel::<()>();
    storage
        .set_flush_hook(move || {
            let _ = hangs.recv();
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
            Box::pin(async move { log.next(&storage, Durability::Flushed, "at once").await })
        })
        .collect();
    std::future::poll_fn(|cx| {
        for append in &mut appends {
            assert!(append.as_mut().poll(cx).is_pending());
        }
        std::task::Poll::Ready(())
    })
    .await;
    drop(let_go);
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

/// Whoever appends to other sessions shares the fate of the one whose flush failed: it was their flush too.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_answered_well_by_a_flush_that_failed() {
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
            tokio::spawn(async move { log.next(&storage, Durability::Flushed, "at once").await })
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
