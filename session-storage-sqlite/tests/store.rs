//! Behaviour of the store beyond the storage laws: accepted and refused paths, and stores that are damaged, locked or
//! full or have lost data.

#![expect(clippy::unwrap_used, reason = "in a test, a missing value is a failure")]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use session_core::backend::{Batch, Expected, SessionStorage as _, SessionStorageExt as _};
use session_core::maintenance::{AcceptedLoss, Condition, StorageMaintenance as _};
use session_core::{Durability, ErrorCode, SessionFilter, SessionId, StorageError};
use session_storage_sqlite::{SqliteStorage, SqliteStorageOptions};
use session_testkit::logs::Log;

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("sessions.db")
    }

    fn sibling(&self, ending: &str) -> PathBuf {
        self.0.path().join(format!("sessions.db{ending}"))
    }

    fn options(&self) -> SqliteStorageOptions {
        SqliteStorageOptions::new(self.path())
    }

    fn open(&self) -> SqliteStorage {
        SqliteStorage::open(self.options()).unwrap()
    }

    fn refused(&self) -> StorageError {
        SqliteStorage::open(self.options()).unwrap_err()
    }

    /// Opens the database directly.
    fn sql(&self) -> Connection {
        Connection::open(self.path()).unwrap()
    }

    /// Copies the files as a kill leaves them to another folder.
    fn killed(&self) -> Self {
        let other = Self::new();
        copy(self.0.path(), other.0.path());
        other
    }

    fn tree(&self) -> Vec<(PathBuf, Option<Vec<u8>>)> {
        tree(self.0.path())
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Lists everything below a folder, with its content.
fn tree(folder: &Path) -> Vec<(PathBuf, Option<Vec<u8>>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            all.extend(tree(&path));
            all.push((path, None));
        } else {
            all.push((path.clone(), fs::read(&path).ok()));
        }
    }
    all.sort();
    all
}

async fn store(storage: &SqliteStorage, log: &mut Log) {
    for step in log.take_each() {
        step.send(storage, Durability::Flushed).await.unwrap();
    }
}

/// Creates a running session of five records, each flushed.
async fn session(storage: &SqliteStorage) -> Log {
    let mut log = Log::plain();
    log.started().noted(1).noted(2).noted(3);
    store(storage, &mut log).await;
    log
}

async fn lines(storage: &SqliteStorage, id: SessionId) -> Vec<String> {
    let records = storage.records_after(id, 0).await.unwrap();
    records.iter().map(|record| record.line().to_owned()).collect()
}

fn expected(log: &Log) -> Vec<String> {
    log.lines().iter().map(ToString::to_string).collect()
}

/// Accepts the loss of a session without an owner.
fn loss() -> AcceptedLoss {
    AcceptedLoss::Of { dead: vec![] }
}

fn loss_of(log: &Log) -> AcceptedLoss {
    AcceptedLoss::Of { dead: log.head().lifecycle.owner.iter().map(|owner| owner.instance).collect() }
}

#[tokio::test]
async fn reads_create_nothing_and_the_first_session_creates_the_store() {
    let place = Place::new();
    let storage =
        SqliteStorage::open(SqliteStorageOptions::new(place.0.path().join("a/b/sessions.db"))).unwrap();
    let log = Log::plain();
    assert_eq!(storage.head(log.id()).await.unwrap(), None);
    assert_eq!(storage.records_after(log.id(), 0).await.unwrap_err().code(), ErrorCode::NotFound);
    assert!(storage.list_all(&SessionFilter::all()).await.unwrap().heads.is_empty());
    assert!(storage.verify_all().await.unwrap().sessions.is_empty());
    assert!(storage.reconcile().await.unwrap().repaired.is_empty());
    assert_eq!(storage.delete(log.id(), log.tip()).await.unwrap_err().code(), ErrorCode::NotFound);
    let flush = storage.append(log.id(), Expected::At(log.tip()), Batch::empty(), Durability::Flushed).await;
    assert_eq!(flush.unwrap_err().code(), ErrorCode::Conflict);
    assert!(place.tree().is_empty(), "{:?}", place.tree());
    let log = session(&storage).await;
    assert_eq!(lines(&storage, log.id()).await, expected(&log));
    let root = place.0.path().join("a/b");
    let mut names: Vec<String> =
        fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["sessions.db", "sessions.db-files", "sessions.db-shm", "sessions.db-wal"]);
    for (path, content) in tree(&root) {
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, if content.is_some() { 0o600 } else { 0o700 }, "{}", path.display());
    }
}

