//! Opening a store after an unclean shutdown or damage: saved copies of the database, snapshots that keep sled from
//! opening, and databases that come back with less than was acknowledged.

#![expect(clippy::unwrap_used, reason = "in a test, a missing value is a failure")]

#[path = "common/copy.rs"]
mod copy;
#[path = "common/logs.rs"]
#[expect(dead_code, reason = "other tests need more of it")]
mod logs;
#[path = "common/rows.rs"]
mod rows;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use logs::{Log, note, read, started};
use session_core::backend::{SessionStorage, SessionStorageExt as _};
use session_core::maintenance::{AcceptedLoss, Condition, StorageMaintenance as _};
use session_core::{Durability, ErrorCode, SessionFilter};
use session_storage_sled::{SledStorage, SledStorageOptions};
use tempfile::TempDir;

fn open(store: &Path) -> SledStorage {
    SledStorage::open(SledStorageOptions::new(store)).unwrap()
}

/// Creates a store as after an unclean shutdown, and its log.
async fn unclean_store(folder: &TempDir) -> (PathBuf, Log) {
    let (open_store, unclean) = (folder.path().join("open"), folder.path().join("unclean"));
    let storage = open(&open_store);
    let log = Log::stored(&storage, 20).await;
    copy::copy(&open_store, &unclean);
    (unclean, log)
}

fn size(path: &Path) -> u64 {
    if !path.is_dir() {
        return path.metadata().unwrap().len();
    }
    fs::read_dir(path).unwrap().map(|entry| size(&entry.unwrap().path())).sum()
}

async fn assert_intact(storage: &SledStorage, log: &Log) {
    let (records, end) = read(storage, log.id).await;
    end.unwrap();
    assert_eq!(records, log.records);
    assert_eq!(storage.verify(log.id).await.unwrap().condition, Condition::Healthy);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_is_copied_only_after_an_unclean_shutdown() {
    let folder = tempfile::tempdir().unwrap();
    let (store, mut log) = unclean_store(&folder).await;
    let before = fs::read(store.join("db/db")).unwrap();
    let storage = open(&store);
    assert_eq!(fs::read(store.join("aside/db")).unwrap(), before);
    assert_eq!(fs::metadata(store.join("aside")).unwrap().permissions().mode() & 0o777, 0o700);
    assert_intact(&storage, &log).await;
    log.next(&storage, Durability::Flushed, "more").await.unwrap();
    drop(storage);
    assert!(!store.join("unclean").exists(), "a clean shutdown leaves no marker");
    fs::remove_dir_all(store.join("aside")).unwrap();
    let storage = open(&store);
    assert!(!store.join("aside").exists());
    assert_intact(&storage, &log).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_unclean_shutdowns_do_not_grow_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, log) = unclean_store(&folder).await;
    let mut sizes = Vec::new();
    for life in 0..20 {
        let next = folder.path().join(format!("life-{life}"));
        let storage = open(&store);
        copy::copy(&store, &next);
        drop(storage);
        fs::remove_dir_all(&store).unwrap();
        store = next;
        sizes.push(size(&store));
    }
    // The database and one copy of it, which exists from the second opening on.
    let (early, last) = (sizes.get(1).unwrap(), sizes.last().unwrap());
    assert_eq!(early, last, "{sizes:?}");
    let storage = open(&store);
    assert_intact(&storage, &log).await;
    println!("tally: sizes={sizes:?}");
}

/// The same with an append in each life: sled does not start a new segment for it.
#[tokio::test(flavor = "multi_thread")]
async fn twenty_unclean_shutdowns_with_appends_grow_the_store_little() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, mut log) = unclean_store(&folder).await;
    let mut sizes = Vec::new();
    for life in 0..20 {
        let next = folder.path().join(format!("life-{life}"));
        let storage = open(&store);
        log.next(&storage, Durability::Flushed, life).await.unwrap();
        copy::copy(&store, &next);
        drop(storage);
        fs::remove_dir_all(&store).unwrap();
        store = next;
        sizes.push(size(&store));
    }
    println!("tally: sizes={sizes:?}");
    // The appended records and a snapshot, but no further segment of 512 KiB.
    assert!(sizes.last().unwrap() - sizes.get(1).unwrap() < 64 * 1024, "{sizes:?}");
    let storage = open(&store);
    assert_intact(&storage, &log).await;
}

