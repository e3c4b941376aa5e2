//! What a store in a database is, beyond the laws that all backends keep: which paths it takes, what it refuses to touch, and
//! what it does with what was lost, damaged, held or full.

#![expect(clippy::unwrap_used, reason = "in a test, what is not there is a failure")]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use session_core::{
    AcceptedLoss, Batch, Condition, Durability, ErrorCode, Expected, SessionFilter, SessionId,
    SessionStorage as _, SessionStorageExt as _, StorageError, StorageMaintenance as _,
};
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

    fn beside(&self, ending: &str) -> PathBuf {
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

    /// The database as others see it.
    fn sql(&self) -> Connection {
        Connection::open(self.path()).unwrap()
    }

    /// The files as a kill leaves them: in a place of their own.
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

/// Everything below a folder, with its content.
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

/// A running session of five records, each flushed.
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

/// Whoever owns the sessions of these tests is nobody.
fn loss() -> AcceptedLoss {
    AcceptedLoss::Of { dead: vec![] }
}

fn loss_of(log: &Log) -> AcceptedLoss {
    AcceptedLoss::Of { dead: log.head().lifecycle.owner.iter().map(|owner| owner.instance).collect() }
}

#[tokio::test]
async fn looking_creates_nothing_and_the_first_session_makes_the_store() {
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
async fn the_last_handle_leaves_one_file_and_the_marks() {
    let place = Place::new();
    let storage = place.open();
    let log = session(&storage).await;
    storage.head(log.id()).await.unwrap();
    drop(storage);
    let names: Vec<PathBuf> = place.tree().into_iter().map(|(path, _)| path).collect();
    let expected = ["sessions.db", "sessions.db-files", "sessions.db-files/marks"];
    assert_eq!(names, expected.map(|name| place.0.path().join(name)));
    assert_eq!(lines(&place.open(), log.id()).await, self::expected(&log));
}

#[tokio::test]
async fn what_is_no_store_is_refused_and_stays_as_it_is() {
    let place = Place::new();
    let foreign = place.sql();
    foreign
        .execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE bills (cents); INSERT INTO bills VALUES (7)")
        .unwrap();
    foreign.close().unwrap();
    let mut cases = vec![("no store of sessions", fs::read(place.path()).unwrap())];
    cases.push(("no SQLite database", b"Dear diary, ".repeat(1000)));
    cases.push(("no store of sessions", Vec::new()));
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
async fn links_in_the_places_of_our_files_are_refused() {
    for name in ["", "-wal", "-shm", "-files"] {
        let place = Place::new();
        if !name.is_empty() {
            drop(session(&place.open()).await);
        }
        let elsewhere = Place::new();
        let target = elsewhere.0.path().join("target");
        let link = place.beside(name);
        if name == "-files" {
            fs::rename(&link, &target).unwrap();
        } else {
            fs::write(&target, "precious").unwrap();
        }
        symlink(&target, &link).unwrap();
        let before = tree(elsewhere.0.path());
        let error = place.refused();
        assert!(error.to_string().contains("put it away"), "{name}: {error}");
        assert_eq!(tree(elsewhere.0.path()), before, "{name}");
    }
    // Above the store the user's own links are as good as folders.
    let place = Place::new();
    let link = place.0.path().join("link");
    fs::create_dir(place.0.path().join("real")).unwrap();
    symlink(place.0.path().join("real"), &link).unwrap();
    let storage = SqliteStorage::open(SqliteStorageOptions::new(link.join("deep/sessions.db"))).unwrap();
    session(&storage).await;
    assert!(place.0.path().join("real/deep/sessions.db").is_file());
}

#[tokio::test]
async fn a_newer_version_is_read_if_it_says_so_and_never_written() {
    let place = Place::new();
    let mut log = session(&place.open()).await;
    place.sql().execute_batch("PRAGMA user_version = 2").unwrap();
    let storage = place.open();
    assert_eq!(lines(&storage, log.id()).await, expected(&log));
    log.noted("more");
    let answer = log.take().send(&storage, Durability::Flushed).await;
    assert_eq!(answer.unwrap_err().code(), ErrorCode::UnsupportedFormat);
    place.sql().execute_batch("UPDATE meta SET value = 2 WHERE key = 'readers'").unwrap();
    drop(storage);
    assert_eq!(place.refused().code(), ErrorCode::UnsupportedFormat);
}

/// A kill leaves a write-ahead log; somebody removes it as a leftover. What was only in it is named, what was in the database
/// already is read, and nothing is written until the loss is accepted.
#[tokio::test]
async fn a_write_ahead_log_that_was_removed_is_found_out() {
    let place = Place::new();
    let storage = place.open();
    let before = session(&storage).await;
    drop(storage); // Copied into the database.
    let storage = place.open();
    let mut grown = before.clone();
    grown.noted("only in the log").noted("this too");
    store(&storage, &mut grown).await;
    let young = session(&storage).await;
    // Sessions are always created durably.
    let mut created = Log::plain();
    created.take().send(&storage, Durability::Buffered).await.unwrap();
    let quiet = Log::plain();
    let killed = place.killed();
    drop(storage);
    fs::remove_file(killed.beside("-wal")).unwrap();
    let storage = killed.open();
    // Of the older session all that is left; of the younger one nothing.
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
    let list = storage.list_all(&SessionFilter::all().name("nobody")).await.unwrap();
    let mut unreadable: Vec<SessionId> = list.unreadable.iter().map(|(id, _)| *id).collect();
    let mut gone = vec![grown.id(), young.id(), created.id()];
    unreadable.sort();
    gone.sort();
    assert_eq!(unreadable, gone, "named whatever the filter says");
    let error = quiet.whole().send(&storage, Durability::Buffered).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StorageUnavailable);
    assert!(error.to_string().contains("verify --repair --accept-loss"), "{error}");
    let answer =
        storage.append(grown.id(), Expected::At(before.tip()), Batch::empty(), Durability::Flushed).await;
    assert_eq!(answer.unwrap_err().code(), ErrorCode::Corrupt);
    assert_eq!(storage.delete(young.id(), young.tip()).await.unwrap_err().code(), ErrorCode::Corrupt);
    let health = storage.verify_all().await.unwrap();
    assert!(health.problems[0].contains("lost something that was acknowledged"), "{:?}", health.problems);
    assert!(health.sessions.iter().all(|health| health.condition == Condition::Corrupt), "{health:?}");
    assert_eq!(storage.repair(grown.id(), AcceptedLoss::None).await.unwrap_err().code(), ErrorCode::Corrupt);
    let owned = storage.repair(grown.id(), loss()).await.unwrap_err();
    assert!(owned.to_string().contains("not known to be dead"), "{owned}");
    // One loss accepted: that session and all healthy ones can be written, the other is as lost as before.
    let repaired = storage.repair(grown.id(), loss_of(&before)).await.unwrap();
    assert_eq!((repaired.tip, repaired.loss.unwrap().flushed), (Some(before.tip()), 7));
    let mut on = before.clone();
    on.noted("and on");
    on.take().send(&storage, Durability::Flushed).await.unwrap();
    assert_eq!(
        storage.verify(grown.id()).await.unwrap().condition,
        Condition::Degraded,
        "nobody acknowledged it"
    );
    assert_eq!(storage.repair(grown.id(), AcceptedLoss::None).await.unwrap().acknowledged, 1);
    quiet.whole().send(&storage, Durability::Flushed).await.unwrap();
    drop(storage);
    let storage = killed.open();
    let list = storage.list_all(&SessionFilter::all().name("nobody")).await.unwrap();
    assert_eq!(list.unreadable.len(), 2, "{list:?}");
    assert_eq!(storage.repair(created.id(), loss()).await.unwrap().tip, None);
    let list = storage.list_all(&SessionFilter::all().name("nobody")).await.unwrap();
    assert_eq!(list.unreadable.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [young.id()]);
    assert_eq!(storage.repair(young.id(), loss()).await.unwrap().tip, None);
    assert_eq!(storage.head(young.id()).await.unwrap(), None);
    let health = storage.verify_all().await.unwrap();
    assert!(health.problems.is_empty(), "{health:?}");
    assert!(health.sessions.iter().all(|health| health.condition == Condition::Healthy), "{health:?}");
    young.whole().send(&storage, Durability::Flushed).await.unwrap();
}

/// A process opened the store while another copied the log into the database, page 1 first: the database alone then speaks of
/// pages that it does not have yet. The look whether it is ours was one without the log, and said `damaged`. It is ours now.
#[tokio::test]
async fn a_database_into_which_its_log_is_being_copied_is_no_damage() {
    use std::os::unix::fs::FileExt as _;
    let place = Place::new();
    let storage = place.open();
    let mut log = session(&storage).await;
    log.noted("larger than what is there".repeat(2000));
    store(&storage, &mut log).await;
    let killed = place.killed();
    let file = fs::OpenOptions::new().write(true).open(killed.path()).unwrap();
    // The number of pages: bytes 28 to 31 of a database.
    file.write_all_at(&9999u32.to_be_bytes(), 28).unwrap();
    drop((file, storage));
    let storage = killed.open();
    assert_eq!(lines(&storage, log.id()).await, expected(&log));
    assert!(storage.verify_all().await.unwrap().problems.is_empty());
}

#[tokio::test]
async fn a_deletion_that_was_lost_can_be_accepted_too() {
    let place = Place::new();
    let log = session(&place.open()).await;
    let storage = place.open();
    storage.delete(log.id(), log.tip()).await.unwrap();
    let killed = place.killed();
    drop(storage);
    fs::remove_file(killed.beside("-wal")).unwrap();
    let storage = killed.open();
    let health = storage.verify(log.id()).await.unwrap();
    assert_eq!(health.condition, Condition::Degraded, "{health:?}");
    assert!(health.problem.unwrap().to_string().contains("lost something"));
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
async fn shared_memory_that_is_garbage_costs_nothing() {
    let place = Place::new();
    let storage = place.open();
    let mut logs = [session(&storage).await, session(&storage).await];
    for garbage in [vec![0xa5; 32 * 1024], vec![0; 100], Vec::new()] {
        let killed = place.killed();
        fs::write(killed.beside("-shm"), garbage).unwrap();
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
async fn a_database_that_is_missing_is_not_an_empty_store() {
    let place = Place::new();
    let log = session(&place.open()).await;
    let open = place.open();
    assert!(open.head(log.id()).await.unwrap().is_some());
    let away = place.beside("-away");
    fs::rename(place.path(), &away).unwrap();
    // Also for those who had it open.
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
    // Another store in its place is not one that these marks are of.
    let other = Place::new();
    drop(session(&other.open()).await);
    drop(open);
    fs::copy(other.path(), place.path()).unwrap();
    let error = place.refused();
    assert!(error.to_string().contains("marks of the store"), "{error}");
}

#[tokio::test]
async fn a_log_that_lost_its_database_is_not_given_to_another() {
    let place = Place::new();
    let log = Log::plain();
    fs::write(place.beside("-wal"), "what is left of another").unwrap();
    let error = place.refused();
    assert!(error.to_string().contains("-wal belongs to it"), "{error}");
    fs::remove_file(place.beside("-wal")).unwrap();
    log.whole().send(&place.open(), Durability::Flushed).await.unwrap();
}

#[tokio::test]
async fn damaged_pages_are_typed_errors_and_never_silence() {
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
    let whole = fs::read(place.path()).unwrap();
    let pages = whole.len() / 4096;
    assert!(pages > 20);
    for page in 0..pages {
        let mut bytes = whole.clone();
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
                Ok(None) => panic!("page {page}: a session has vanished"),
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
async fn an_index_that_is_wrong_is_named_and_made_anew() {
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
async fn heads_and_what_one_searches_for_are_caches_of_the_records() {
    let place = Place::new();
    let storage = place.open();
    let log = session(&storage).await;
    for harm in [
        "UPDATE sessions SET head = '{}'",
        "UPDATE sessions SET head = json_set(head, '$.name', 'somebody')",
        "UPDATE sessions SET name = 'somebody'",
        "UPDATE sessions SET state = 'completed', ended = 7",
        "UPDATE sessions SET revision = 4, sum = '0123456789abcdef'",
        "INSERT INTO labels VALUES ('a', 'b', (SELECT id FROM sessions))",
        "DELETE FROM sessions",
        "INSERT INTO records SELECT session, 6, line FROM records WHERE seq = 5",
    ] {
        place.sql().execute_batch(harm).unwrap();
        let health = storage.verify(log.id()).await.unwrap();
        assert_eq!(health.condition, Condition::Degraded, "{harm}: {health:?}");
        // All records are there: what is read is right.
        assert_eq!(storage.head(log.id()).await.unwrap().as_ref(), Some(log.head()), "{harm}");
        let listed = storage.list_all(&SessionFilter::all()).await.unwrap();
        assert_eq!(
            (listed.heads.as_slice(), listed.unreadable.len()),
            ([log.head().clone()].as_slice(), 0),
            "{harm}"
        );
        assert_eq!(storage.repair(log.id(), AcceptedLoss::None).await.unwrap().before, Condition::Degraded);
        storage.repair(log.id(), AcceptedLoss::None).await.unwrap();
        let health = storage.verify(log.id()).await.unwrap();
        assert_eq!(health.condition, Condition::Healthy, "{harm}: {health:?}");
        assert_eq!(storage.head(log.id()).await.unwrap().as_ref(), Some(log.head()), "{harm}");
        assert_eq!(lines(&storage, log.id()).await, expected(&log), "{harm}");
        let listed = storage.list_all(&SessionFilter::active().name("plain")).await.unwrap();
        assert_eq!(listed.heads, [log.head().clone()], "{harm}");
    }
}

#[tokio::test]
async fn recovery_mends_what_is_left_and_writes_nothing_to_a_healthy_store() {
    let place = Place::new();
    let storage = place.open();
    let (log, gone) = (session(&storage).await, SessionId::random());
    for id in [log.id(), gone] {
        fs::create_dir_all(storage.sessions_dir().join(id.to_string()).join("output")).unwrap();
    }
    fs::write(place.beside("-files/new-unfinished"), "half a database").unwrap();
    place
        .sql()
        .execute_batch("INSERT INTO records SELECT session, 6, line FROM records WHERE seq = 5")
        .unwrap();
    let reconciled = storage.reconcile().await.unwrap();
    assert_eq!(reconciled.repaired, [(log.id(), Condition::Degraded)]);
    assert!(storage.sessions_dir().join(log.id().to_string()).exists());
    assert!(!storage.sessions_dir().join(gone.to_string()).exists());
    assert!(!place.beside("-files/new-unfinished").exists());
    storage.repair(log.id(), AcceptedLoss::None).await.unwrap();
    let before = place.tree();
    let reconciled = storage.reconcile().await.unwrap();
    assert!(reconciled.repaired.is_empty() && reconciled.failed.is_empty());
    assert_eq!(place.tree(), before);
}

#[tokio::test]
async fn what_belongs_to_a_session_goes_with_it_and_no_link_is_followed() {
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
async fn a_writer_that_holds_on_is_waited_for_and_then_named() {
    let place = Place::new();
    let mut log = session(&place.open()).await;
    let patience = Duration::from_millis(200);
    let storage = SqliteStorage::open(place.options().lock_timeout(patience)).unwrap();
    let other = place.sql();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    log.noted("busy");
    let start = Instant::now();
    let before = log.clone();
    let error = log.take().send(&storage, Durability::Flushed).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StorageUnavailable);
    assert!(error.to_string().contains("another process is writing"), "{error}");
    assert!(start.elapsed() >= patience, "{:?}", start.elapsed());
    // Readers are not held up.
    assert_eq!(lines(&storage, log.id()).await.len(), 5);
    other.execute_batch("ROLLBACK").unwrap();
    let mut log = before;
    log.take().send(&storage, Durability::Flushed).await.unwrap();
    assert_eq!(lines(&storage, log.id()).await, expected(&log));
}

/// How long a reader stands is chosen by a variable, in seconds: a moment in every test run, a minute by hand.
#[tokio::test]
async fn a_reader_that_stands_for_long_holds_up_no_writer() {
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
    let wal = fs::metadata(place.beside("-wal")).unwrap().len();
    assert!(wal > 4 << 20, "the log grows while somebody reads what is in the database: {wal}");
    assert_eq!(count(), 5, "the reader sees one state");
    println!(
        "{written} appends beside a reader of {seconds} s, the slowest took {slowest:?}, {wal} bytes of log"
    );
    reader.execute_batch("COMMIT").unwrap();
    assert_eq!(lines(&storage, log.id()).await.len(), 5 + written);
    // Once it is gone, what was written goes to the database.
    for _ in 0..3 {
        log.noted("and on");
        log.take().send(&storage, Durability::Flushed).await.unwrap();
    }
    drop((reader, storage));
    assert!(!place.beside("-wal").exists());
    assert_eq!(lines(&place.open(), log.id()).await, expected(&log));
}

#[tokio::test]
async fn without_room_nothing_is_acknowledged_and_with_room_it_goes_on() {
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
    // Room is made: a session goes.
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
async fn after_a_flush_that_failed_the_log_is_begun_anew_before_anything_is_acknowledged() {
    let place = Place::new();
    let storage = SqliteStorage::open(place.options().lock_timeout(Duration::from_millis(50))).unwrap();
    let mut log = session(&storage).await;
    // As whoever's flush fails leaves it for all others.
    let untrusted = place.beside("-files/untrusted");
    fs::write(&untrusted, "").unwrap();
    let reader = place.sql();
    reader.execute_batch("BEGIN; SELECT count(*) FROM records").unwrap();
    let before = log.clone();
    log.noted("while it is read");
    let error = log.take().send(&storage, Durability::Buffered).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StorageUnavailable, "{error}");
    assert!(untrusted.exists());
    reader.execute_batch("COMMIT").unwrap();
    drop(reader);
    let mut log = before;
    log.noted("after it");
    log.take().send(&storage, Durability::Flushed).await.unwrap();
    assert!(!untrusted.exists());
    assert_eq!(lines(&storage, log.id()).await, expected(&log));
}

#[tokio::test]
async fn a_flush_of_what_is_flushed_writes_nothing_and_one_of_what_is_not_does() {
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
    let marks = fs::read_to_string(place.beside("-files/marks")).unwrap();
    assert!(marks.contains(&format!("{:016x} {}", log.revision(), log.tip().sum)), "{marks}");
}

#[tokio::test]
async fn those_who_write_at_once_share_commits() {
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

/// Through one handle, so that readers and the writer share what is known to be flushed.
#[tokio::test(flavor = "multi_thread")]
async fn readers_beside_writers_raise_no_false_alarm() {
    let place = Place::new();
    let storage = place.open();
    let mut writers = tokio::task::JoinSet::new();
    for number in 0..4 {
        let storage = storage.clone();
        writers.spawn(async move {
            let id = SessionId::from_key(&format!("session-{number}"));
            for _ in 0..40 {
                // Deleted and made anew, under the same id.
                let mut log = Log::with_id(id, session_core::SessionConfig::new("test"));
                for n in 0..5 {
                    log.noted(n);
                    log.take().send(&storage, Durability::Flushed).await.unwrap();
                }
                storage.delete(id, log.tip()).await.unwrap();
            }
        });
    }
    let mut looks = 0;
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
        looks += 1;
        while writers.try_join_next().map(Result::unwrap).is_some() {}
    }
    assert!(looks > 3);
}
