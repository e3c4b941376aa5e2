//! A value that is longer than any of ours is reported as damage, and is not taken over from `SQLite`. Alone in its process, whose memory is
//! measured.

#![expect(clippy::unwrap_used, reason = "a missing value fails the test")]

use std::num::NonZeroUsize;

use session_core::backend::{SessionStorage as _, SessionStorageExt as _};
use session_core::maintenance::{Condition, StorageMaintenance as _};
use session_core::{Durability, ErrorCode, SessionFilter};
use session_storage_sqlite::{SqliteStorage, SqliteStorageOptions};
use session_testkit::logs::Log;

/// The memory limit of the process, in KiB.
const MEMORY: u64 = 64 * 1024;
/// Half of the bytes of the long text.
const HALF: usize = 50_000_000;

fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().trim_end_matches(" kB").trim().parse().unwrap()
}

#[tokio::test]
async fn an_overlong_text_in_any_column_is_damage() {
    let columns = [
        "UPDATE records SET line = ?1 WHERE seq = 2",
        "UPDATE records SET line = ?1 WHERE seq = 4",
        "UPDATE sessions SET head = ?1",
        "UPDATE sessions SET sum = ?1",
        "UPDATE sessions SET name = ?1",
    ];
    for update in columns {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        let open = || SqliteStorage::open(SqliteStorageOptions::new(&path)).unwrap();
        let mut log = Log::plain();
        log.started().noted(1).noted(2);
        let (id, storage) = (log.id(), open());
        log.take().send(&storage, Durability::Flushed).await.unwrap();
        drop(storage);
        let connection = rusqlite::Connection::open(&path).unwrap();
        let text = update.replace("?1", &format!("hex(zeroblob({HALF}))"));
        connection.execute(&text, []).unwrap();
        drop(connection);
        // Resets the peak, which the update has raised.
        std::fs::write("/proc/self/clear_refs", "5").unwrap();

        let storage = open();
        let is_record = update.contains("records");
        let health = storage.verify(id).await.unwrap();
        let expected = if is_record { Condition::Corrupt } else { Condition::Degraded };
        assert_eq!(health.condition, expected, "{update}");
        assert_eq!(storage.verify_all().await.unwrap().sessions.len(), 1, "{update}");
        let read = storage.records_after(id, 0).await;
        if is_record {
            assert_eq!(read.unwrap_err().code(), ErrorCode::Corrupt, "{update}");
        } else {
            let first = storage.records(id, 0, NonZeroUsize::MAX).await.unwrap();
            assert_eq!(first.records, log.records(), "{update}");
        }
        storage.head(id).await.unwrap();
        storage.list_all(&SessionFilter::all()).await.unwrap();
        assert!(peak() < MEMORY, "{update}: {} KiB", peak());
    }
}
