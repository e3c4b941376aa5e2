//! File storage beyond the laws of all backends: accepted paths, rejected files, damage, stuck locks, and
//! leftovers of crashes.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "in a test, a missing value is a failure")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroUsize;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use session_core::backend::{Expected, NameCounter as _, SessionStorage, SessionStorageExt};
use session_core::maintenance::{AcceptedLoss, Condition, StorageMaintenance as _};
use session_core::{Durability, ErrorCode, Evidence, SessionEvent, SessionFilter, SessionId, StorageError};
use session_storage_file::{FileStorage, FileStorageOptions};
use support::{Log, completed, created, progress, started};

fn open(path: &Path) -> FileStorage {
    FileStorage::open(FileStorageOptions::new(path)).unwrap()
}

fn impatient(path: &Path) -> FileStorage {
    FileStorage::open(FileStorageOptions::new(path).lock_timeout(Duration::from_millis(20))).unwrap()
}

fn log_path(store: &Path, id: SessionId) -> PathBuf {
    store.join(format!("sessions/{id}/events.jsonl"))
}

/// Returns everything below a folder, with its content.
fn tree(folder: &Path) -> Vec<(PathBuf, Option<Vec<u8>>)> {
    let mut all = Vec::new();
    let mut todo = vec![folder.to_owned()];
    while let Some(path) = todo.pop() {
        for entry in fs::read_dir(&path).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.is_symlink() {
                todo.push(path.clone());
                all.push((path, None));
            } else {
                all.push((path.clone(), fs::read(&path).ok()));
            }
        }
    }
    all.sort();
    all
}

#[tokio::test]
async fn appends_are_visible_to_other_handles() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/b/store");
    let storage = open(&path);
    assert!(storage.list_all(&SessionFilter::all()).await.unwrap().heads.is_empty());
    assert_eq!(storage.head(SessionId::random()).await.unwrap(), None);
    assert!(!folder.path().join("a").exists(), "reading created something");

    let mut log = Log::started(&storage).await;
    for percent in 0..100 {
        log.append(&storage, Durability::Buffered, vec![progress(percent)]).await.unwrap();
    }
    let other = open(&path);
    assert_eq!(other.head(log.id).await.unwrap(), log.head);
    assert_eq!(other.records_after(log.id, 0).await.unwrap(), log.records);
    log.append(&other, Durability::Flushed, vec![progress(100)]).await.unwrap();
    log.append(&storage, Durability::Buffered, vec![progress(100), progress(100)]).await.unwrap();
    assert_eq!(storage.list_all(&SessionFilter::active()).await.unwrap().heads, [log.head.clone().unwrap()]);
    log.append(&storage, Durability::Flushed, vec![completed()]).await.unwrap();
    assert_eq!(storage.list_all(&SessionFilter::active()).await.unwrap().heads, []);
    let page = other.list(&SessionFilter::all(), None, NonZeroUsize::MIN).await.unwrap();
    assert_eq!((page.heads, page.next), (vec![log.head.clone().unwrap()], None));
    assert_eq!(other.records_after(log.id, 0).await.unwrap(), log.records);
    other.delete(log.id, log.tip()).await.unwrap();
    assert_eq!(storage.head(log.id).await.unwrap(), None);
    assert_eq!(fs::read_dir(path.join("trash")).unwrap().count(), 0);
}

#[tokio::test]
async fn store_files_are_private_to_the_user() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    Log::started(&open(&path)).await;
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    for (path, content) in tree(&path) {
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, if content.is_none() { 0o700 } else { 0o600 }, "{}", path.display());
    }
}