/// `fsync` reports an error once, and only on descriptors that were open: if a process dies during a flush, its error
/// is lost. So the database is rewritten from what can be read.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_death_during_a_flush_the_database_is_rewritten() {
    use std::os::unix::fs::MetadataExt as _;
    let folder = tempfile::tempdir().unwrap();
    let (store, log) = unclean_store(&folder).await;
    let marker = fs::read_to_string(store.join("unclean")).unwrap();
    assert!(marker.starts_with("flushing 0\n"), "{marker}");
    fs::write(store.join("unclean"), marker.replace("flushing 0", "flushing 1")).unwrap();
    let inode = |path: &Path| fs::metadata(path).unwrap().ino();
    let before = inode(&store.join("db/db"));
    let storage = open(&store);
    assert_ne!(inode(&store.join("db/db")), before, "the file is a new one");
    assert_eq!(inode(&store.join("aside/db")), before, "the old file is set aside");
    assert_intact(&storage, &log).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_rewrite_is_completed() {
    let folder = tempfile::tempdir().unwrap();
    let (store, log) = unclean_store(&folder).await;
    // Interrupted between its two renames.
    copy::copy(&store.join("db"), &store.join("db.new"));
    fs::rename(store.join("db"), store.join("aside")).unwrap();
    let storage = open(&store);
    assert_intact(&storage, &log).await;
    drop(storage);
    // Interrupted during the copy.
    fs::create_dir(store.join("db.new")).unwrap();
    fs::write(store.join("db.new/db"), "half").unwrap();
    let storage = open(&store);
    assert_intact(&storage, &log).await;
    assert!(!store.join("db.new").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_keeps_sled_from_opening_is_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let mut log = Log::stored(&open(&store), 5).await;
    // The second opening writes a snapshot.
    log.next(&open(&store), Durability::Flushed, "more").await.unwrap();
    drop(open(&store));
    let snapshot = fs::read_dir(store.join("db"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.file_name().unwrap().to_string_lossy().starts_with("snap."))
        .expect("sled has a snapshot");
    let complete = fs::read(&snapshot).unwrap();
    let half = complete.get(..complete.len() / 2).unwrap();
    let stray = "snap.FFFFFFFFFFFFFFFF.generating";
    for (name, bytes) in [(stray, half), (stray, b"".as_slice()), (stray, b"garbage garbage garbage")] {
        fs::write(store.join("db").join(name), bytes).unwrap();
        assert!(sled::Config::new().path(store.join("db")).open().is_err(), "sled opens it without help");
        let storage = open(&store);
        assert_intact(&storage, &log).await;
        assert!(store.join("aside/starts").join(name).exists());
        log.next(&storage, Durability::Flushed, "and more").await.unwrap();
    }
    for entry in fs::read_dir(store.join("db")).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with("snap.") {
            fs::write(path, "damaged").unwrap();
        }
    }
    assert_intact(&open(&store), &log).await;
}

/// A database restored from an older backup, or on a disk that lost the last flush: sled opens it without an error.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_behind_its_marks_is_read_only_and_reports_loss() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let storage = open(&store);
    let mut log = Log::new();
    log.append(&storage, Durability::Flushed, vec![logs::created(), started()]).await.unwrap();
    let untouched = Log::stored(&storage, 3).await;
    drop(storage);
    copy::copy(&store.join("db"), &folder.path().join("older"));
    let storage = open(&store);
    log.next(&storage, Durability::Flushed, "lost").await.unwrap();
    let newcomer = Log::stored(&storage, 2).await;
    drop(storage);
    fs::remove_dir_all(store.join("db")).unwrap();
    copy::copy(&folder.path().join("older"), &store.join("db"));

    for _ in 0..2 {
        let storage = open(&store);
        // Stored records can be read.
        assert_readable(&storage, &untouched).await;
        // Lost records are reported.
        let (records, end) = read(&storage, log.id).await;
        assert_eq!(records.len(), 2);
        let error = end.unwrap_err();
        assert_eq!(error.code(), ErrorCode::Corrupt, "{error}");
        assert!(error.to_string().contains("revision 3 was stored"), "{error}");
        assert_eq!(storage.head(newcomer.id).await.unwrap_err().code(), ErrorCode::Corrupt);
        let page = storage.list_all(&SessionFilter::all()).await.unwrap();
        assert_eq!(page.unreadable.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [newcomer.id]);
        let page = storage.list_all(&SessionFilter::active()).await.unwrap();
        assert_eq!(page.unreadable.len(), 1, "{page:?}");
        // No session can be written.
        let error = Log::new().next(&storage, Durability::Flushed, "new").await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::StorageUnavailable, "{error}");
        assert!(error.to_string().contains("verify --repair --accept-loss"), "{error}");
        let error = untouched.clone().next(&storage, Durability::Flushed, "more").await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::StorageUnavailable, "{error}");
        let mut more = Log::of(storage.head(log.id).await.unwrap().unwrap());
        assert_eq!(more.next(&storage, Durability::Flushed, 1).await.unwrap_err().code(), ErrorCode::Corrupt);
        let tip = storage.head(log.id).await.unwrap().unwrap().tip;
        assert_eq!(storage.delete(log.id, tip).await.unwrap_err().code(), ErrorCode::Corrupt);
        let health = storage.verify_all().await.unwrap();
        let count =
            |condition| health.sessions.iter().filter(|session| session.condition == condition).count();
        assert_eq!((count(Condition::Corrupt), count(Condition::Degraded)), (2, 1), "{health:?}");
    }

    let storage = open(&store);
    let error = storage.repair(log.id, AcceptedLoss::None).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Corrupt, "{error}");
    let error = storage.repair(log.id, AcceptedLoss::Of { dead: vec![] }).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StorageUnavailable, "its owner may live: {error}");
    let owner = storage.verify(log.id).await.unwrap().owners.first().unwrap().instance;
    let repaired = storage.repair(log.id, AcceptedLoss::Of { dead: vec![owner] }).await.unwrap();
    let loss = repaired.loss.unwrap();
    assert_eq!((loss.readable, loss.flushed, loss.owned), (2, 3, true));
    // One loss was accepted, the other was not; all other sessions can be written.
    let mut untouched = untouched;
    untouched.next(&storage, Durability::Flushed, "continued").await.unwrap();
    let mut log = Log::of(storage.head(log.id).await.unwrap().unwrap());
    log.next(&storage, Durability::Flushed, "continued too").await.unwrap();
    assert_eq!(storage.verify(log.id).await.unwrap().condition, Condition::Degraded);
    assert_eq!(storage.repair(log.id, AcceptedLoss::None).await.unwrap().acknowledged, 1);
    assert_eq!(storage.verify(newcomer.id).await.unwrap().condition, Condition::Corrupt);
    drop(storage);
    let storage = open(&store);
    assert_eq!(storage.verify(newcomer.id).await.unwrap().condition, Condition::Corrupt);
    let repaired = storage.repair(newcomer.id, AcceptedLoss::Of { dead: vec![] }).await.unwrap();
    assert_eq!((repaired.tip, repaired.loss.unwrap().flushed), (None, 2));
    drop(storage);
    let storage = open(&store);
    let health = storage.verify_all().await.unwrap();
    assert_eq!(health.sessions.len(), 2);
    assert!(health.sessions.iter().all(|session| session.condition == Condition::Healthy), "{health:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_lost_change_is_enough_to_refuse_writes() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let mut log = Log::stored(&open(&store), 3).await;
    copy::copy(&store.join("db"), &folder.path().join("older"));
    log.next(&open(&store), Durability::Flushed, "lost").await.unwrap();
    fs::remove_dir_all(store.join("db")).unwrap();
    copy::copy(&folder.path().join("older"), &store.join("db"));
    let error = Log::new().next(&open(&store), Durability::Flushed, "new").await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StorageUnavailable, "{error}");
}

