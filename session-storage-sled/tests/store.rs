//! The store as a folder: its lock, the creation of its files, and paths that are refused.

#![expect(clippy::unwrap_used, reason = "in a test, a missing value is a failure")]

#[path = "common/copy.rs"]
mod copy;
#[path = "common/logs.rs"]
#[expect(dead_code, reason = "other tests need more of it")]
mod logs;
#[path = "common/process.rs"]
#[expect(dead_code, reason = "other tests need more of it")]
mod process;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use copy::copy;
use logs::{Dice, Log, note, read};
use process::Process;
use session_core::backend::{Batch, Expected, SessionStorage, SessionStorageExt as _, Sum, Tip};
use session_core::maintenance::StorageMaintenance as _;
use session_core::{Durability, ErrorCode, SessionFilter, SessionId, StorageError};
use session_storage_sled::{SledStorage, SledStorageOptions};

fn try_open(store: &Path) -> Result<SledStorage, StorageError> {
    SledStorage::open(SledStorageOptions::new(store).lock_timeout(Duration::ZERO))
}

fn open(store: &Path) -> SledStorage {
    SledStorage::open(SledStorageOptions::new(store)).unwrap()
}

/// The body of a process that holds a store, not a test itself. Without a role it does nothing.
#[test]
fn process_with_a_role() {
    if let Some((_, store)) = process::role() {
        process::hold(open(&store));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_gets_the_pid_of_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let log = Log::stored(&open(&store), 2).await;
    let mut holder = Process::start("holder", &store, false);
    assert_eq!(holder.line(Duration::from_secs(60)).as_deref(), Some("open"));
    let error = try_open(&store).unwrap_err();
    assert_eq!(error.code(), ErrorCode::StorageUnavailable, "{error}");
    assert!(error.to_string().contains(&format!("process {}", holder.id())), "{error}");
    assert!(error.to_string().contains("sessionctl report"), "{error}");
    holder.kill();
    let (records, end) = read(&try_open(&store).unwrap(), log.id).await;
    end.unwrap();
    assert_eq!(records, log.records);
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_create_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("no/store");
    let storage = open(&store);
    let (id, tip) = (SessionId::random(), Tip { revision: 1, sum: Sum::from_u64(1) });
    assert!(storage.head(id).await.unwrap().is_none());
    assert!(storage.list_all(&SessionFilter::all()).await.unwrap().heads.is_empty());
    assert_eq!(read(&storage, id).await.1.unwrap_err().code(), ErrorCode::NotFound);
    assert_eq!(storage.delete(id, tip).await.unwrap_err().code(), ErrorCode::NotFound);
    assert_eq!(storage.verify(id).await.unwrap_err().code(), ErrorCode::NotFound);
    assert!(storage.verify_all().await.unwrap().sessions.is_empty());
    assert!(storage.reconcile().await.unwrap().repaired.is_empty());
    let flush = storage.append(id, Expected::At(tip), Batch::empty(), Durability::Flushed).await;
    assert_eq!(flush.unwrap_err().code(), ErrorCode::Conflict);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "something was created");
    // The first session creates the store, and a handle opened before sees it.
    let other = open(&store);
    let log = Log::stored(&storage, 1).await;
    assert!(other.head(log.id).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn created_files_are_for_their_user_alone() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let storage = open(&store);
    let log = Log::stored(&storage, 2).await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&store), 0o700);
    assert_eq!(mode(&store.join("db")), 0o700);
    for file in ["FORMAT", "lock", "marks", "unclean"] {
        assert_eq!(mode(&store.join(file)), 0o600, "{file}");
    }
    assert_eq!(storage.owners_dir(), store.canonicalize().unwrap().join("owners"));
    fs::create_dir_all(storage.sessions_dir().join(log.id.to_string()).join("output")).unwrap();
    storage.delete(log.id, log.tip().unwrap()).await.unwrap();
    assert!(!storage.sessions_dir().join(log.id.to_string()).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_is_not_a_store_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let refused_with = |code: ErrorCode, what: &str| {
        let error = try_open(&path).unwrap_err();
        assert_eq!(error.code(), code, "{what}: {error}");
        error.to_string()
    };
    let refused = |what: &str| refused_with(ErrorCode::StorageUnavailable, what);
    let damaged = |what: &str| refused_with(ErrorCode::Corrupt, what);
    fs::write(&path, "a file").unwrap();
    refused("a file");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    fs::write(path.join("thesis.tex"), "foreign").unwrap();
    assert!(refused("a folder with other things").contains("thesis.tex"));
    fs::remove_file(path.join("thesis.tex")).unwrap();
    fs::write(path.join("FORMAT"), r#"{"format":1,"store":"5d4d2f7e-52f7-4dcd-9e0b-3b1f5f1a4b5e"}"#).unwrap();
    assert!(refused("a file store").contains("another backend"));
    fs::write(path.join("FORMAT"), "damaged").unwrap();
    refused("a damaged FORMAT");
    fs::write(path.join("FORMAT"), r#"{"sled":2,"id":"?"}"#).unwrap();
    assert_eq!(try_open(&path).unwrap_err().code(), ErrorCode::UnsupportedFormat);
    fs::remove_dir_all(&path).unwrap();

    let log = Log::stored(&open(&path), 1).await;
    let format = fs::read_to_string(path.join("FORMAT")).unwrap();
    fs::remove_file(path.join("FORMAT")).unwrap();
    assert!(damaged("a store without FORMAT").contains("FORMAT"));
    fs::write(path.join("FORMAT"), format.replace("\"id\":\"", "\"id\":\"x")).unwrap();
    damaged("an invalid id");
    let other = "5d4d2f7e-52f7-4dcd-9e0b-3b1f5f1a4b5e";
    fs::write(path.join("FORMAT"), format!("{{\"sled\":1,\"id\":\"{other}\"}}")).unwrap();
    assert!(damaged("another store's FORMAT").contains(other));
    fs::write(path.join("FORMAT"), format).unwrap();
    // The marks of another store.
    let other_store = folder.path().join("other");
    Log::stored(&open(&other_store), 1).await;
    fs::copy(other_store.join("marks"), path.join("marks")).unwrap();
    assert!(damaged("another store's marks").contains("marks"));
    fs::remove_file(path.join("marks")).unwrap();
    assert!(open(&path).head(log.id).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn links_in_place_of_store_files_are_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let outside = folder.path().join("outside");
    let log = Log::stored(&open(&store), 1).await;
    for name in ["db", "sessions", "aside", "quarantine"] {
        fs::create_dir_all(&outside).unwrap();
        let (path, kept) = (store.join(name), folder.path().join("kept"));
        let was_there = fs::rename(&path, &kept).is_ok();
        std::os::unix::fs::symlink(&outside, &path).unwrap();
        let error = try_open(&store).unwrap_err();
        assert_eq!(error.code(), ErrorCode::StorageUnavailable, "{name}: {error}");
        fs::remove_file(&path).unwrap();
        if was_there {
            fs::rename(&kept, &path).unwrap();
        }
    }
    for name in ["FORMAT", "lock", "marks", "unclean", "db/db"] {
        let (path, kept) = (store.join(name), folder.path().join("kept"));
        let was_there = fs::rename(&path, &kept).is_ok();
        fs::write(outside.join("file"), "precious").unwrap();
        std::os::unix::fs::symlink(outside.join("file"), &path).unwrap();
        assert!(try_open(&store).is_err(), "{name}");
        assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "precious", "{name}");
        drop(fs::remove_file(&path));
        if was_there {
            fs::rename(&kept, &path).unwrap();
        }
    }
    assert!(open(&store).head(log.id).await.unwrap().is_some());
    // A link to the store's folder leads to the same store.
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&store, &link).unwrap();
    let (one, two) = (open(&store), open(&link));
    assert_eq!(one.path(), two.path());
}

/// Concurrent appends share flushes, and all records of all sessions are stored.
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_sessions_read_back_what_they_stored() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let storage = open(&store);
    let mut writers = Vec::new();
    for seed in 0..64 {
        let storage = storage.clone();
        writers.push(tokio::spawn(async move {
            let (mut dice, mut log) = (Dice(seed), Log::new());
            for n in 0..20 {
                let durability = if dice.below(4) == 0 { Durability::Buffered } else { Durability::Flushed };
                let size = if dice.below(30) == 0 { dice.below(300_000) } else { dice.below(500) };
                let events =
                    if n == 0 { logs::created() } else { note("x".repeat(usize::try_from(size).unwrap())) };
                log.append(&storage, durability, vec![events]).await.unwrap();
            }
            log
        }));
    }
    let mut all = Vec::new();
    for writer in writers {
        all.push(writer.await.unwrap());
    }
    let check = async |storage: &SledStorage| {
        for log in &all {
            let (records, end) = read(storage, log.id).await;
            end.unwrap();
            assert_eq!(records, log.records);
        }
        assert_eq!(storage.list_all(&SessionFilter::active()).await.unwrap().heads.len(), all.len());
    };
    check(&storage).await;
    drop(storage);
    check(&open(&store)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_marks_are_reported_until_a_repair() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let log = Log::stored(&open(&store), 2).await;
    fs::OpenOptions::new().write(true).open(store.join("marks")).unwrap().set_len(1 << 40).unwrap();
    let storage = open(&store);
    let found = storage.verify_all().await.unwrap();
    assert!(found.problems.iter().any(|problem| problem.contains("marks is damaged")), "{found:?}");
    let report = storage.reconcile().await.unwrap();
    assert!(report.store.iter().any(|repair| repair.contains("was rebuilt")), "{report:?}");
    assert!(storage.verify_all().await.unwrap().problems.is_empty());
    drop(storage);
    let found = open(&store).verify_all().await.unwrap();
    assert!(found.problems.is_empty(), "{found:?}");
    assert_eq!(found.sessions.first().unwrap().flushed, log.revision(), "the mark was kept");
}

/// sled opened a pipe at `conf`, and waited for a writer forever.
#[tokio::test(flavor = "multi_thread")]
async fn pipes_in_place_of_files_are_refused_immediately() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("base");
    let log = Log::stored(&open(&base), 2).await;
    // Opening it again writes a snapshot.
    drop(open(&base));
    let snapshot = fs::read_dir(base.join("db")).unwrap().map(|entry| entry.unwrap().file_name());
    let snapshot =
        snapshot.map(|name| name.to_string_lossy().into_owned()).find(|name| name.starts_with("snap."));
    let snapshot = format!("db/{}", snapshot.unwrap());
    let names = [
        "FORMAT",
        "lock",
        "unclean",
        "marks",
        "db",
        "db/conf",
        "db/db",
        "db/blobs",
        "db/blobs/7",
        "db/other",
        &snapshot,
    ];
    for kind in [rustix::fs::FileType::Fifo, rustix::fs::FileType::Socket] {
        for name in names {
            let store = folder.path().join("store");
            copy(&base, &store);
            let path = store.join(name);
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            drop(removed);
            rustix::fs::mknodat(
                rustix::fs::CWD,
                &path,
                kind,
                rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
                0,
            )
            .unwrap();
            let error = try_open(&store).unwrap_err();
            let text = error.to_string();
            assert!(text.contains("not a regular file") || text.contains("not a folder"), "{name}: {text}");
            assert!(text.contains(name.rsplit('/').next().unwrap()), "{name}: {text}");
            fs::remove_dir_all(&store).unwrap();
        }
    }
    let (records, end) = read(&open(&base), log.id).await;
    end.unwrap();
    assert_eq!(records, log.records);
}

/// sled reads its settings and snapshots into memory, however large they are.
#[tokio::test(flavor = "multi_thread")]
async fn settings_and_snapshots_of_impossible_sizes_are_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let log = Log::stored(&open(&store), 2).await;
    for name in ["conf", "snap.FFFFFFFFFFFFFFFF"] {
        let file =
            fs::OpenOptions::new().create(true).append(true).open(store.join("db").join(name)).unwrap();
        file.set_len(1 << 40).unwrap();
        let (records, end) = read(&open(&store), log.id).await;
        end.unwrap();
        assert_eq!(records, log.records, "{name}");
    }
}
