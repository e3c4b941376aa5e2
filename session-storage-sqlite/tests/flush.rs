//! What the system is asked to flush, and when: seen from outside, through `strace`.
//!
//! The process that is watched is this very test program, started again with a store in its environment.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use session_core::{Batch, Durability, Expected, SessionStorage as _};
use session_storage_sqlite::{SqliteStorage, SqliteStorageOptions};
use session_testkit::logs::Log;

const STORE: &str = "SESSION_SQLITE_FLUSH_STORE";
const MARK: &str = "said: ";
const ROUNDS: usize = 10;

/// Not a test of its own: what the process of the test below does.
#[tokio::test]
async fn process_with_a_role() {
    let Some(path) = std::env::var_os(STORE) else { return };
    let open = || SqliteStorage::open(SqliteStorageOptions::new(Path::new(&path))).unwrap();
    let (storage, other) = (open(), open());
    let say = |what: &str| {
        // One call of the system, so that it can be told from others.
        std::io::stdout().lock().write_all(format!("{MARK}{what}\n").as_bytes()).unwrap();
    };
    let mut log = Log::plain();
    log.take().send(&storage, Durability::Flushed).await.unwrap();
    say("created");
    for n in 0..ROUNDS {
        log.noted(n);
        log.take().send(&storage, Durability::Flushed).await.unwrap();
        say("flushed");
        log.noted("buffered");
        log.take().send(&other, Durability::Buffered).await.unwrap();
        say("buffered");
        // What another process wrote, as far as SQLite can tell.
        storage.append(log.id(), Expected::At(log.tip()), Batch::empty(), Durability::Flushed).await.unwrap();
        say("flushed");
    }
    storage.delete(log.id(), log.tip()).await.unwrap();
    say("deleted");
}

#[test]
fn what_is_acknowledged_as_flushed_was_flushed_in_between() {
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
        eprintln!("not run: no strace, or it may not watch processes here");
        return;
    };
    assert!(String::from_utf8_lossy(&run.stdout).contains("deleted"), "{run:?}");
    let (mut log, mut marks, mut said) = (0, 0, Vec::new());
    for line in std::fs::read_to_string(&trace).unwrap().lines() {
        let is_flush = line.contains("fsync(") || line.contains("fdatasync(");
        if is_flush && line.contains("sessions.db-wal>") {
            log += 1;
        } else if is_flush && line.contains("/marks>") {
            marks += 1;
        } else if let Some((_, what)) = line.split_once(MARK) {
            let what = what.split('\\').next().unwrap().to_owned();
            said.push((what, std::mem::take(&mut log), std::mem::take(&mut marks)));
        }
    }
    assert_eq!(said.len(), 2 + 3 * ROUNDS, "{said:?}");
    for (what, log, marks) in &said {
        match what.as_str() {
            "buffered" => assert_eq!((*log, *marks), (0, 0), "a buffered append costs no flush: {said:?}"),
            // A goodbye is durable before what it is about is gone.
            "deleted" => assert!(*log >= 1 && *marks >= 1, "{said:?}"),
            _ => assert!(*log >= 1 && *marks == 0, "{what}: {said:?}"),
        }
    }
}

/// What an append costs on any machine: the page of its record, that of its session and that of the counter, and now and then
/// some more where a page is full. Each index that it touched without need would be a page more.
#[tokio::test]
async fn an_append_writes_few_pages() {
    const APPENDS: i64 = 200;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.db");
    let storage = SqliteStorage::open(SqliteStorageOptions::new(&path)).unwrap();
    let mut log = Log::new(session_core::SessionConfig::new("test").label("team", "data"));
    log.started();
    log.take().send(&storage, Durability::Flushed).await.unwrap();
    let looker = rusqlite::Connection::open(&path).unwrap();
    let pages =
        || -> i64 { looker.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(1)).unwrap() };
    pages();
    for n in 0..APPENDS {
        log.noted(n);
        log.take().send(&storage, Durability::Flushed).await.unwrap();
    }
    // What was checkpointed may be begun anew, so that these are the pages of all appends.
    let written = pages();
    assert!((2 * APPENDS..5 * APPENDS).contains(&written), "{written} pages for {APPENDS} appends");
}
