//! Damage of the marks and of the schema: reported by `verify_all`, repaired by `reconcile`, and never a hang.

#![expect(clippy::unwrap_used, reason = "in a test, a missing value is a failure")]

use std::fs::OpenOptions;
use std::path::PathBuf;
use std::time::Duration;

use rusqlite::Connection;
use session_core::backend::SessionStorageExt as _;
use session_core::maintenance::{Condition, StorageMaintenance as _};
use session_core::{
    Durability, ErrorCode, SessionConfig, SessionFilter, SessionId, StateName, StorageError, Timestamp,
};
use session_storage_sqlite::{SqliteStorage, SqliteStorageOptions};
use session_testkit::logs::Log;

/// A store with one session.
struct Place {
    folder: tempfile::TempDir,
    id: SessionId,
}

impl Place {
    async fn new() -> Self {
        let mut place = Self { folder: tempfile::tempdir().unwrap(), id: SessionId::random() };
        place.id = place.append().await;
        place
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("sessions.db")
    }

    fn open(&self) -> SqliteStorage {
        SqliteStorage::open(SqliteStorageOptions::new(self.path())).unwrap()
    }

    fn refused(&self) -> StorageError {
        SqliteStorage::open(SqliteStorageOptions::new(self.path())).unwrap_err()
    }

    /// Changes the database like another program.
    fn sql(&self, statements: &str) {
        Connection::open(self.path()).unwrap().execute_batch(statements).unwrap();
    }

    fn assert_refused(&self, change: &str, expected: &str) {
        self.sql(change);
        let error = self.refused();
        assert_eq!(error.code(), ErrorCode::StorageUnavailable, "{change}: {error}");
        assert!(error.to_string().contains(expected), "{change}: {error}");
    }

    /// Lists the sessions by each index.
    async fn assert_listed(&self, change: &str) {
        let storage = self.open();
        let filters = [
            SessionFilter::all(),
            SessionFilter::all().name("plain"),
            SessionFilter::all().state(StateName::Created),
            SessionFilter::active(),
            SessionFilter::all().updated_since(Timestamp::from_millis(1).unwrap()),
        ];
        for filter in filters {
            let found = storage.list_all(&filter).await;
            assert_eq!(found.unwrap().heads.len(), 1, "{change}: {filter:?}");
        }
        assert_eq!(session_core::backend::NameCounter::next(&storage, "plain").await, Some(1), "{change}");
    }

    /// Stores another session.
    async fn append(&self) -> SessionId {
        let (mut log, storage) = (Log::plain(), self.open());
        log.take().send(&storage, Durability::Flushed).await.unwrap();
        log.id()
    }
}

#[tokio::test]
async fn damaged_marks_are_reported_until_a_repair() {
    let place = Place::new().await;
    let marks = place.folder.path().join("sessions.db-files/marks");
    OpenOptions::new().write(true).open(&marks).unwrap().set_len(1 << 40).unwrap();
    let storage = place.open();
    assert_eq!(storage.list_all(&SessionFilter::all()).await.unwrap().heads.len(), 1);
    let found = storage.verify_all().await.unwrap();
    assert!(found.problems.iter().any(|problem| problem.contains("marks is damaged")), "{found:?}");
    let report = storage.reconcile().await.unwrap();
    assert!(report.store.iter().any(|repair| repair.contains("was rebuilt")), "{report:?}");
    for storage in [storage, place.open()] {
        let found = storage.verify_all().await.unwrap();
        assert!(found.problems.is_empty() && found.sessions.len() == 1, "{found:?}");
        assert_eq!(found.sessions.first().unwrap().flushed, 1, "the mark was kept");
    }
}

const INDEXES: [&str; 5] =
    ["sessions_by_state", "sessions_by_name", "sessions_by_update", "sessions_active", "labels_of_session"];
const TABLES: [&str; 4] = ["meta", "sessions", "labels", "records"];