#[tokio::test]
async fn the_last_handle_leaves_database_marks_and_reserve() {
    let place = Place::new();
    let storage = place.open();
    let log = session(&storage).await;
    storage.head(log.id()).await.unwrap();
    drop(storage);
    let names: Vec<PathBuf> = place.tree().into_iter().map(|(path, _)| path).collect();
    let expected =
        ["sessions.db", "sessions.db-files", "sessions.db-files/marks", "sessions.db-files/reserve"];
    assert_eq!(names, expected.map(|name| place.0.path().join(name)));
    assert_eq!(lines(&place.open(), log.id()).await, self::expected(&log));
}

#[tokio::test]
async fn a_path_that_is_not_a_store_is_refused_unchanged() {
    let place = Place::new();
    let foreign = place.sql();
    foreign
        .execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE bills (cents); INSERT INTO bills VALUES (7)")
        .unwrap();
    foreign.close().unwrap();
    let mut cases = vec![("not a session store", fs::read(place.path()).unwrap())];
    cases.push(("not an SQLite database", b"Dear diary, ".repeat(1000)));
    cases.push(("not a session store", Vec::new()));
    for (what, bytes) in cases {
        fs::write(place.path(), &bytes).unwrap();
        let before = place.tree();
        let error = place.refused();
        assert_eq!(error.code(), ErrorCode::StorageUnavailable, "{error}");
        assert!(error.to_string().contains(what), "{error}");
        assert_eq!(place.tree(), before, "{what}");
    }
}

#[tokio::test]
async fn links_in_place_of_store_files_are_refused() {
    for name in ["", "-wal", "-shm", "-files"] {
        let place = Place::new();
        if !name.is_empty() {
            drop(session(&place.open()).await);
        }
        let elsewhere = Place::new();
        let target = elsewhere.0.path().join("target");
        let link = place.sibling(name);
        if name == "-files" {
            fs::rename(&link, &target).unwrap();
        } else {
            fs::write(&target, "precious").unwrap();
        }
        symlink(&target, &link).unwrap();
        let before = tree(elsewhere.0.path());
        let error = place.refused();
        assert!(error.to_string().contains("move it elsewhere"), "{name}: {error}");
        assert_eq!(tree(elsewhere.0.path()), before, "{name}");
    }
    // Above the store, links are the user's own and are followed.
    let place = Place::new();
    let link = place.0.path().join("link");
    fs::create_dir(place.0.path().join("real")).unwrap();
    symlink(place.0.path().join("real"), &link).unwrap();
    let storage = SqliteStorage::open(SqliteStorageOptions::new(link.join("deep/sessions.db"))).unwrap();
    session(&storage).await;
    assert!(place.0.path().join("real/deep/sessions.db").is_file());
}

#[tokio::test]
async fn a_newer_schema_is_read_if_it_allows_that_and_never_written() {
    let place = Place::new();
    let mut log = session(&place.open()).await;
    place.sql().execute_batch("PRAGMA user_version = 3").unwrap();
    let storage = place.open();
    assert_eq!(lines(&storage, log.id()).await, expected(&log));
    log.noted("more");
    let result = log.take().send(&storage, Durability::Flushed).await;
    assert_eq!(result.unwrap_err().code(), ErrorCode::UnsupportedFormat);
    place.sql().execute_batch("UPDATE meta SET value = 3 WHERE key = 'readers'").unwrap();
    drop(storage);
    assert_eq!(place.refused().code(), ErrorCode::UnsupportedFormat);
}