#[tokio::test]
async fn a_path_that_is_not_a_store_is_rejected_untouched() {
    type Setup<'a> = Box<dyn Fn(&Path) + 'a>;
    let folder = tempfile::tempdir().unwrap();
    let format = |text: &'static str| move |path: &Path| fs::write(path.join("FORMAT"), text).unwrap();
    let cases: Vec<(&str, ErrorCode, &str, Setup<'_>)> = vec![
        (
            "a file",
            ErrorCode::StorageUnavailable,
            "choose a folder",
            Box::new(|path| {
                fs::remove_dir(path).unwrap();
                fs::write(path, "precious").unwrap();
            }),
        ),
        (
            "below a file",
            ErrorCode::StorageUnavailable,
            "",
            Box::new(|path| {
                fs::write(path.join("FORMAT"), "{\"format\":1}").unwrap();
            }),
        ),
        (
            "foreign",
            ErrorCode::StorageUnavailable,
            "choose an empty or new folder",
            Box::new(|path| {
                fs::write(path.join("thesis.tex"), "precious").unwrap();
            }),
        ),
        ("newer", ErrorCode::UnsupportedFormat, "format 2", Box::new(format("{\"format\":2,\"new\":true}"))),
        ("damaged", ErrorCode::StorageUnavailable, "restore it as", Box::new(format("{\"format\":"))),
        (
            "missing FORMAT",
            ErrorCode::Corrupt,
            "verify --repair",
            Box::new(|path| {
                fs::create_dir_all(path.join(format!("sessions/{}", SessionId::random()))).unwrap();
            }),
        ),
        (
            "symbolic link",
            ErrorCode::StorageUnavailable,
            "move it elsewhere",
            Box::new(|path| {
                symlink("/", path.join("sessions")).unwrap();
            }),
        ),
    ];
    for (name, code, advice, setup) in cases {
        let path = folder.path().join(name);
        fs::create_dir(&path).unwrap();
        setup(&path);
        let before = tree(folder.path());
        let error = FileStorage::open(FileStorageOptions::new(&path)).unwrap_err();
        assert_eq!(error.code(), code, "{name}: {error}");
        assert!(error.to_string().contains(advice), "{name}: {error}");
        assert_eq!(tree(folder.path()), before, "{name}");
    }
}

#[tokio::test]
async fn an_interrupted_store_creation_is_completed() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["lock", "owners/", "sessions/", "stage/"] {
        match name.strip_suffix('/') {
            Some(name) => fs::create_dir(folder.path().join(name)).unwrap(),
            None => fs::write(folder.path().join(name), "").unwrap(),
        }
        let before = tree(folder.path());
        let storage = open(folder.path());
        assert!(storage.list_all(&SessionFilter::all()).await.unwrap().heads.is_empty());
        assert!(storage.reconcile().await.unwrap().repaired.is_empty());
        assert_eq!(tree(folder.path()), before);
    }
    fs::write(folder.path().join("stage/FORMAT"), "{").unwrap();
    let log = Log::started(&open(folder.path())).await;
    assert_eq!(open(folder.path()).head(log.id).await.unwrap(), log.head);
}

#[tokio::test]
async fn links_are_not_followed_and_pipes_do_not_block() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let outside = folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("events.jsonl"), "precious\n").unwrap();
    let storage = open(&store);
    let good = Log::started(&storage).await;

    let linked_dir = SessionId::random();
    symlink(&outside, store.join(format!("sessions/{linked_dir}"))).unwrap();
    let mut linked_log = Log::started(&storage).await;
    fs::remove_file(log_path(&store, linked_log.id)).unwrap();
    symlink(outside.join("events.jsonl"), log_path(&store, linked_log.id)).unwrap();
    let mut pipe = Log::started(&storage).await;
    fs::remove_file(log_path(&store, pipe.id)).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        log_path(&store, pipe.id),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    for storage in [storage, open(&store)] {
        for id in [linked_dir, linked_log.id, pipe.id] {
            assert_eq!(storage.head(id).await.unwrap_err().code(), ErrorCode::Corrupt);
            let error = storage.records(id, 0, NonZeroUsize::MIN).await.unwrap_err();
            assert_eq!(error.code(), ErrorCode::Corrupt);
            assert_eq!(storage.verify(id).await.unwrap().condition, Condition::Corrupt);
        }
        for log in [&mut linked_log, &mut pipe] {
            let error = log.append(&storage, Durability::Flushed, vec![progress(1)]).await.unwrap_err();
            assert_eq!(error.code(), ErrorCode::Corrupt, "{error}");
        }
        let page = storage.list_all(&SessionFilter::all()).await.unwrap();
        assert_eq!(page.heads, [good.head.clone().unwrap()]);
        let mut unreadable: Vec<SessionId> = page.unreadable.into_iter().map(|(id, _)| id).collect();
        unreadable.sort_unstable();
        let mut expected = vec![linked_dir, linked_log.id, pipe.id];
        expected.sort_unstable();
        assert_eq!(unreadable, expected);
    }
    assert_eq!(fs::read(outside.join("events.jsonl")).unwrap(), b"precious\n");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}