async fn assert_readable(storage: &SledStorage, log: &Log) {
    let (records, end) = read(storage, log.id).await;
    end.unwrap();
    assert_eq!(records, log.records);
    assert_eq!(storage.head(log.id).await.unwrap().unwrap().tip, log.tip().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_or_missing_database_is_not_a_new_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let log = Log::stored(&open(&store), 3).await;
    fs::write(store.join("db/db"), "").unwrap();
    for entry in fs::read_dir(store.join("db")).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.file_name().unwrap().to_string_lossy().starts_with("snap.") {
            fs::remove_file(entry).unwrap();
        }
    }
    {
        let storage = open(&store);
        assert_eq!(storage.head(log.id).await.unwrap_err().code(), ErrorCode::Corrupt);
        let error = Log::new().next(&storage, Durability::Flushed, 1).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::StorageUnavailable, "{error}");
    }
    fs::remove_file(store.join("db/db")).unwrap();
    let error = SledStorage::open(SledStorageOptions::new(&store)).unwrap_err();
    assert_eq!(error.code(), ErrorCode::StorageUnavailable, "{error}");
    assert!(error.to_string().contains("1 sessions were stored"), "{error}");
}

/// The head is a cache of the records.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_or_damaged_head_is_rebuilt_from_the_records() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let logs = {
        let storage = open(&store);
        [Log::stored(&storage, 3).await, Log::stored(&storage, 4).await]
    };
    {
        let db = rows::open(&store);
        db.remove(rows::head_key(logs[0].id)).unwrap();
        db.insert(rows::head_key(logs[1].id), b"damaged").unwrap();
        db.flush().unwrap();
    }
    let storage = open(&store);
    for log in &logs {
        assert_readable(&storage, log).await;
        assert_eq!(storage.verify(log.id).await.unwrap().condition, Condition::Degraded);
    }
    for filter in [SessionFilter::all(), SessionFilter::active()] {
        assert_eq!(storage.list_all(&filter).await.unwrap().heads.len(), 2, "{filter:?}");
    }
    let reconciled = storage.reconcile().await.unwrap();
    assert_eq!(reconciled.repaired.len(), 2, "{reconciled:?}");
    for log in &logs {
        assert_intact(&storage, log).await;
    }
    assert!(storage.reconcile().await.unwrap().repaired.is_empty());
    drop(storage);
    let storage = open(&store);
    for log in &logs {
        assert_intact(&storage, log).await;
    }
}