/// A kill leaves a write-ahead log, and a user removes it as a leftover. The loss of its content is reported, the
/// content of the database is read, and nothing is written until the loss is accepted.
#[tokio::test]
async fn a_removed_write_ahead_log_is_detected() {
    let place = Place::new();
    let storage = place.open();
    let before = session(&storage).await;
    drop(storage); // Checkpoints it into the database.
    let storage = place.open();
    let mut grown = before.clone();
    grown.noted("only in the log").noted("also only in the log");
    store(&storage, &mut grown).await;
    let young = session(&storage).await;
    // Sessions are always created durably.
    let mut created = Log::plain();
    created.take().send(&storage, Durability::Buffered).await.unwrap();
    let quiet = Log::plain();
    let killed = place.killed();
    drop(storage);
    fs::remove_file(killed.sibling("-wal")).unwrap();
    let storage = killed.open();
    // The older session has its earlier records; the younger one has nothing.
    let page = storage.records(grown.id(), 0, std::num::NonZeroUsize::new(100).unwrap()).await.unwrap();
    assert_eq!(page.records, before.records());
    for (id, after, readable) in [(grown.id(), 5, 5), (young.id(), 0, 0)] {
        let error = storage.records(id, after, std::num::NonZeroUsize::MIN).await.unwrap_err();
        let StorageError::Corrupt { readable: found, what, .. } = error else { panic!("{error}") };
        assert_eq!(found, readable);
        assert!(
            what.contains(&format!("revision {} was stored", if readable == 5 { 7 } else { 5 })),
            "{what}"
        );
    }
    assert_eq!(storage.head(grown.id()).await.unwrap().as_ref(), Some(before.head()));
    assert_eq!(storage.head(young.id()).await.unwrap_err().code(), ErrorCode::Corrupt);
    let list = storage.list_all(&SessionFilter::all().name("no such name")).await.unwrap();
    let mut unreadable: Vec<SessionId> = list.unreadable.iter().map(|(id, _)| *id).collect();
    let mut missing = vec![grown.id(), young.id(), created.id()];
    unreadable.sort();
    missing.sort();
    assert_eq!(unreadable, missing, "reported for any filter");
    let error = quiet.whole().send(&storage, Durability::Buffered).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StorageUnavailable);
    assert!(error.to_string().contains("verify --repair --accept-loss"), "{error}");
    let result =
        storage.append(grown.id(), Expected::At(before.tip()), Batch::empty(), Durability::Flushed).await;
    assert_eq!(result.unwrap_err().code(), ErrorCode::Corrupt);
    assert_eq!(storage.delete(young.id(), young.tip()).await.unwrap_err().code(), ErrorCode::Corrupt);
    let health = storage.verify_all().await.unwrap();
    assert!(health.problems[0].contains("lost acknowledged changes"), "{:?}", health.problems);
    assert!(health.sessions.iter().all(|health| health.condition == Condition::Corrupt), "{health:?}");
    assert_eq!(storage.repair(grown.id(), AcceptedLoss::None).await.unwrap_err().code(), ErrorCode::Corrupt);
    let owned = storage.repair(grown.id(), loss()).await.unwrap_err();
    assert!(owned.to_string().contains("may still be owned by"), "{owned}");
    // One loss accepted: that session and all healthy ones can be written, the other stays corrupt.
    let repaired = storage.repair(grown.id(), loss_of(&before)).await.unwrap();
    assert_eq!((repaired.tip, repaired.loss.unwrap().flushed), (Some(before.tip()), 7));
    let mut continued = before.clone();
    continued.noted("and on");
    continued.take().send(&storage, Durability::Flushed).await.unwrap();
    assert_eq!(
        storage.verify(grown.id()).await.unwrap().condition,
        Condition::Degraded,
        "the loss is not acknowledged"
    );
    assert_eq!(storage.repair(grown.id(), AcceptedLoss::None).await.unwrap().acknowledged, 1);
    quiet.whole().send(&storage, Durability::Flushed).await.unwrap();
    drop(storage);
    let storage = killed.open();
    let list = storage.list_all(&SessionFilter::all().name("no such name")).await.unwrap();
    assert_eq!(list.unreadable.len(), 2, "{list:?}");
    assert_eq!(storage.repair(created.id(), loss()).await.unwrap().tip, None);
    let list = storage.list_all(&SessionFilter::all().name("no such name")).await.unwrap();
    assert_eq!(list.unreadable.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [young.id()]);
    assert_eq!(storage.repair(young.id(), loss()).await.unwrap().tip, None);
    assert_eq!(storage.head(young.id()).await.unwrap(), None);
    let health = storage.verify_all().await.unwrap();
    assert!(health.problems.is_empty(), "{health:?}");
    assert!(health.sessions.iter().all(|health| health.condition == Condition::Healthy), "{health:?}");
    young.whole().send(&storage, Durability::Flushed).await.unwrap();
}