#[tokio::test]
async fn a_stuck_lock_names_its_holder_and_blocks_one_session() {
    let folder = tempfile::tempdir().unwrap();
    let storage = impatient(folder.path());
    let mut stuck = Log::started(&storage).await;
    let mut free = Log::started(&storage).await;
    // A process writes its pid into a lock when it takes it.
    stuck.append(&storage, Durability::Buffered, vec![progress(0)]).await.unwrap();
    let lock = fs::File::open(folder.path().join(format!("sessions/{}/lock", stuck.id))).unwrap();
    lock.lock().unwrap();
    for durability in [Durability::Buffered, Durability::Flushed] {
        let error = stuck.append(&storage, durability, vec![progress(1)]).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::StorageUnavailable);
        let holder = format!("pid {}", std::process::id());
        assert!(error.to_string().contains(&holder), "{error}");
    }
    // Many stuck writers: the other session does not wait behind them.
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let (storage, mut stuck) = (storage.clone(), stuck.clone());
            tokio::spawn(async move { stuck.append(&storage, Durability::Flushed, vec![progress(2)]).await })
        })
        .collect();
    free.append(&storage, Durability::Flushed, vec![progress(3)]).await.unwrap();
    assert_eq!(storage.head(stuck.id).await.unwrap(), stuck.head, "readers take no lock");
    for waiting in waiting {
        waiting.await.unwrap().unwrap_err();
    }
    lock.unlock().unwrap();
    stuck.append(&storage, Durability::Flushed, vec![progress(4)]).await.unwrap();
}

#[tokio::test]
async fn open_files_are_limited_by_open_sessions() {
    let folder = tempfile::tempdir().unwrap();
    let options = FileStorageOptions::new(folder.path()).open_sessions(NonZeroUsize::new(3).unwrap());
    let storage = FileStorage::open(options).unwrap();
    let below = folder.path().to_owned();
    let open_files = move || {
        let fds = fs::read_dir("/proc/self/fd").unwrap();
        fds.filter_map(|fd| fs::read_link(fd.unwrap().path()).ok())
            .filter(|path| path.starts_with(&below))
            .count()
    };
    let mut logs = Vec::new();
    for _ in 0..12 {
        logs.push(Log::started(&storage).await);
    }
    for round in 0..3 {
        for log in &mut logs {
            log.append(&storage, Durability::Buffered, vec![progress(round)]).await.unwrap();
        }
    }
    drop(logs);
    // The last queue may not be marked as idle yet.
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while open_files() > 9 && std::time::Instant::now() < deadline {
        std::thread::yield_now();
    }
    assert!(open_files() <= 9, "{} files are open", open_files());
}

#[tokio::test]
async fn the_next_append_repairs_and_quarantines_a_torn_end() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(folder.path());
    let mut log = Log::started(&storage).await;
    let path = log_path(folder.path(), log.id);
    let good = fs::read(&path).unwrap();
    for torn in [&b"{\"seq\":3,\"at\":\"2026"[..], b"\0\0\0\0\0\0\nafter zeroes\n"] {
        fs::write(&path, [&fs::read(&path).unwrap(), torn].concat()).unwrap();
        let other = open(folder.path());
        assert_eq!(other.verify(log.id).await.unwrap().condition, Condition::Torn);
        assert_eq!(other.records_after(log.id, 0).await.unwrap(), log.records, "not stored yet");
        log.append(&other, Durability::Flushed, vec![progress(1)]).await.unwrap();
        assert_eq!(storage.records_after(log.id, 0).await.unwrap(), log.records);
        assert_eq!(storage.verify(log.id).await.unwrap().condition, Condition::Healthy);
        let kept: Vec<Vec<u8>> = fs::read_dir(folder.path().join(format!("quarantine/{}", log.id)))
            .unwrap()
            .map(|entry| fs::read(entry.unwrap().path()).unwrap())
            .collect();
        assert!(kept.iter().any(|kept| kept == torn), "{kept:?}");
    }
    assert!(fs::read(&path).unwrap().starts_with(&good));
}

