//! The laws of the storage port, over databases in temporary folders.

#![expect(clippy::unwrap_used, reason = "in a test, a missing value is a failure")]

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use rusqlite::{Connection, params};
use session_core::backend::SessionStorage;
use session_core::{SessionId, StorageError};
use session_storage_sqlite::{SqliteStorage, SqliteStorageOptions};
use session_testkit::{Crash, Damage, Harness, NotSupported, storage_laws};
use tempfile::TempDir;

/// A store in a temporary folder. After a kill, the store is a copy of its files at that moment.
struct Database {
    folder: TempDir,
    kills: Mutex<usize>,
}

impl Database {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), kills: Mutex::new(0) }
    }

    fn place(&self) -> PathBuf {
        self.folder.path().join(format!("life-{}", self.kills.lock().unwrap()))
    }

    fn path(&self) -> PathBuf {
        self.place().join("sessions.db")
    }
}

/// Copies all files below a folder.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[async_trait]
impl Harness for Database {
    async fn open(&self) -> Result<Arc<dyn SessionStorage>, StorageError> {
        Ok(Arc::new(SqliteStorage::open(SqliteStorageOptions::new(self.path()))?))
    }

    async fn crash(&self, crash: Crash) -> Result<(), NotSupported> {
        if crash != Crash::Kill {
            return Err(NotSupported("SQLite writes to a real disk, and a test cannot cut its power"));
        }
        // A kill leaves the content of the files; the old handles keep the old files.
        let before = self.place();
        *self.kills.lock().unwrap() += 1;
        copy(&before, &self.place());
        Ok(())
    }

    async fn fail_next_flush(&self) -> Result<(), NotSupported> {
        Err(NotSupported("SQLite flushes through the system, and a test cannot make that fail"))
    }

    async fn damage(&self, id: SessionId, damage: Damage) -> Result<(), NotSupported> {
        let mut connection = Connection::open(self.path()).unwrap();
        let transaction = connection.transaction().unwrap();
        let id = id.to_string();
        let mut lines: Vec<Vec<u8>> = transaction
            .prepare("SELECT CAST(line AS BLOB) FROM records WHERE session = ?1 ORDER BY seq")
            .unwrap()
            .query_map([&id], |row| row.get(0))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        damage.apply(&mut lines, |line| line);
        transaction.execute("DELETE FROM records WHERE session = ?1", [&id]).unwrap();
        for (seq, line) in (1i64..).zip(lines) {
            transaction
                .execute("INSERT INTO records VALUES (?1, ?2, CAST(?3 AS TEXT))", params![id, seq, line])
                .unwrap();
        }
        transaction.commit().unwrap();
        Ok(())
    }
}

storage_laws!(|| async { Database::new() });
