//! The command on a store of the example backend: everything works as on a backend of `sessionkit`.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

struct Store {
    folder: TempDir,
}

impl Store {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_own-sessionctl"));
        command.args(args).stdin(Stdio::null());
        // A relative path, to be understood in every directory.
        command.current_dir(self.folder.path()).env("SESSIONCTL_STORE", "redb:sessions.redb");
        command.env("SESSIONCTL_CONFIG", "");
        command
    }

    fn ctl(&self, args: &[&str], code: i32) -> String {
        let Output { status, stdout, stderr } = self.command(args).output().expect("the command starts");
        let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        assert_eq!(status.code(), Some(code), "{args:?}: {stdout}{stderr}");
        format!("{stdout}{stderr}")
    }
}

fn until(path: &Path) {
    let start = Instant::now();
    while !path.exists() {
        assert!(start.elapsed() < Duration::from_secs(30), "{} is missing", path.display());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_program_runs_and_is_listed_shown_and_removed() {
    let store = Store::new();
    let script = "echo $SESSIONCTL_STORE; echo oops >&2; exit 3";
    let ran = store.ctl(&["run", "--name", "build", "--", "sh", "-c", script], 3);
    let url = format!("redb:{}", store.path("sessions.redb").canonicalize().unwrap().display());
    assert!(ran.contains(&format!("{url}\n")), "{ran}");
    assert!(store.ctl(&["ls", "--all"], 0).contains("build"));
    let shown = store.ctl(&["show", "build", "--json"], 0);
    assert!(shown.contains(r#""state":"failed""#) && shown.contains(r#""exit_code":3"#), "{shown}");
    assert_eq!(store.ctl(&["logs", "build", "--stderr"], 0), "oops\n");
    store.ctl(&["rm", "build"], 0);
    let sessions = store.path("sessions.files/sessions");
    assert_eq!(std::fs::read_dir(sessions).unwrap().count(), 0, "the output is removed with its session");
}

#[test]
fn a_crashed_session_is_resumed() {
    let store = Store::new();
    let (go, done) = (store.path("go"), store.path("done"));
    let script = "echo attempt $SESSIONCTL_ATTEMPT; touch go; test $SESSIONCTL_ATTEMPT = 2 || sleep 60; touch done";
    let mut owner = store
        .command(&["run", "--name", "fragile", "--", "sh", "-c", script])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the command starts");
    until(&go);
    owner.kill().expect("the owner is alive");
    owner.wait().expect("it was started here");
    let listed = store.ctl(&["ls"], 0);
    assert!(listed.contains("fragile") && listed.contains("crashed"), "{listed}");
    assert!(listed.contains("own-sessionctl resume"), "the next command is one that opens it: {listed}");
    assert!(store.ctl(&["resume", "fragile"], 0).contains("attempt 2\n"));
    assert!(done.exists());
    assert!(store.ctl(&["show", "fragile", "--json"], 0).contains(r#""state":"completed""#));
}

#[test]
fn help_and_errors_name_the_registered_scheme() {
    let store = Store::new();
    assert!(store.ctl(&["--help"], 0).contains("redb:PATH"));
    let refused = store.ctl(&["ls", "--store", "rdb:x"], 2);
    assert!(refused.contains("`redb:PATH`"), "{refused}");
}

#[test]
fn sessions_move_to_another_backend() {
    let store = Store::new();
    store.ctl(&["run", "--name", "moves", "--", "true"], 0);
    store.ctl(&["migrate", "--to", "file:moved"], 0);
    let listed = store.ctl(&["ls", "--all", "--store", "file:moved"], 0);
    assert!(listed.contains("moves"), "{listed}");
}