/// Changes of indexes, each with the name of the index.
fn wrong_indexes() -> Vec<(String, &'static str)> {
    let mut changes = Vec::new();
    for name in INDEXES {
        changes.push((format!("DROP INDEX {name}"), name));
        changes.push((format!("DROP INDEX {name}; CREATE INDEX {name} ON sessions (head)"), name));
        changes.push((format!("DROP INDEX {name}; CREATE UNIQUE INDEX {name} ON records (seq)"), name));
    }
    changes.push(("CREATE UNIQUE INDEX foreign_index ON sessions (state)".to_owned(), "foreign_index"));
    changes
}

/// `ls` failed forever, and `verify --repair` found the store healthy.
#[tokio::test]
async fn wrong_indexes_are_reported_and_rebuilt_by_a_repair() {
    for (change, name) in wrong_indexes() {
        let place = Place::new().await;
        place.sql(&change);
        place.assert_listed(&change).await;
        let storage = place.open();
        let found = storage.verify_all().await.unwrap();
        assert!(found.problems.iter().any(|problem| problem.contains(name)), "{change}: {found:?}");
        let report = storage.reconcile().await.unwrap();
        assert!(report.store.iter().any(|repair| repair.contains(name)), "{change}: {report:?}");
        drop(storage);
        let found = place.open().verify_all().await.unwrap();
        assert!(found.problems.is_empty(), "{change}: {found:?}");
        place.assert_listed(&change).await;
    }
}

#[tokio::test]
async fn the_first_write_rebuilds_wrong_indexes() {
    for (change, _) in wrong_indexes() {
        let place = Place::new().await;
        place.sql(&change);
        place.append().await;
        assert!(place.open().verify_all().await.unwrap().problems.is_empty(), "{change}");
    }
}

#[tokio::test]
async fn an_index_dropped_from_an_open_store_fails_no_read() {
    let place = Place::new().await;
    let storage = place.open();
    let filter = SessionFilter::all().name("plain");
    assert_eq!(storage.list_all(&filter).await.unwrap().heads.len(), 1);
    place.sql("DROP INDEX sessions_by_name");
    // Each of the threads that read.
    for _ in 0..8 {
        assert_eq!(storage.list_all(&filter).await.unwrap().heads.len(), 1);
    }
    storage.reconcile().await.unwrap();
    assert!(place.open().verify_all().await.unwrap().problems.is_empty());
}

#[tokio::test]
async fn a_store_without_a_table_is_refused() {
    for table in TABLES {
        let place = Place::new().await;
        place.assert_refused(&format!("DROP TABLE {table}"), &format!("has no table `{table}`"));
    }
}