#[tokio::test]
async fn a_lost_buffered_record_is_reported_until_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(folder.path());
    let mut log = Log::started(&storage).await;
    let before = log.clone();
    let path = log_path(folder.path(), log.id);
    let good = fs::read(&path).unwrap();
    log.append(&storage, Durability::Buffered, vec![progress(50)]).await.unwrap();
    fs::write(&path, &good).unwrap();

    let other = open(folder.path());
    let error = other.records_after(log.id, 0).await.unwrap_err();
    assert!(matches!(error, StorageError::Corrupt { readable: 2, .. }), "{error}");
    let report = other.verify(log.id).await.unwrap();
    assert_eq!((report.condition, report.readable(), report.seen), (Condition::Degraded, 2, 3));
    let mut log = before;
    log.append(&other, Durability::Flushed, vec![progress(60)]).await.unwrap();
    assert_eq!(other.records_after(log.id, 0).await.unwrap(), log.records, "writes are allowed");
    let report = other.verify(log.id).await.unwrap();
    assert_eq!((report.condition, report.losses.len()), (Condition::Degraded, 1));
    assert_eq!(other.repair(log.id, AcceptedLoss::None).await.unwrap().acknowledged, 1);
    assert_eq!(other.verify(log.id).await.unwrap().condition, Condition::Healthy);
}

#[tokio::test]
async fn a_lost_flushed_record_blocks_writes_until_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(folder.path());
    let mut log = Log::started(&storage).await;
    let mut readable = log.clone();
    let path = log_path(folder.path(), log.id);
    let good = fs::read(&path).unwrap();
    log.append(&storage, Durability::Flushed, vec![progress(50)]).await.unwrap();
    log.append(&storage, Durability::Flushed, vec![completed()]).await.unwrap();
    let whole = fs::read(&path).unwrap();
    let mut damaged = whole.clone();
    damaged[good.len() + 30] ^= 1;
    fs::write(&path, &damaged).unwrap();

    let other = open(folder.path());
    let report = other.verify(log.id).await.unwrap();
    assert_eq!((report.condition, report.readable(), report.flushed), (Condition::Corrupt, 2, 4));
    for acceptance in [AcceptedLoss::None, AcceptedLoss::Of { dead: Vec::new() }] {
        let code = other.repair(log.id, acceptance).await.unwrap_err().code();
        assert!([ErrorCode::Corrupt, ErrorCode::StorageUnavailable].contains(&code), "{code}");
    }
    let error = readable.append(&other, Durability::Flushed, vec![progress(60)]).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Corrupt);
    assert_eq!(fs::read(&path).unwrap(), damaged, "nothing is truncated without a request");

    let dead = report.owners.iter().map(|owner| owner.instance).collect();
    let repaired = other.repair(log.id, AcceptedLoss::Of { dead }).await.unwrap();
    let loss = repaired.loss.unwrap();
    assert_eq!((loss.readable, loss.flushed, loss.owned), (2, 4, true));
    assert_eq!(fs::read(loss.kept).unwrap(), damaged[good.len()..]);
    assert_eq!(repaired.tip, Some(readable.tip()));
    let active = other.list_all(&SessionFilter::active()).await.unwrap().heads;
    assert_eq!(active, [readable.head.clone().unwrap()], "it is unended again");
    // A reader is notified of the loss until it is acknowledged.
    assert_eq!(other.verify(log.id).await.unwrap().condition, Condition::Degraded);
    let interrupted = SessionEvent::Interrupted { evidence: Evidence::Repaired };
    readable.append(&other, Durability::Flushed, vec![interrupted]).await.unwrap();
    other.repair(log.id, AcceptedLoss::None).await.unwrap();
    for storage in [storage, open(folder.path())] {
        assert_eq!(storage.verify(log.id).await.unwrap().condition, Condition::Healthy);
        assert_eq!(storage.records_after(log.id, 0).await.unwrap(), readable.records);
    }
}