/// Another session has lost the last change, so that nothing can be written, and the folder of a lost session stays for
/// the day on which the database is restored.
#[tokio::test]
async fn one_lost_change_is_enough_to_refuse_writes() {
    let place = Place::new();
    let storage = place.open();
    let log = session(&storage).await;
    drop(storage); // Checkpoints it into the database.
    let storage = place.open();
    let lost = Log::plain();
    lost.whole().send(&storage, Durability::Flushed).await.unwrap();
    let killed = place.killed();
    drop(storage);
    fs::remove_file(killed.sibling("-wal")).unwrap();
    let storage = killed.open();
    let mut more = log.clone();
    more.noted("on top of the loss");
    let error = more.take().send(&storage, Durability::Flushed).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StorageUnavailable, "{error}");
    let output = storage.sessions_dir().join(lost.id().to_string()).join("output");
    fs::create_dir_all(&output).unwrap();
    let _ = storage.reconcile().await;
    assert!(output.exists());
}

/// A restored backup that was written to, next to the marks of the original.
#[tokio::test]
async fn a_log_with_another_record_at_its_mark_is_refused() {
    let place = Place::new();
    let storage = place.open();
    let log = session(&storage).await;
    let (original, restored) = (place.killed(), place.killed());
    let append = async |place: &Place, text: &str| {
        let mut log = log.clone();
        log.noted(text);
        log.take().send(&place.open(), Durability::Flushed).await.unwrap();
        log
    };
    let acknowledged = append(&original, "acknowledged").await;
    let other = append(&restored, "another").await;
    assert_eq!(acknowledged.revision(), other.revision());
    fs::copy(restored.path(), original.path()).unwrap();
    let mut more = other.clone();
    more.noted("more");
    let error = more.take().send(&original.open(), Durability::Flushed).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Corrupt, "{error}");
}

/// A process opened the store while another checkpointed the log, page 1 first: the database alone then refers to pages
/// that it does not have yet. The check of the application id read it without the log, and reported damage. It reads
/// the log now.
#[tokio::test]
async fn a_database_during_a_checkpoint_is_not_reported_as_damaged() {
    use std::os::unix::fs::FileExt as _;
    let place = Place::new();
    let storage = place.open();
    let mut log = session(&storage).await;
    log.noted("larger than the database".repeat(2000));
    store(&storage, &mut log).await;
    let killed = place.killed();
    let file = fs::OpenOptions::new().write(true).open(killed.path()).unwrap();
    // The number of pages is at bytes 28 to 31 of a database.
    file.write_all_at(&9999u32.to_be_bytes(), 28).unwrap();
    drop((file, storage));
    let storage = killed.open();
    assert_eq!(lines(&storage, log.id()).await, expected(&log));
    assert!(storage.verify_all().await.unwrap().problems.is_empty());
}

#[tokio::test]
async fn the_loss_of_a_deletion_can_be_accepted() {
    let place = Place::new();
    let log = session(&place.open()).await;
    let storage = place.open();
    storage.delete(log.id(), log.tip()).await.unwrap();
    let killed = place.killed();
    drop(storage);
    fs::remove_file(killed.sibling("-wal")).unwrap();
    let storage = killed.open();
    let health = storage.verify(log.id()).await.unwrap();
    assert_eq!(health.condition, Condition::Degraded, "{health:?}");
    assert!(health.problem.unwrap().to_string().contains("lost acknowledged changes"));
    assert_eq!(
        storage.repair(log.id(), AcceptedLoss::None).await.unwrap_err().code(),
        ErrorCode::StorageUnavailable
    );
    storage.repair(log.id(), loss()).await.unwrap();
    let mut log = log;
    log.noted("lives on");
    log.take().send(&storage, Durability::Flushed).await.unwrap();
    assert_eq!(storage.verify(log.id()).await.unwrap().condition, Condition::Healthy);
}

#[tokio::test]
async fn garbage_in_the_shared_memory_file_loses_nothing() {
    let place = Place::new();
    let storage = place.open();
    let mut logs = [session(&storage).await, session(&storage).await];
    for garbage in [vec![0xa5; 32 * 1024], vec![0; 100], Vec::new()] {
        let killed = place.killed();
        fs::write(killed.sibling("-shm"), garbage).unwrap();
        let storage = killed.open();
        for log in &mut logs {
            assert_eq!(lines(&storage, log.id()).await, expected(log));
            let mut log = log.clone();
            log.noted("on");
            log.take().send(&storage, Durability::Flushed).await.unwrap();
        }
        assert!(storage.verify_all().await.unwrap().problems.is_empty());
    }
}

