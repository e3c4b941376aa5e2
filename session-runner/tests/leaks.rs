//! Runs leave no resources behind in the process that started them, however they end. Alone in its process, which is
//! inspected.

#![expect(clippy::unwrap_used, reason = "a missing value fails the test")]

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use session_core::backend::{LocalPresence, Presence as _};
use session_core::{CancelRequest, InMemorySessionManager, SessionConfig, SessionId, SessionManager as _};
use session_runner::{Command, FileOutput, Runner, supervise_test};

/// Not a test: the entry point of the supervisor.
#[test]
fn __supervise() {
    supervise_test(module_path!(), "__supervise");
}

fn count(folder: &str) -> usize {
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}

/// Counts the children of this process, running or not reaped.
fn children() -> usize {
    let me = std::process::id().to_string();
    let parent = |entry: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        stat.rsplit_once(") ")?.1.split(' ').nth(1).map(str::to_owned)
    };
    std::fs::read_dir("/proc").unwrap().flatten().filter_map(parent).filter(|parent| *parent == me).count()
}

/// Counts the owner's sockets of this process.
fn sockets() -> usize {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(|path| Path::new(&path).join("sessionctl"));
    let own = format!("sessionctl-{}", rustix::process::geteuid().as_raw());
    let folders = runtime.into_iter().chain([std::env::temp_dir().join(&own), Path::new("/tmp").join(&own)]);
    let mine = format!("{}-", std::process::id());
    let unique: HashSet<_> = folders.collect();
    unique
        .into_iter()
        .filter_map(|folder| std::fs::read_dir(folder).ok())
        .flat_map(Iterator::flatten)
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&mine))
        .count()
}

async fn ended(manager: &InMemorySessionManager, id: SessionId) {
    let start = Instant::now();
    while manager.get_head(id).await.unwrap().lifecycle.owner.is_some() {
        assert!(start.elapsed() < Duration::from_secs(20), "{id} never ended");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Runs one program for each outcome.
async fn all_outcomes(runner: &Runner, manager: &InMemorySessionManager) {
    let sh = |script: &str| Command::new("sh").args(["-c", script]).linger(Duration::ZERO);
    let config = || SessionConfig::new("run");
    for script in ["exit 0", "exit 1", "kill -9 $$", "sleep 60 & exit 0"] {
        runner.spawn(config(), sh(script)).await.unwrap().wait().await.unwrap();
    }
    assert!(runner.spawn(config(), Command::new("/nonexistent")).await.is_err());
    let mut cancelled = runner.spawn(config(), sh("sleep 60")).await.unwrap();
    manager.cancel_session(cancelled.id(), CancelRequest::new("enough", "a test")).await.unwrap();
    cancelled.wait().await.unwrap();
    let mut late = runner.spawn(config().deadline(Duration::from_millis(10)), sh("sleep 60")).await.unwrap();
    late.wait().await.unwrap();
    let dropped = runner.spawn(config(), sh("sleep 60")).await.unwrap();
    let id = dropped.id();
    drop(dropped);
    ended(manager, id).await;
    manager.cancel_session(id, CancelRequest::new("over", "a test")).await.unwrap();
}

#[tokio::test]
async fn no_outcome_leaks_resources() {
    supervise_test(module_path!(), "__supervise");
    let folder = tempfile::tempdir().unwrap();
    let manager = InMemorySessionManager::new();
    let locks = LocalPresence::new(folder.path().join("owners"));
    let runner = Runner::new(&manager)
        .output(Arc::new(FileOutput::new(folder.path().join("output"))))
        .locks(locks.clone());
    // The first round opens the runtime's own descriptors, which stay open.
    all_outcomes(&runner, &manager).await;
    let before = (count("/proc/self/fd"), children());
    for _ in 0..10 {
        all_outcomes(&runner, &manager).await;
    }
    assert_eq!((count("/proc/self/fd"), children()), before);
    assert_eq!(sockets(), 0);
    locks.sweep(&HashSet::new()).await.unwrap();
    assert_eq!(count(folder.path().join("owners").to_str().unwrap()), 0, "a session's lock is left behind");
    // Threads of the runtime's blocking pool come and go; capture threads have names.
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    assert_eq!(names.filter(|name| name.starts_with("capture")).count(), 0);
}