#[tokio::test]
async fn a_session_without_its_first_record_can_be_quarantined() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(folder.path());
    let log = Log::started(&storage).await;
    let good = Log::started(&storage).await;
    fs::write(log_path(folder.path(), log.id), "").unwrap();
    for filter in [SessionFilter::all(), SessionFilter::active()] {
        let page = storage.list_all(&filter).await.unwrap();
        assert_eq!(page.heads, [good.head.clone().unwrap()]);
        assert_eq!(page.unreadable.len(), 1);
        assert_eq!(page.unreadable[0].0, log.id);
    }
    let mut again = Log::of(log.id);
    let error = again.append(&storage, Durability::Flushed, vec![created()]).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Corrupt, "damage is not absence");
    let owners = storage.verify(log.id).await.unwrap().owners;
    let dead = owners.iter().map(|owner| owner.instance).collect();
    let repaired = storage.repair(log.id, AcceptedLoss::Of { dead }).await.unwrap();
    assert_eq!(repaired.tip, None);
    assert!(repaired.loss.unwrap().kept.join("events.jsonl").exists());
    assert_eq!(storage.head(log.id).await.unwrap(), None);
    again.append(&storage, Durability::Flushed, vec![created()]).await.unwrap();
    assert_eq!(storage.verify(log.id).await.unwrap().condition, Condition::Healthy);
}

#[tokio::test]
async fn reconcile_rebuilds_caches_and_clears_leftovers() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(folder.path());
    let mut unended = Log::started(&storage).await;
    let mut ended = Log::started(&storage).await;
    ended.append(&storage, Durability::Flushed, vec![completed()]).await.unwrap();
    let marker = |id: SessionId| folder.path().join(format!("active/{id}"));
    fs::remove_file(marker(unended.id)).unwrap();
    fs::write(marker(ended.id), "").unwrap();
    let gone = SessionId::random();
    fs::write(marker(gone), "").unwrap();
    for id in [unended.id, ended.id] {
        fs::remove_file(folder.path().join(format!("sessions/{id}/head.json"))).unwrap();
    }
    fs::create_dir(folder.path().join(format!("stage/{gone}"))).unwrap();
    fs::write(folder.path().join(format!("stage/{gone}/events.jsonl")), "half").unwrap();
    fs::create_dir_all(folder.path().join(format!("trash/{gone}/output"))).unwrap();
    fs::write(folder.path().join(format!("trash/{gone}/output/log.1")), "much").unwrap();

    let other = open(folder.path());
    assert_eq!(other.verify_all().await.unwrap().unmarked, [unended.id]);
    assert_eq!(other.head(unended.id).await.unwrap(), unended.head, "a head is only a cache");
    assert!(other.list_all(&SessionFilter::active()).await.unwrap().heads.is_empty());
    let done = other.reconcile().await.unwrap();
    assert_eq!(done.marked, [unended.id]);
    assert_eq!(done.unmarked, [gone]);
    assert!(!marker(ended.id).exists(), "its end is durable now");
    assert_eq!(
        other.list_all(&SessionFilter::active()).await.unwrap().heads,
        [unended.head.clone().unwrap()]
    );
    for folder in ["stage", "trash"].map(|name| folder.path().join(name)) {
        assert_eq!(fs::read_dir(folder).unwrap().count(), 0);
    }
    unended.append(&other, Durability::Flushed, vec![progress(1)]).await.unwrap();
    let before = tree(folder.path());
    for storage in [other, open(folder.path())] {
        let done = storage.reconcile().await.unwrap();
        assert!(done.repaired.is_empty() && done.failed.is_empty(), "{done:?}");
        assert_eq!(tree(folder.path()), before, "reconciling a healthy store writes nothing");
    }
}

#[tokio::test]
async fn a_log_of_a_newer_version_is_read_only() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(folder.path());
    let log = Log::started(&storage).await;
    let path = log_path(folder.path(), log.id);
    let line =
        r#"{"seq":3,"at":"2026-11-21T09:30:00.000Z","attempt":1,"flushed":2,"event":{"teleported":{}}"#;
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    hasher.update(&log.tip().sum.as_u64().to_be_bytes());
    hasher.update(line.as_bytes());
    let line = format!("{line},\"sum\":\"{:016x}\"}}\n", hasher.digest());
    fs::write(&path, [fs::read(&path).unwrap(), line.clone().into_bytes()].concat()).unwrap();
    let before = fs::read(&path).unwrap();
    for storage in [storage, open(folder.path())] {
        let records = storage.records_after(log.id, 0).await.unwrap();
        assert_eq!(records.last().unwrap().line(), line.trim_end());
        assert_eq!(storage.head(log.id).await.unwrap(), log.head, "as far as it can be decoded");
        assert_eq!(storage.verify(log.id).await.unwrap().condition, Condition::Unsupported);
        for expected in [log.tip(), records.last().unwrap().tip()] {
            let batch = session_core::backend::Batch::empty();
            let error =
                storage.append(log.id, Expected::At(expected), batch, Durability::Flushed).await.unwrap_err();
            assert_eq!(error.code(), ErrorCode::UnsupportedFormat);
        }
        assert_eq!(fs::read(&path).unwrap(), before);
    }
}