#[tokio::test]
async fn a_missing_database_is_not_an_empty_store() {
    let place = Place::new();
    let log = session(&place.open()).await;
    let open = place.open();
    assert!(open.head(log.id()).await.unwrap().is_some());
    let away = place.sibling("-away");
    fs::rename(place.path(), &away).unwrap();
    // Also through a handle that had it open.
    for error in [place.refused(), open.head(log.id()).await.unwrap_err(), {
        let new = Log::plain();
        new.whole().send(&open, Durability::Flushed).await.unwrap_err()
    }] {
        assert_eq!(error.code(), ErrorCode::StorageUnavailable);
        assert!(
            error.to_string().contains("is missing") && error.to_string().contains("1 sessions"),
            "{error}"
        );
    }
    assert!(!place.path().exists());
    fs::rename(&away, place.path()).unwrap();
    assert_eq!(lines(&open, log.id()).await, expected(&log));
    // The marks do not belong to another store in its place.
    let other = Place::new();
    drop(session(&other.open()).await);
    drop(open);
    fs::copy(other.path(), place.path()).unwrap();
    let error = place.refused();
    assert!(error.to_string().contains("belongs to store"), "{error}");
}

#[tokio::test]
async fn a_leftover_log_is_not_used_for_a_new_database() {
    let place = Place::new();
    let log = Log::plain();
    fs::write(place.sibling("-wal"), "a leftover of another database").unwrap();
    let error = place.refused();
    assert!(error.to_string().contains("-wal belongs to it"), "{error}");
    fs::remove_file(place.sibling("-wal")).unwrap();
    log.whole().send(&place.open(), Durability::Flushed).await.unwrap();
}

#[tokio::test]
async fn damaged_pages_are_typed_errors_and_never_silent() {
    let place = Place::new();
    let storage = place.open();
    let mut logs = Vec::new();
    for _ in 0..12 {
        let mut log = Log::plain();
        log.started().noted("x".repeat(3000)).noted("y".repeat(3000));
        store(&storage, &mut log).await;
        logs.push(log);
    }
    drop(storage);
    let intact = fs::read(place.path()).unwrap();
    let pages = intact.len() / 4096;
    assert!(pages > 20);
    for page in 0..pages {
        let mut bytes = intact.clone();
        for at in [page * 4096 + 3, page * 4096 + 8, page * 4096 + 2000, page * 4096 + 4000] {
            bytes[at] ^= 0x55;
        }
        fs::write(place.path(), &bytes).unwrap();
        let storage = match SqliteStorage::open(place.options()) {
            Ok(storage) => storage,
            Err(error) => {
                assert_eq!(error.code(), ErrorCode::StorageUnavailable, "page {page}: {error}");
                continue;
            }
        };
        for log in &logs {
            match storage.records_after(log.id(), 0).await {
                Ok(records) => assert_eq!(records, log.records(), "page {page}"),
                Err(error) => assert!(
                    matches!(error.code(), ErrorCode::Corrupt | ErrorCode::StorageUnavailable),
                    "page {page}: {error}"
                ),
            }
            match storage.head(log.id()).await {
                Ok(Some(head)) => assert!(log.head_at(head.tip.revision).is_some(), "page {page}"),
                Ok(None) => panic!("page {page}: a session has disappeared"),
                Err(error) => assert!(
                    matches!(error.code(), ErrorCode::Corrupt | ErrorCode::StorageUnavailable),
                    "page {page}: {error}"
                ),
            }
        }
        drop(storage.verify_all().await);
    }
}

#[tokio::test]
async fn a_wrong_index_is_reported_and_rebuilt() {
    let place = Place::new();
    let storage = place.open();
    let log = session(&storage).await;
    let sql = place.sql();
    sql.execute_batch("PRAGMA writable_schema = ON; \
        UPDATE sqlite_schema SET sql = replace(sql, '(name, id)', '(head, id)') WHERE name = 'sessions_by_name'; \
        PRAGMA writable_schema = RESET").unwrap();
    sql.execute_batch("REINDEX sessions_by_name; PRAGMA writable_schema = ON; \
        UPDATE sqlite_schema SET sql = replace(sql, '(head, id)', '(name, id)') WHERE name = 'sessions_by_name'; \
        PRAGMA writable_schema = RESET").unwrap();
    drop((sql, storage));
    let storage = place.open();
    let problems = storage.verify_all().await.unwrap().problems;
    assert!(problems.iter().any(|problem| problem.contains("sessions_by_name")), "{problems:?}");
    storage.reconcile().await.unwrap();
    assert!(storage.verify_all().await.unwrap().problems.is_empty());
    let found = storage.list_all(&SessionFilter::all().name("plain")).await.unwrap();
    assert_eq!(found.heads, [log.head().clone()]);
}

