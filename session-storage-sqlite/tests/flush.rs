//! The flushes of a store and their order, traced from outside with `strace`.
//!
//! The traced process is this test program, started again with a store in its environment.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use session_core::Durability;
use session_core::backend::{Batch, Expected, SessionStorage as _};
use session_storage_sqlite::{SqliteStorage, SqliteStorageOptions};
use session_testkit::logs::Log;

const STORE: &str = "SESSION_SQLITE_FLUSH_STORE";
const MARK: &str = "step: ";
const ROUNDS: usize = 10;

/// The body of the traced process, not a test itself.
#[tokio::test]
async fn process_with_a_role() {
    let Some(path) = std::env::var_os(STORE) else { return };
    let open = || SqliteStorage::open(SqliteStorageOptions::new(Path::new(&path))).unwrap();
    let (storage, other) = (open(), open());
    let print = |what: &str| {
        // One system call, so that it is one line of the trace.
        std::io::stdout().lock().write_all(format!("{MARK}{what}\n").as_bytes()).unwrap();
    };
    let mut log = Log::plain();
    log.take().send(&storage, Durability::Flushed).await.unwrap();
    print("created");
    for n in 0..ROUNDS {
        log.noted(n);
        log.take().send(&storage, Durability::Flushed).await.unwrap();
        print("flushed");
        log.noted("buffered");
        log.take().send(&other, Durability::Buffered).await.unwrap();
        print("buffered");
        // Another handle wrote it, which for SQLite is like another process.
        storage.append(log.id(), Expected::At(log.tip()), Batch::empty(), Durability::Flushed).await.unwrap();
        print("flushed");
    }
    storage.delete(log.id(), log.tip()).await.unwrap();
    print("deleted");
}

#[test]
fn flushed_appends_are_flushed_before_their_acknowledgement() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace");
    let run = Command::new("strace")
        .args(["-f", "-y", "-e", "trace=fsync,fdatasync,write", "-o"])
        .arg(&trace)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "process_with_a_role", "--nocapture", "--test-threads=1"])
        .env(STORE, folder.path().join("sessions.db"))
        .output();
    let Some(run) = run.ok().filter(|run| run.status.success()) else {
        eprintln!("not run: no strace, or no permission to trace");
        return;
    };
    assert!(String::from_utf8_lossy(&run.stdout).contains("deleted"), "{run:?}");
    let root = format!("<{}>", folder.path().display());
    // The flushes before each step: of the folder, the write-ahead log and the marks.
    let (mut order, mut steps) = (String::new(), Vec::new());
    for line in std::fs::read_to_string(&trace).unwrap().lines() {
        let is_flush = line.contains("fsync(") || line.contains("fdatasync(");
        if is_flush && line.contains(&root) {
            order.push('f');
        } else if is_flush && line.contains("sessions.db-wal>") {
            order.push('l');
        } else if is_flush && line.contains("/marks>") {
            order.push('m');
        } else if let Some((_, what)) = line.split_once(MARK) {
            let what = what.split('\\').next().unwrap().to_owned();
            steps.push((what, std::mem::take(&mut order)));
        }
    }
    assert_eq!(steps.len(), 2 + 3 * ROUNDS, "{steps:?}");
    for (what, order) in &steps {
        let count = |of: char| order.chars().filter(|flushed| *flushed == of).count();
        let (log, marks) = (count('l'), count('m'));
        match what.as_str() {
            // The folder once more after the log was created in it.
            "created" => assert!(order.contains("lf") && log >= 1, "{steps:?}"),
            "buffered" => assert_eq!((log, marks), (0, 0), "a buffered append costs no flush: {steps:?}"),
            // The mark of a deletion is flushed before the deletion is committed.
            "deleted" => {
                assert!(order.find('m').is_some_and(|mark| Some(mark) < order.rfind('l')), "{steps:?}");
            }
            _ => assert!(log >= 1 && marks == 0, "{what}: {steps:?}"),
        }
    }
}

/// The pages that an append writes on any machine: one for its record, one for its session and one for the counter, and
/// some more now and then when a page is full. Each needless update of an index would be one more page.
#[tokio::test]
async fn an_append_writes_few_pages() {
    const APPENDS: i64 = 200;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.db");
    let storage = SqliteStorage::open(SqliteStorageOptions::new(&path)).unwrap();
    let mut log = Log::new(session_core::SessionConfig::new("test").label("team", "data"));
    log.started();
    log.take().send(&storage, Durability::Flushed).await.unwrap();
    let observer = rusqlite::Connection::open(&path).unwrap();
    let pages =
        || -> i64 { observer.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(1)).unwrap() };
    pages();
    for n in 0..APPENDS {
        log.noted(n);
        log.take().send(&storage, Durability::Flushed).await.unwrap();
    }
    // After the checkpoint the log starts again, so that these are the pages of all appends.
    let written = pages();
    assert!((2 * APPENDS..5 * APPENDS).contains(&written), "{written} pages for {APPENDS} appends");
}