#[tokio::test]
async fn a_writer_conflicts_with_a_recreated_session() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (open(folder.path()), open(folder.path()));
    let id = SessionId::from_key("nightly");
    let mut first = Log::of(id);
    first.append(&one, Durability::Flushed, vec![created(), started()]).await.unwrap();
    first.append(&two, Durability::Buffered, vec![progress(1)]).await.unwrap();
    one.delete(id, first.tip()).await.unwrap();
    let error = first.clone().append(&two, Durability::Buffered, vec![progress(2)]).await.unwrap_err();
    assert!(matches!(error, StorageError::Conflict { actual: None, .. }), "{error}");
    let mut second = Log::of(id);
    second.append(&one, Durability::Flushed, vec![created()]).await.unwrap();
    let error = first.append(&two, Durability::Buffered, vec![progress(2)]).await.unwrap_err();
    assert!(matches!(error, StorageError::Conflict { actual: Some(_), .. }), "{error}");
    second.append(&two, Durability::Flushed, vec![started()]).await.unwrap();
    assert_eq!(one.records_after(id, 0).await.unwrap(), second.records);
}

/// Rebuilding a log replaces its file: what a writer appended to the file that it had open would be lost.
#[tokio::test]
async fn appends_go_to_the_file_that_replaced_a_log() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(folder.path());
    let mut log = Log::started(&storage).await;
    for (percent, durability) in [(10, Durability::Buffered), (20, Durability::Flushed)] {
        log.append(&storage, Durability::Buffered, vec![progress(percent)]).await.unwrap();
        let (old, new) = (log_path(folder.path(), log.id), folder.path().join("new"));
        fs::copy(&old, &new).unwrap();
        fs::rename(&new, &old).unwrap();
        log.append(&storage, durability, vec![progress(percent + 1)]).await.unwrap();
        assert_eq!(open(folder.path()).records_after(log.id, 0).await.unwrap(), log.records);
        assert_eq!(fs::read_to_string(&old).unwrap().lines().count(), log.records.len());
    }
}

#[tokio::test]
async fn a_deleted_session_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(folder.path());
    let _other = Log::started(&storage).await;
    let paths = || {
        let mut paths: Vec<PathBuf> = tree(folder.path()).into_iter().map(|(path, _)| path).collect();
        paths.retain(|path| !path.ends_with("quarantine"));
        paths.sort();
        paths
    };
    let before = paths();
    for last in [progress(1), completed()] {
        let mut log = Log::started(&storage).await;
        // A torn end, so that there is something in quarantine.
        let mut file = fs::read(log_path(folder.path(), log.id)).unwrap();
        file.extend_from_slice(b"torn");
        fs::write(log_path(folder.path(), log.id), file).unwrap();
        log.append(&storage, Durability::Flushed, vec![last]).await.unwrap();
        assert_ne!(paths(), before);
        storage.delete(log.id, log.tip()).await.unwrap();
        assert_eq!(paths(), before);
    }
}

/// Regression: the marker was removed as soon as a session had ended, even if the end was only buffered. After
/// power loss the session was unended, and missing from every list of active sessions. A marker now stays until
/// the end is durable.
#[tokio::test]
async fn a_buffered_end_keeps_its_marker_until_flushed() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(folder.path());
    let mut log = Log::started(&storage).await;
    let marker = folder.path().join(format!("active/{}", log.id));
    log.append(&storage, Durability::Buffered, vec![completed()]).await.unwrap();
    assert!(marker.exists());
    assert_eq!(storage.list_all(&SessionFilter::active()).await.unwrap().heads, []);
    let mut other = Log::new();
    let batch = other.seal(vec![created()]);
    let within = Expected::AbsentWithin(NonZeroUsize::MIN);
    storage.append(other.id, within, batch, Durability::Flushed).await.unwrap();
    assert!(marker.exists(), "it does not count towards the limit, but is still marked");
    open(folder.path()).reconcile().await.unwrap();
    assert!(!marker.exists(), "reconciling flushes the end");
}