#[tokio::test]
async fn a_store_with_other_columns_is_refused() {
    for table in TABLES {
        let place = Place::new().await;
        let sql = Connection::open(place.path()).unwrap();
        let mut select = sql.prepare("SELECT name FROM pragma_table_info(?1)").unwrap();
        let columns: Vec<String> =
            select.query_map([table], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        assert!(columns.len() > 1);
        for column in columns {
            let place = Place::new().await;
            let change = format!("ALTER TABLE {table} RENAME COLUMN {column} TO other");
            place.assert_refused(
                &change,
                &format!("other columns than a session store in its table `{table}`"),
            );
        }
        let change = format!("ALTER TABLE {table} ADD COLUMN other TEXT");
        place.assert_refused(&change, &format!("in its table `{table}`"));
    }
}

/// A view of this table that never ends.
fn endless_view(table: &str) -> String {
    format!(
        "ALTER TABLE {table} RENAME TO other; \
         CREATE VIEW {table} AS WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n) \
         SELECT other.* FROM n, other"
    )
}

#[tokio::test]
async fn a_view_in_place_of_a_table_is_refused() {
    for table in TABLES {
        let place = Place::new().await;
        place.assert_refused(&endless_view(table), &format!("has no table `{table}`, or something else"));
    }
}

#[tokio::test]
async fn what_is_not_part_of_a_store_is_refused() {
    for table in TABLES {
        for event in ["INSERT", "UPDATE", "DELETE"] {
            let place = Place::new().await;
            let change = format!("CREATE TRIGGER {table} AFTER {event} ON {table} BEGIN SELECT 1; END");
            place.assert_refused(&change, "contains the trigger");
        }
    }
    Place::new().await.assert_refused("CREATE VIEW mine AS SELECT 1", "remove it with `DROP VIEW \"mine\"`");
    Place::new().await.assert_refused("CREATE TABLE mine (a)", "remove it with `DROP TABLE \"mine\"`");
}

#[tokio::test]
async fn a_newer_store_with_a_view_in_place_of_a_table_is_refused() {
    for table in TABLES {
        let place = Place::new().await;
        place.sql("PRAGMA user_version = 3");
        place.assert_refused(&endless_view(table), &format!("has no table `{table}`"));
    }
}

#[tokio::test]
async fn endless_statements_of_an_open_store_are_interrupted() {
    let place = Place::new().await;
    let options = SqliteStorageOptions::new(place.path()).statement_timeout(Duration::from_millis(200));
    let storage = SqliteStorage::open(options).unwrap();
    let mut log = Log::plain();
    log.take().send(&storage, Durability::Flushed).await.unwrap();
    let filter = SessionFilter::all().name("plain");
    assert_eq!(storage.list_all(&filter).await.unwrap().heads.len(), 2);
    place.sql(
        "CREATE TRIGGER endless AFTER INSERT ON records BEGIN \
         INSERT INTO labels WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n) \
         SELECT 'a', 'b', n FROM n WHERE n < 0; END",
    );
    log.started();
    let error = log.take().send(&storage, Durability::Flushed).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StorageUnavailable, "{error}");
    assert!(error.to_string().contains("did not end in time"), "{error}");
    place.sql("DROP TRIGGER endless");
    place.sql(&endless_view("sessions"));
    let error = storage.list_all(&filter).await.unwrap_err();
    assert!(error.to_string().contains("has no table `sessions`"), "{error}");
}

/// `SQLite` reads a key that it compares as a whole, so that memory is bounded by the text here, but nothing else is affected.
#[tokio::test]
async fn an_overlong_key_of_any_table_is_damage_of_its_session_only() {
    let cases = [
        (
            "UPDATE records SET session = ?1 WHERE seq = 4 AND session = (SELECT id FROM sessions WHERE name = 'one')",
            Condition::Corrupt,
        ),
        ("UPDATE sessions SET id = ?1 WHERE name = 'one'", Condition::Degraded),
        ("UPDATE labels SET session = ?1 WHERE value = 'one'", Condition::Degraded),
        ("UPDATE labels SET value = ?1 WHERE value = 'one'", Condition::Degraded),
        ("UPDATE labels SET key = ?1 WHERE value = 'one'", Condition::Degraded),
    ];
    for (update, condition) in cases {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        let open = || SqliteStorage::open(SqliteStorageOptions::new(&path)).unwrap();
        let storage = open();
        let [one, other] = ["one", "other"].map(|name| {
            let mut log = Log::new(SessionConfig::new("work").name(name).label("of", name));
            log.started().noted(1).noted(2);
            log
        });
        let ids = [one.id(), other.id()];
        for mut log in [one, other] {
            log.take().send(&storage, Durability::Flushed).await.unwrap();
        }
        drop(storage);
        let connection = Connection::open(&path).unwrap();
        let text = update.replace("?1", "hex(zeroblob(5000000))");
        connection.execute(&text, []).unwrap();
        drop(connection);

        let storage = open();
        assert_eq!(storage.verify(ids[0]).await.unwrap().condition, condition, "{update}");
        assert_eq!(storage.verify(ids[1]).await.unwrap().condition, Condition::Healthy, "{update}");
        let health = storage.verify_all().await.unwrap();
        assert_eq!(health.sessions.len(), 2, "{update}");
        assert!(!health.problems.is_empty(), "{update}: {health:?}");
        for filter in
            [SessionFilter::all(), SessionFilter::all().label("of", "other"), SessionFilter::active()]
        {
            let found = storage.list_all(&filter).await.unwrap();
            assert!(found.heads.iter().any(|head| head.id == ids[1]), "{update}: {filter:?}");
        }
    }
}
