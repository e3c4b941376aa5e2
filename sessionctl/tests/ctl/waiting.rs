//! The status of sessions that wait for an answer or a wake-up time.

use std::process::{Child, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use sessionkit::SessionConfig;
use sessionkit::workflow::SessionSteps as _;

use crate::answers::ask;
use crate::support::{Fixture, eventually};

/// A client of the step protocol that asks or sleeps, as `sessionctl` does.
const CLIENT: &str = r#"
import json, os, socket, sys
kind, body = sys.argv[1], json.loads(sys.argv[2])
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect(os.environ["SESSIONCTL_SOCKET"])
    connection.sendall(json.dumps({kind: body | {"version": 1}}).encode() + b"\n")
    for line in connection.makefile("rb"):
        (kind, body), = json.loads(line).items()
        if kind == "error":
            sys.exit(body["message"])
        if kind in ("answer", "slept"):
            print(body.get("answer", "slept"), flush=True)
            sys.exit(0)
sys.exit("the owner has gone")
"#;

fn named(name: &str) -> SessionConfig {
    SessionConfig::new("import").name(name)
}

/// A store with a client, for scripts as sessions; `None` where Python is missing.
pub(crate) fn with_client() -> Option<Fixture> {
    if !crate::tmux::has(&["python3"]) {
        eprintln!("not run: no python3 here");
        return None;
    }
    let fixture = Fixture::new();
    std::fs::write(fixture.dir.path().join("client.py"), CLIENT).unwrap();
    Some(fixture)
}

/// Starts a script as the session `it`, which asks whether to deploy.
pub(crate) fn spawn_asking(fixture: &Fixture, options: &[&str]) -> Child {
    let script = r#"exec python3 client.py ask '{"name": "deploy", "question": "Deploy 1.4.0?", "choices": ["yes", "no"]}'"#;
    let words = [&["run", "--name", "it"], options, &["--", "sh", "-c", script]].concat();
    let mut command = fixture.command(words);
    command.current_dir(fixture.dir.path()).stdout(Stdio::piped()).stderr(Stdio::null());
    let child = command.spawn().unwrap();
    fixture.wait_for("it", "the question", |shown| shown["status"] == "waiting");
    child
}

pub(crate) fn kill(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

#[test]
fn a_waiting_session_says_for_what() {
    let fixture = Fixture::new();
    let live = fixture.owner(named("release"));
    assert_eq!(fixture.show("release")["status"], "running");
    let _asked = ask(&live, "deploy", "Deploy 1.4.0?", &["yes", "no"]);
    let sentence = "asks `deploy`: Deploy 1.4.0? (yes, no)";
    let id = &live.id.to_string()[..8];
    assert_eq!(fixture.show("release")["status"], "waiting");
    for words in [&["ls"][..], &["ls", "--state", "waiting"], &["show", "release"], &["why", "release"]] {
        let ran = fixture.ctl(words).exits(0);
        assert!(ran.stdout.contains(sentence), "{words:?}: {ran:#?}");
    }
    let why = fixture.ctl(["why", "release"]).stdout;
    assert!(why.contains("It is waiting, attempt 1"), "{why}");
    assert!(why.contains(&format!(" answer {id} deploy VALUE\n")), "{why}");
    assert_eq!(fixture.json(["ls", "--state", "running"]).as_array().unwrap().len(), 0);
    fixture.ctl(["wait", "release", "--for", "waiting", "--timeout", "10s"]).exits(0);
}

#[test]
fn a_sleeping_session_says_until_when() {
    let fixture = Fixture::new();
    let live = fixture.owner(named("release"));
    let session = live.session.clone();
    let _asleep =
        live.runtime.spawn(async move { session.sleep("cool-down", Duration::from_secs(3600)).await });
    let shown = fixture.wait_for("release", "the sleep", |shown| shown["status"] == "waiting");
    let until = shown["waits"]["until"].as_str().unwrap();
    for words in [&["ls"][..], &["show", "release"], &["why", "release"]] {
        let ran = fixture.ctl(words).exits(0);
        assert!(ran.stdout.contains(&format!("sleeps until {until}")), "{words:?}: {ran:#?}");
    }
}

#[test]
fn a_session_whose_owner_died_keeps_its_status() {
    let fixture = Fixture::new();
    let live = fixture.owner(named("release"));
    drop(ask(&live, "deploy", "Deploy 1.4.0?", &[]));
    drop(live);
    fixture.wait_for("release", "the death", |shown| shown["status"] == "crashed");
    for words in [["show", "release"], ["why", "release"]] {
        let ran = fixture.ctl(words).exits(0);
        assert!(ran.stdout.contains("asks `deploy`: Deploy 1.4.0?"), "{words:?}: {ran:#?}");
    }
}

#[test]
fn an_end_leaves_no_question() {
    let fixture = Fixture::new();
    let live = fixture.owner(named("release"));
    let _asked = ask(&live, "deploy", "Deploy 1.4.0?", &[]);
    fixture.ctl(["cancel", "release"]).exits(0);
    eventually("the end", || fixture.show("release")["status"] == "cancelled");
    assert!(fixture.show("release")["waits"].is_null());
    assert_eq!(fixture.json(["answers"]).as_array().unwrap().len(), 0);
}

#[test]
fn a_question_outlives_a_killed_owner() {
    let Some(fixture) = with_client() else { return };
    let mut owner = spawn_asking(&fixture, &[]);
    kill(&owner, Signal::KILL);
    owner.wait().unwrap();
    fixture.wait_for("it", "the death", |shown| shown["status"] == "crashed");
    assert_eq!(fixture.json(["answers"])[0]["owned"], false);
    fixture.ctl(["answer", "it", "yes"]).exits(0);
    let mut resume = fixture.command(["resume", "--quiet", "it"]);
    let resumed = crate::support::run({
        resume.current_dir(fixture.dir.path());
        resume
    });
    assert_eq!(resumed.exits(0).stdout, "yes\n");
}

#[test]
fn the_deadline_is_suspended_while_it_waits() {
    let Some(fixture) = with_client() else { return };
    let owner = spawn_asking(&fixture, &["--timeout", "3s"]);
    let wait = fixture.command(["wait", "it"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Longer than the limit: that time passes is what is tested.
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(fixture.show("it")["status"], "waiting");
    fixture.ctl(["answer", "it", "no"]).exits(0);
    let output = owner.wait_with_output().unwrap();
    assert!(output.status.success() && output.stdout == b"no\n", "{output:?}");
    let waited = wait.wait_with_output().unwrap();
    let stderr = String::from_utf8(waited.stderr).unwrap();
    assert!(waited.status.success(), "{stderr}");
    assert!(stderr.contains("asks `deploy`: Deploy 1.4.0? (yes, no); next: "), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

#[test]
fn a_waiting_session_is_paused_resumed_and_cancelled() {
    let Some(fixture) = with_client() else { return };
    let mut owner = spawn_asking(&fixture, &[]);
    fixture.ctl(["pause", "it"]).exits(0);
    assert_eq!(fixture.show("it")["status"], "paused");
    assert_eq!(fixture.json(["answers"])[0]["status"], "paused");
    fixture.ctl(["resume", "it"]).exits(0);
    fixture.wait_for("it", "the resume", |shown| shown["status"] == "waiting");
    fixture.ctl(["cancel", "it"]).exits(0);
    assert_ne!(owner.wait().unwrap().code(), Some(0));
    assert_eq!(fixture.show("it")["status"], "cancelled");
}

#[test]
fn an_interrupted_wait_continues_after_resume() {
    let Some(fixture) = with_client() else { return };
    let mut owner = spawn_asking(&fixture, &[]);
    kill(&owner, Signal::TERM);
    owner.wait().unwrap();
    assert_eq!(fixture.show("it")["status"], "interrupted");
    let mut resume = fixture.command(["resume", "--quiet", "it"]);
    let resumed = resume.current_dir(fixture.dir.path()).stdout(Stdio::piped()).spawn().unwrap();
    fixture.wait_for("it", "the question again", |shown| shown["status"] == "waiting");
    assert_eq!(fixture.json(["answers"]).as_array().unwrap().len(), 1, "it is one question");
    fixture.ctl(["answer", "it", "yes"]).exits(0);
    assert_eq!(resumed.wait_with_output().unwrap().stdout, b"yes\n");
}