#[tokio::test]
async fn heads_and_search_columns_are_rebuilt_from_the_records() {
    let place = Place::new();
    let storage = place.open();
    let log = session(&storage).await;
    for damage in [
        "UPDATE sessions SET head = '{}'",
        "UPDATE sessions SET head = json_set(head, '$.name', 'another name')",
        "UPDATE sessions SET name = 'another name'",
        "UPDATE sessions SET state = 'completed', ended = 7",
        "UPDATE sessions SET revision = 4, sum = '0123456789abcdef'",
        "INSERT INTO labels VALUES ('a', 'b', (SELECT id FROM sessions))",
        "DELETE FROM sessions",
        "INSERT INTO records SELECT session, 6, line FROM records WHERE seq = 5",
    ] {
        place.sql().execute_batch(damage).unwrap();
        let health = storage.verify(log.id()).await.unwrap();
        assert_eq!(health.condition, Condition::Degraded, "{damage}: {health:?}");
        // All records are stored: reads are correct.
        assert_eq!(storage.head(log.id()).await.unwrap().as_ref(), Some(log.head()), "{damage}");
        let listed = storage.list_all(&SessionFilter::all()).await.unwrap();
        assert_eq!(
            (listed.heads.as_slice(), listed.unreadable.len()),
            ([log.head().clone()].as_slice(), 0),
            "{damage}"
        );
        assert_eq!(storage.repair(log.id(), AcceptedLoss::None).await.unwrap().before, Condition::Degraded);
        storage.repair(log.id(), AcceptedLoss::None).await.unwrap();
        let health = storage.verify(log.id()).await.unwrap();
        assert_eq!(health.condition, Condition::Healthy, "{damage}: {health:?}");
        assert_eq!(storage.head(log.id()).await.unwrap().as_ref(), Some(log.head()), "{damage}");
        assert_eq!(lines(&storage, log.id()).await, expected(&log), "{damage}");
        let listed = storage.list_all(&SessionFilter::active().name("plain")).await.unwrap();
        assert_eq!(listed.heads, [log.head().clone()], "{damage}");
    }
}

#[tokio::test]
async fn reconcile_repairs_leftovers_and_leaves_a_healthy_store_alone() {
    let place = Place::new();
    let storage = place.open();
    let (log, deleted) = (session(&storage).await, SessionId::random());
    for id in [log.id(), deleted] {
        fs::create_dir_all(storage.sessions_dir().join(id.to_string()).join("output")).unwrap();
    }
    fs::write(place.sibling("-files/new-unfinished"), "half a database").unwrap();
    place
        .sql()
        .execute_batch("INSERT INTO records SELECT session, 6, line FROM records WHERE seq = 5")
        .unwrap();
    let reconciled = storage.reconcile().await.unwrap();
    assert_eq!(reconciled.repaired, [(log.id(), Condition::Degraded)]);
    assert!(storage.sessions_dir().join(log.id().to_string()).exists());
    assert!(!storage.sessions_dir().join(deleted.to_string()).exists());
    assert!(!place.sibling("-files/new-unfinished").exists());
    storage.repair(log.id(), AcceptedLoss::None).await.unwrap();
    let before = place.tree();
    let reconciled = storage.reconcile().await.unwrap();
    assert!(reconciled.repaired.is_empty() && reconciled.failed.is_empty());
    assert_eq!(place.tree(), before);
}

#[tokio::test]
async fn deletion_removes_the_session_folder_and_follows_no_link() {
    let place = Place::new();
    let storage = place.open();
    let log = session(&storage).await;
    let folder = storage.sessions_dir().join(log.id().to_string());
    let precious = place.0.path().join("precious");
    fs::create_dir_all(&folder).unwrap();
    fs::create_dir(&precious).unwrap();
    fs::write(precious.join("file"), "mine").unwrap();
    symlink(&precious, folder.join("link")).unwrap();
    storage.delete(log.id(), log.tip()).await.unwrap();
    assert!(!folder.exists() && precious.join("file").exists());
}