/// Regression: a process that ended a session while many others were created did not get the store's lock in
/// time, left the marker, and no process removed it. After 10,000 sessions with sixteen concurrent ones, 1,600
/// markers were left, and every list of active sessions read all of them.
#[tokio::test]
async fn creations_prune_markers_of_ended_sessions() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let storage = open(&path);
    let mut ended = Log::started(&storage).await;
    ended.append(&storage, Durability::Flushed, vec![completed()]).await.unwrap();
    let running = Log::started(&storage).await;
    let marker = |id: SessionId| path.join(format!("active/{id}"));
    for _ in 0..20 {
        fs::write(marker(ended.id), "").unwrap();
        let gone = SessionId::random();
        fs::write(marker(gone), "").unwrap();
        // Each new session checks the two markers after its own, wherever that is.
        let mut created_logs = Vec::new();
        while marker(ended.id).exists() || marker(gone).exists() {
            assert!(created_logs.len() < 1000, "stale markers are not removed");
            let mut log = Log::new();
            log.append(&storage, Durability::Flushed, vec![created()]).await.unwrap();
            assert!(marker(log.id).exists() && marker(running.id).exists(), "a needed marker was removed");
            created_logs.push(log);
        }
        for log in created_logs {
            storage.delete(log.id, log.tip()).await.unwrap();
        }
    }
}

/// The cache of names may be missing, damaged or of another boot, and then returns nothing. It never returns a
/// number twice.
#[tokio::test]
async fn name_numbers_are_cached_and_never_reused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let storage = open(&path);
    let (day, file) = ("feature-2026-11-21-", path.join("names.json"));
    let found = |numbers: &[(&str, u64)]| -> BTreeMap<String, u64> {
        numbers.iter().map(|(prefix, number)| ((*prefix).to_owned(), *number)).collect()
    };
    assert_eq!(storage.next(day).await, None);
    assert_eq!(storage.counted(day, &found(&[])).await, 1);
    assert!(!path.exists(), "a name created a store");
    Log::started(&storage).await;
    assert_eq!(storage.next(day).await, None, "no number was stored yet");
    let counted = found(&[(day, 6), ("make-", 2)]);
    assert_eq!(storage.counted(day, &counted).await, 7);
    assert_eq!(storage.counted(day, &counted).await, 8, "another caller had stored the same number");
    assert_eq!(open(&path).next(day).await, Some(9), "by another process");
    assert_eq!(storage.next("make-").await, Some(3), "of another program");
    assert_eq!(storage.next("feature-2026-11-22-").await, Some(1), "all sessions were counted");
    assert_eq!(storage.next(day).await, Some(10), "after numbers for other prefixes");
    let taken: Vec<u64> = {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let other = open(&path);
            tasks.spawn(async move {
                // A caller that waits too long for its turn would count the sessions instead.
                for _ in 0..100 {
                    if let Some(number) = other.next(day).await {
                        return number;
                    }
                }
                panic!("timed out on the lock 100 times");
            });
        }
        let mut taken = tasks.join_all().await;
        taken.sort_unstable();
        taken
    };
    assert_eq!(taken, (11..31).collect::<Vec<_>>());
    // Only the last number can be given back, and only for its prefix.
    storage.unused(day, 29).await;
    storage.unused("make-", 30).await;
    assert_eq!(storage.next(day).await, Some(31));
    storage.unused(day, 31).await;
    // Chosen names are skipped.
    storage.used("make-", 9).await;
    storage.used("make-", 4).await;
    assert_eq!(storage.next("make-").await, Some(10));
    let good = fs::read_to_string(&file).unwrap();
    let no_boot = good.replace("\"boot\":\"", "\"boot\":\"x");
    for bad in ["", "{", "null", &"x".repeat(10_000), &no_boot] {
        fs::write(&file, bad).unwrap();
        assert_eq!(storage.next(day).await, None, "{bad}");
    }
    fs::write(&file, good).unwrap();
    assert_eq!(storage.next(day).await, Some(31));
    fs::remove_file(&file).ok();
    symlink(folder.path().join("elsewhere"), &file).unwrap();
    assert_eq!(storage.counted(day, &found(&[(day, 2)])).await, 3);
    assert!(!folder.path().join("elsewhere").exists(), "a link was followed");
    assert_eq!(storage.verify_all().await.unwrap().sessions.len(), 1);
}
