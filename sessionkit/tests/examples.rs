//! Runs of the examples, which Cargo builds with the tests of the package.

#![cfg(all(feature = "file", feature = "runner", target_os = "linux"))]
#![expect(clippy::unwrap_used, reason = "in a test, a missing value is a failure")]

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use sessionkit::{ManagerOptions, SessionConfig, SessionSummary};
use tempfile::TempDir;

fn example(name: &str) -> Command {
    let tests = std::env::current_exe().unwrap();
    let path: PathBuf = tests.ancestors().nth(2).unwrap().join("examples").join(name);
    assert!(
        path.exists(),
        "not built, as `cargo test -p sessionkit` does: cargo build -p sessionkit --examples"
    );
    let mut command = Command::new(path);
    command.stdin(Stdio::null());
    command
}

fn stdout_of(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn store() -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store").to_str().unwrap().to_owned();
    (folder, path)
}

#[test]
fn a_resumable_job_continues_after_its_last_checkpoint() {
    let (_folder, store) = store();
    let died = example("resumable").args([&*store, "3"]).output().unwrap();
    assert!(!died.status.success());
    assert_eq!(String::from_utf8_lossy(&died.stdout), "attempt 1: 0 rows are done\nrow 1\nrow 2\n");
    let resumed = stdout_of(&example("resumable").arg(&store).output().unwrap());
    assert_eq!(resumed, "attempt 2: 2 rows are done\nrow 3\nrow 4\nrow 5\ncompleted: 5 rows\n");
    let again = stdout_of(&example("resumable").arg(&store).output().unwrap());
    assert_eq!(again, "completed: 5 rows\n", "completed work is not repeated");
}

#[tokio::test]
async fn another_process_watches_a_session_until_it_ends() {
    let (_folder, path) = store();
    let options = ManagerOptions::new().recovery(None);
    let manager = sessionkit::builder(&format!("file:{path}")).options(options).open().await.unwrap();
    let id = manager.create_session(SessionConfig::new("test").name("seen")).await.unwrap();
    let session = manager.start_session(id).await.unwrap();
    let watch = example("watch").args([&*path, "seen"]).stdout(Stdio::piped()).spawn().unwrap();
    session.checkpoint(&1).await.unwrap();
    session.complete(SessionSummary::new()).await.unwrap();
    let seen = stdout_of(&watch.wait_with_output().unwrap());
    let events: Vec<_> = seen.lines().filter(|line| line.starts_with(char::is_numeric)).collect();
    assert_eq!(events, ["1 created", "2 started", "3 checkpoint_saved", "4 completed"]);
    assert!(seen.lines().last().unwrap().contains("completed"), "{seen}");
}

#[test]
fn a_command_session_passes_on_its_exit_code() {
    let (_folder, store) = store();
    let output = example("command").args([&*store, "sh", "-c", "echo four; exit 3"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(stdout.ends_with(": 5 bytes of output, exit code 3\n"), "{stdout}");
}

#[test]
fn a_custom_observer_receives_every_event() {
    let printed = stdout_of(&example("observer").output().unwrap());
    assert_eq!(printed, "completed\n3 checkpoint_saved\n1 completed\n1 created\n1 started\n");
}
