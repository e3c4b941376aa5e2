//! The released schemas: this version reads and writes a store of every one. Also the queries of `docs/sqlite.md`.

#![expect(clippy::unwrap_used, reason = "in a test, a missing value is a failure")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use session_core::backend::{SessionStorage as _, SessionStorageExt as _};
use session_core::maintenance::{Condition, StorageMaintenance as _};
use session_core::{Durability, SessionConfig, SessionFilter, SessionId};
use session_storage_sqlite::{SqliteStorage, SqliteStorageOptions};
use session_testkit::logs::Log;

/// The schema version that this code writes.
const VERSION: u32 = 2;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn fixture(version: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/schema-{version}.sql"))
}

/// Returns the logs of the record format's fixtures, ascending by id.
fn logs() -> Vec<(SessionId, Vec<String>)> {
    let mut logs: Vec<_> = fs::read_dir(workspace().join("session-core/tests/fixtures/format-1"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
        .map(|path| {
            let id = path.file_stem().unwrap().to_str().unwrap().rsplit('.').next().unwrap().parse().unwrap();
            (id, fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect())
        })
        .collect();
    logs.sort();
    logs
}

fn open(path: &Path) -> SqliteStorage {
    SqliteStorage::open(SqliteStorageOptions::new(path)).unwrap()
}

async fn fill(storage: &SqliteStorage) {
    for (id, lines) in logs() {
        storage.import(id, &lines).await.unwrap();
    }
}

/// Dumps a database as text. Values that differ between stores are replaced by fixed ones.
fn dump(path: &Path) -> String {
    let sql = Connection::open(path).unwrap();
    let pragma = |name: &str| sql.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap();
    let mut text = String::new();
    for name in ["application_id", "user_version"] {
        writeln!(text, "PRAGMA {name} = {};", pragma(name)).unwrap();
    }
    let column = |query: &str| -> Vec<String> {
        sql.prepare(query).unwrap().query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    for table in column("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY rootpage") {
        writeln!(text, "{table};").unwrap();
    }
    for (table, columns, order) in [
        ("meta", "key, value", "key"),
        ("sessions", "id, name, state, updated, updated_second, ended, revision, sum, head, head_sum", "id"),
        ("labels", "key, value, session", "key, value, session"),
        ("records", "session, seq, line", "session, seq"),
    ] {
        let values = columns.split(", ").map(|column| format!("quote({column})")).collect::<Vec<_>>();
        let query = format!("SELECT {} FROM {table} ORDER BY {order}", values.join(" || ', ' || "));
        for row in column(&query) {
            let row = if row.starts_with("'store', ") {
                "'store', '0f3a1c52-9e0b-4d86-a1f4-2c5b8e907d13'".to_owned()
            } else {
                row
            };
            writeln!(text, "INSERT INTO {table} ({columns}) VALUES ({row});").unwrap();
        }
    }
    text
}

/// A change of the tables needs a new version, a migration to it, and its own fixture. With
/// `SESSION_SQLITE_WRITE_FIXTURE=1` this writes the fixture of the current version.
#[tokio::test]
async fn the_tables_match_the_fixture_of_this_version() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.db");
    let storage = open(&path);
    fill(&storage).await;
    drop(storage);
    let now = dump(&path);
    if std::env::var_os("SESSION_SQLITE_WRITE_FIXTURE").is_some() {
        fs::create_dir_all(fixture(VERSION).parent().unwrap()).unwrap();
        fs::write(fixture(VERSION), &now).unwrap();
    }
    let released = fs::read_to_string(fixture(VERSION)).unwrap();
    assert_eq!(now, released);
}

#[tokio::test]
async fn a_store_of_every_released_version_is_read_and_written() {
    for version in 1..=VERSION {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sessions.db");
        let sql = Connection::open(&path).unwrap();
        sql.execute_batch(&fs::read_to_string(fixture(version)).unwrap()).unwrap();
        sql.close().unwrap();
        let storage = open(&path);
        for (id, lines) in logs() {
            let records = storage.records_after(id, 0).await.unwrap();
            let found: Vec<&str> = records.iter().map(session_core::StoredRecord::line).collect();
            assert_eq!(found, lines, "schema {version}: {id}");
            let head = storage.head(id).await.unwrap().unwrap();
            assert!(
                storage.list_all(&SessionFilter::all().name(&head.name)).await.unwrap().heads.contains(&head)
            );
            // An ended session takes no more events, but it can be flushed.
            storage.flushed_head(id).await.unwrap();
        }
        let mut new = Log::plain();
        new.started();
        new.take().send(&storage, Durability::Flushed).await.unwrap();
        let health = storage.verify_all().await.unwrap();
        assert!(health.problems.is_empty(), "schema {version}: {health:?}");
        assert_eq!(health.sessions.len(), logs().len() + 1);
        assert!(
            health.sessions.iter().all(|health| health.condition == Condition::Healthy),
            "{version}: {health:?}"
        );
        drop(storage);
        let sql = Connection::open(&path).unwrap();
        let now: u32 = sql.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
        assert_eq!(now, VERSION);
    }
}

/// The queries of the page, run on a store of the fixtures' sessions and two more, with a row expected of each.
#[tokio::test]
async fn the_queries_of_the_page_return_the_expected_rows() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.db");
    let storage = open(&path);
    fill(&storage).await;
    for name in ["one", "two"] {
        let mut log = Log::new(SessionConfig::new("build").name(name).label("team", "data"));
        log.started().progress(1, 4);
        log.take().send(&storage, Durability::Flushed).await.unwrap();
    }
    let page = fs::read_to_string(workspace().join("docs/sqlite.md")).unwrap();
    let queries: Vec<&str> =
        page.split("```sql\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    let sql = Connection::open(&path).unwrap();
    let results: Vec<Vec<Vec<String>>> = queries
        .iter()
        .map(|query| {
            let mut statement = sql.prepare(query).unwrap();
            let columns = statement.column_count();
            let row = |row: &rusqlite::Row<'_>| {
                (0..columns)
                    .map(|column| {
                        let value: rusqlite::types::Value = row.get(column)?;
                        Ok(match value {
                            rusqlite::types::Value::Text(text) => text,
                            rusqlite::types::Value::Integer(number) => number.to_string(),
                            rusqlite::types::Value::Real(number) => number.to_string(),
                            other @ (rusqlite::types::Value::Null | rusqlite::types::Value::Blob(_)) => {
                                format!("{other:?}")
                            }
                        })
                    })
                    .collect::<rusqlite::Result<Vec<String>>>()
            };
            statement.query_map([], row).unwrap().map(Result::unwrap).collect()
        })
        .collect();
    assert_eq!(results.len(), 10);
    let holds = |query: usize, cells: &[&str]| {
        let rows = results.get(query - 1).unwrap();
        let found = rows.iter().any(|row| cells.iter().all(|cell| row.iter().any(|found| found == cell)));
        assert!(found, "{cells:?} is not a row of query {query}: {rows:?}");
    };
    holds(1, &["one", "running", "2026-11-21 09:30:00"]);
    holds(2, &["running", "5"]);
    holds(3, &["the compiler crashed", "139", "2026-11-21 09:30:04"]);
    holds(4, &["two", "running"]);
    holds(4, &["nightly-import", "completed"]);
    holds(5, &["4", "2026-11-21T09:30:04.000Z", "command_executed"]);
    holds(6, &["created", &(logs().len() + 2).to_string()]);
    holds(7, &["cc main.c", "11"]);
    holds(7, &["make -j8", "2"]);
    holds(8, &["make -j8", "1500"]);
    holds(9, &["one", "25", "on it", "testkit", "4711"]);
    holds(10, &["nightly-import", "37"]);
    for (number, rows) in (1..).zip(&results) {
        assert!(!rows.is_empty(), "query {number} returns no rows");
    }
}