#[tokio::test]
async fn a_write_reports_a_blocking_writer_after_the_lock_timeout() {
    let place = Place::new();
    let mut log = session(&place.open()).await;
    let timeout = Duration::from_millis(200);
    let storage = SqliteStorage::open(place.options().lock_timeout(timeout)).unwrap();
    let other = place.sql();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    log.noted("busy");
    let start = Instant::now();
    let before = log.clone();
    let error = log.take().send(&storage, Durability::Flushed).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StorageUnavailable);
    assert!(error.to_string().contains("another process is writing"), "{error}");
    assert!(start.elapsed() >= timeout, "{:?}", start.elapsed());
    // Reads are not blocked.
    assert_eq!(lines(&storage, log.id()).await.len(), 5);
    other.execute_batch("ROLLBACK").unwrap();
    let mut log = before;
    log.take().send(&storage, Durability::Flushed).await.unwrap();
    assert_eq!(lines(&storage, log.id()).await, expected(&log));
}

/// `SESSION_SQLITE_READER` sets the duration of the read in seconds: short in every test run, a minute by hand.
#[tokio::test]
async fn a_long_read_does_not_block_writes() {
    let seconds: u64 = std::env::var("SESSION_SQLITE_READER").ok().map_or(1, |text| text.parse().unwrap());
    let place = Place::new();
    let storage = place.open();
    let mut log = session(&storage).await;
    let reader = place.sql();
    reader.execute_batch("BEGIN").unwrap();
    let count = || reader.query_row("SELECT count(*) FROM records", [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(count(), 5);
    let (start, mut slowest, mut written) = (Instant::now(), Duration::ZERO, 0);
    while start.elapsed() < Duration::from_secs(seconds) || written < 1500 {
        log.noted("x".repeat(2000));
        let before = Instant::now();
        log.take().send(&storage, Durability::Flushed).await.unwrap();
        slowest = slowest.max(before.elapsed());
        written += 1;
    }
    let wal = fs::metadata(place.sibling("-wal")).unwrap().len();
    assert!(wal > 4 << 20, "the log grows during a read: {wal}");
    assert_eq!(count(), 5, "the reader sees one state");
    println!(
        "{written} appends during a read of {seconds} s, the slowest took {slowest:?}, {wal} bytes of log"
    );
    reader.execute_batch("COMMIT").unwrap();
    assert_eq!(lines(&storage, log.id()).await.len(), 5 + written);
    // Once the read has ended, the log is checkpointed.
    for _ in 0..3 {
        log.noted("and on");
        log.take().send(&storage, Durability::Flushed).await.unwrap();
    }
    drop((reader, storage));
    assert!(!place.sibling("-wal").exists());
    assert_eq!(lines(&place.open(), log.id()).await, expected(&log));
}

#[tokio::test]
async fn a_full_database_refuses_appends_until_there_is_room() {
    let place = Place::new();
    let storage = SqliteStorage::open(place.options().max_pages(60)).unwrap();
    let mut log = session(&storage).await;
    let other = session(&storage).await;
    let error = loop {
        let before = log.clone();
        log.noted("x".repeat(3000));
        if let Err(error) = log.take().send(&storage, Durability::Flushed).await {
            log = before;
            break error;
        }
        assert!(log.revision() < 200);
    };
    assert_eq!(error.code(), ErrorCode::StorageFull, "{error}");
    assert_eq!(lines(&storage, log.id()).await, expected(&log));
    assert_eq!(storage.head(log.id()).await.unwrap().as_ref(), Some(log.head()));
    // Deleting a session frees space.
    storage.delete(other.id(), other.tip()).await.unwrap();
    log.noted("y");
    log.take().send(&storage, Durability::Flushed).await.unwrap();
    drop(storage);
    let storage = place.open();
    log.noted("z".repeat(100_000));
    log.take().send(&storage, Durability::Flushed).await.unwrap();
    assert_eq!(lines(&storage, log.id()).await, expected(&log));
    assert!(storage.verify_all().await.unwrap().problems.is_empty());
}

#[tokio::test]
async fn after_a_failed_flush_the_log_is_flushed_again_first() {
    let place = Place::new();
    let storage = SqliteStorage::open(place.options().lock_timeout(Duration::from_millis(50))).unwrap();
    let mut log = session(&storage).await;
    // The marker that a process leaves when its flush fails.
    let marker = place.sibling("-files/untrusted");
    fs::write(&marker, "").unwrap();
    let reader = place.sql();
    reader.execute_batch("BEGIN; SELECT count(*) FROM records").unwrap();
    let before = log.clone();
    log.noted("while it is read");
    let error = log.take().send(&storage, Durability::Buffered).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StorageUnavailable, "{error}");
    assert!(marker.exists());
    reader.execute_batch("COMMIT").unwrap();
    drop(reader);
    let mut log = before;
    log.noted("after it");
    log.take().send(&storage, Durability::Flushed).await.unwrap();
    assert!(!marker.exists());
    assert_eq!(lines(&storage, log.id()).await, expected(&log));
}

#[tokio::test]
async fn an_empty_flushed_append_writes_only_if_the_tip_is_unflushed() {
    let place = Place::new();
    let storage = place.open();
    let mut log = session(&storage).await;
    let change = || {
        place
            .sql()
            .query_row("SELECT value FROM meta WHERE key = 'change'", [], |row| row.get::<_, i64>(0))
            .unwrap()
    };
    let flush = || storage.append(log.id(), Expected::At(log.tip()), Batch::empty(), Durability::Flushed);
    let before = change();
    flush().await.unwrap();
    assert_eq!(change(), before);
    log.noted("buffered");
    let other = place.open();
    log.take().send(&other, Durability::Buffered).await.unwrap();
    let flush = || storage.append(log.id(), Expected::At(log.tip()), Batch::empty(), Durability::Flushed);
    flush().await.unwrap();
    assert_eq!(change(), before + 2);
    let marks = fs::read_to_string(place.sibling("-files/marks")).unwrap();
    assert!(marks.contains(&format!("{:016x} {}", log.revision(), log.tip().sum)), "{marks}");
}

#[tokio::test]
async fn concurrent_appends_share_commits() {
    let place = Place::new();
    let storage = place.open();
    let mut logs = Vec::new();
    for _ in 0..32 {
        logs.push(session(&storage).await);
    }
    let change = || {
        place
            .sql()
            .query_row("SELECT value FROM meta WHERE key = 'change'", [], |row| row.get::<_, i64>(0))
            .unwrap()
    };
    let before = change();
    let mut writers = tokio::task::JoinSet::new();
    for mut log in logs {
        let storage = storage.clone();
        writers.spawn(async move {
            for n in 0..20 {
                log.noted(n);
                log.take().send(&storage, Durability::Flushed).await.unwrap();
            }
            log
        });
    }
    let logs = writers.join_all().await;
    let commits = change() - before;
    assert!(commits < 32 * 20 / 2, "{commits} commits for 640 appends");
    for log in &logs {
        assert_eq!(lines(&storage, log.id()).await, expected(log));
    }
}

/// Through one handle, so that readers and the writer share the marks.
#[tokio::test(flavor = "multi_thread")]
async fn reads_during_writes_report_no_damage() {
    let place = Place::new();
    let storage = place.open();
    let mut writers = tokio::task::JoinSet::new();
    for number in 0..4 {
        let storage = storage.clone();
        writers.spawn(async move {
            let id = SessionId::from_key(&format!("session-{number}"));
            for _ in 0..40 {
                // Deleted and created again, under the same id.
                let mut log = Log::with_id(id, session_core::SessionConfig::new("test"));
                for n in 0..5 {
                    log.noted(n);
                    log.take().send(&storage, Durability::Flushed).await.unwrap();
                }
                storage.delete(id, log.tip()).await.unwrap();
            }
        });
    }
    let mut rounds = 0;
    while !writers.is_empty() {
        for number in 0..4 {
            let id = SessionId::from_key(&format!("session-{number}"));
            if let Ok(health) = storage.verify(id).await {
                assert_eq!(health.condition, Condition::Healthy, "{health:?}");
            }
            storage.head(id).await.unwrap();
            match storage.records(id, 0, std::num::NonZeroUsize::new(9).unwrap()).await {
                Ok(page) => assert!(!page.records.is_empty()),
                Err(error) => assert_eq!(error.code(), ErrorCode::NotFound, "{error}"),
            }
        }
        let list = storage.list_all(&SessionFilter::all()).await.unwrap();
        assert!(list.unreadable.is_empty(), "{list:?}");
        rounds += 1;
        while writers.try_join_next().map(Result::unwrap).is_some() {}
    }
    assert!(rounds > 3);
}