/// The next append quarantines invalid lines after the last record.
#[tokio::test(flavor = "multi_thread")]
async fn the_next_append_quarantines_invalid_lines_after_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let mut log = Log::stored(&open(&store), 3).await;
    {
        let db = rows::open(&store);
        let mut lines = rows::lines(&db, log.id);
        lines.push(b"something else".to_vec());
        rows::put_lines(&db, log.id, &lines);
    }
    let storage = open(&store);
    assert_eq!(storage.verify(log.id).await.unwrap().condition, Condition::Degraded);
    log.append(&storage, Durability::Flushed, vec![note("more")]).await.unwrap();
    assert_readable(&storage, &log).await;
    // The session stays degraded until the loss is acknowledged.
    let health = storage.verify(log.id).await.unwrap();
    assert_eq!((health.condition, health.losses.len()), (Condition::Degraded, 1));
    assert_eq!(fs::read_to_string(health.losses.first().unwrap()).unwrap(), "something else\n");
    assert_eq!(storage.repair(log.id, AcceptedLoss::None).await.unwrap().acknowledged, 1);
    assert_intact(&storage, &log).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reconcile_removes_only_the_folders_of_deleted_sessions() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let storage = open(&store);
    let (log, deleted) = (Log::stored(&storage, 2).await, Log::stored(&storage, 2).await);
    let folders = [log.id, deleted.id].map(|id| storage.sessions_dir().join(id.to_string()));
    for folder in &folders {
        fs::create_dir_all(folder.join("output")).unwrap();
    }
    storage.delete(deleted.id, deleted.tip().unwrap()).await.unwrap();
    assert!(!folders[1].exists());
    fs::create_dir_all(folders[1].join("output")).unwrap();
    storage.reconcile().await.unwrap();
    assert!(folders[0].exists() && !folders[1].exists());
    drop(storage);
    let storage = open(&store);
    assert!(storage.head(deleted.id).await.unwrap().is_none(), "deleted sessions are not missed");
    assert_eq!(storage.verify_all().await.unwrap().sessions.len(), 1);
}

/// Cuts the file of a new store at many offsets, and returns the number of cuts after which sled could not open it.
async fn cut_everywhere() -> usize {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    for life in 0..4 {
        let storage = open(&store);
        for n in 0..40 {
            let mut log = Log::stored(&storage, 1).await;
            log.next(&storage, Durability::Flushed, "x".repeat(200 * (n % 7) + 5000 * life)).await.unwrap();
        }
    }
    let length = fs::metadata(store.join("db/db")).unwrap().len();
    let mut unopened = 0;
    for cut in 1..40 {
        let case = folder.path().join(format!("case-{cut}"));
        copy::copy(&store, &case);
        let data = fs::OpenOptions::new().write(true).open(case.join("db/db")).unwrap();
        data.set_len(length * cut / 40).unwrap();
        let Err(error) = SledStorage::open(SledStorageOptions::new(&case)) else { continue };
        unopened += 1;
        assert_eq!(error.code(), ErrorCode::StorageUnavailable, "{error}");
        assert!(error.to_string().contains("160 sessions were stored, up to change 320"), "{error}");
        let kept = fs::read(case.join("aside/db")).unwrap();
        for _ in 0..2 {
            let again = SledStorage::open(SledStorageOptions::new(&case)).unwrap_err();
            assert_eq!(again.code(), ErrorCode::StorageUnavailable, "{again}");
            assert!(fs::read(case.join("aside/db")).unwrap() == kept, "the copy was replaced");
        }
        // With an earlier copy of the database the store is healthy.
        fs::remove_dir_all(case.join("db")).unwrap();
        copy::copy(&store.join("db"), &case.join("db"));
        let health = open(&case).verify_all().await.unwrap();
        assert_eq!(health.sessions.len(), 160);
        assert!(health.sessions.iter().all(|session| session.condition == Condition::Healthy));
    }
    unopened
}

/// sled may change a database in a failed attempt to open it; it is copied once, before the attempt without its
/// snapshots. The harmful cuts depend on the ids of the sessions: a rare store opens after every cut.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_cannot_be_opened_is_reported_and_copied() {
    let mut unopened = 0;
    for _ in 0..20 {
        unopened += cut_everywhere().await;
        if unopened > 0 {
            break;
        }
    }
    println!("tally: unopened={unopened}");
    assert!(unopened > 0, "every store opened after every cut");
}
