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

/// Runs an example with this on its standard input, and returns what it printed.
fn answered(command: &mut Command, input: &str) -> String {
    use std::io::Write as _;
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    stdout_of(&child.wait_with_output().unwrap())
}

#[test]
fn a_tool_server_cancels_by_id_and_continues_a_crash() {
    let (_folder, store) = store();
    let run = |command: &str| example("tool_server").args([&*store, command]).output().unwrap();
    assert_eq!(stdout_of(&run("call")), "completed\n");
    assert_eq!(stdout_of(&run("cancel")), "the tool stops: not needed\ncancelled\n");
    assert!(!run("crash").status.success());
    let declined = answered(example("tool_server").args([&*store, "resume"]), "n\n");
    assert!(declined.starts_with("count was interrupted: its owner"), "{declined}");
    let resumed = answered(example("tool_server").args([&*store, "resume"]), "y\n");
    assert!(resumed.contains("Continue? [y/n]"), "{resumed}");
    assert_eq!(stdout_of(&run("resume")), "", "nothing is left to resume");
}

#[test]
fn a_container_manager_has_four_places_and_restarts_by_name() {
    let (_folder, store) = store();
    let run = |arguments: &[&str]| {
        stdout_of(&example("container_manager").arg(&store).args(arguments).output().unwrap())
    };
    for name in ["web", "db", "cache", "queue"] {
        assert!(run(&["start", name]).starts_with(&format!("started {name} as ")));
    }
    assert!(run(&["start", "fifth"]).starts_with("MAX_SESSIONS: Maximum 4 sessions"), "no place");
    assert!(run(&["restart", "db"]).starts_with("restarted db as "));
    assert_eq!(run(&["list"]), "web created\ncache created\nqueue created\ndb created\n");
    // A damaged session hides no other.
    let sessions = std::path::Path::new(&store).join("sessions");
    let damaged = run(&["stop", "web"]).trim().rsplit(' ').next().unwrap().to_owned();
    assert!(sessions.is_dir(), "{damaged}");
    assert_eq!(run(&["list"]), "cache created\nqueue created\ndb created\n");
}

#[test]
fn a_workflow_continues_after_its_last_complete_iteration() {
    let (_folder, store) = store();
    assert!(!example("workflow").args([&*store, "2"]).output().unwrap().status.success());
    let again = stdout_of(&example("workflow").arg(&store).output().unwrap());
    let expected = "attempt 2 continues after iteration 1\niteration 2 changed src/part2.rs, CHANGELOG.md\n\
                    iteration 3 changed src/part3.rs, CHANGELOG.md\n3 iterations, 6 files changed\n";
    assert_eq!(again, expected);
}

/// The owner and its program are killed; the next process hears of it and runs the program again.
#[test]
fn programs_are_recovered_and_run_again() {
    use std::io::{BufRead as _, BufReader};
    let (_folder, store) = store();
    let script = "echo attempt $SESSIONCTL_ATTEMPT; test $SESSIONCTL_ATTEMPT = 2 || sleep 600";
    let mut command = example("programs");
    let mut child =
        command.args([&*store, "start", "sh", "-c", script]).stdout(Stdio::piped()).spawn().unwrap();
    let mut printed = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(printed.next().unwrap().unwrap(), "attempt 1");
    child.kill().unwrap();
    child.wait().unwrap();
    let again = stdout_of(&example("programs").args([&*store, "resume"]).output().unwrap());
    assert!(again.contains("recovered a session: Paused\n"), "{again}");
    assert!(again.ends_with("attempt 2\nexit code 0\n"), "{again}");
}
