//! Damage of the marks and of the schema: reported by `verify_all`, repaired by `reconcile`, and never a hang.

#![expect(clippy::unwrap_used, reason = "in a test, a missing value is a failure")]

use std::fs::OpenOptions;
use std::path::PathBuf;

use session_core::backend::SessionStorageExt as _;
use session_core::maintenance::StorageMaintenance as _;
use session_core::{Durability, SessionFilter, SessionId};
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
