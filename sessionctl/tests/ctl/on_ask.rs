//! The hook that notifies a person of a question: `run --on-ask` and the setting `on_ask`.

use std::process::Stdio;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::pty_pair::PtyPair;
use crate::support::{Fixture, eventually};
use crate::waiting::{kill, spawn_asking, with_client};

/// Returns what hooks have written so far, one line each.
fn seen(fixture: &Fixture) -> Vec<Value> {
    let text = std::fs::read_to_string(fixture.dir.path().join("seen")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn the_hook_gets_the_question_and_can_answer() {
    let Some(fixture) = with_client() else { return };
    let hook = format!("cat >>seen; {} answer it deploy no", crate::support::BINARY);
    let script = r#"exec python3 client.py ask '{"name": "deploy", "question": "Deploy 1.4.0?", "choices": ["yes", "no"]}'"#;
    let words = ["run", "-q", "--name", "it", "--on-ask", &hook, "--", "sh", "-c", script];
    let mut command = fixture.command(words);
    command.current_dir(fixture.dir.path());
    assert_eq!(crate::support::run(command).exits(0).stdout, "no\n");
    let seen = seen(&fixture);
    assert_eq!(seen.len(), 1);
    let id = fixture.show("it")["id"].clone();
    let expected = json!({
        "schema": 1, "id": id, "session": "it", "name": "deploy", "n": 1, "key": null, "question": "Deploy 1.4.0?",
        "choices": ["yes", "no"], "default": null, "default_at": null, "asked_at": seen[0]["asked_at"],
    });
    assert_eq!(seen[0], expected);
    assert!(fixture.ctl(["show", "it"]).stdout.contains("cat >>seen"));
}

#[test]
fn the_terminal_of_a_viewer_notifies_and_nothing_is_stored() {
    let Some(fixture) = with_client() else { return };
    let control = fixture.dir.path().join("control");
    std::fs::create_dir(&control).unwrap();
    let script = r#"python3 client.py ask \x27{"name": "deploy", "question": "Deploy\u001b]0;owned\u0007?"}\x27; read line"#;
    std::fs::write(fixture.dir.path().join("script"), script.replace(r"\x27", "'")).unwrap();
    let mut shell = crate::support::clean_command("env");
    shell.env("SESSIONCTL_STORE", fixture.url()).current_dir(fixture.dir.path());
    shell.env_remove("CI");
    let program = format!("{} run --name it -- bash ./script 2>&3 3>&-", crate::support::BINARY);
    let mut pty = PtyPair::start(&program, shell, &control, "run".to_owned());
    pty.wait(b"\x1b]9;Session it asks `deploy`: Deploy ]0;owned ?\x07");
    pty.wait(b"\x1b]777;notify;Session it;asks `deploy`: Deploy ]0;owned ?\x07");
    fixture.ctl(["answer", "it", "yes"]).exits(0);
    pty.wait(b"yes\r\n");
    pty.type_bytes(b"\r");
    pty.end();
    let (results, got) = pty.finish();
    assert_eq!(results.code, "0");
    assert_eq!(results.before, results.after);
    assert_eq!(got.windows(4).filter(|bytes| bytes == b"\x1b]9;").count(), 1);
    let raw = fixture.ctl(["logs", "it", "--raw"]).exits(0).stdout;
    assert!(raw.contains("yes") && !raw.contains("Session it"), "{raw:?}");
}

#[test]
fn a_later_attempt_and_a_retry_notify_again() {
    let Some(fixture) = with_client() else { return };
    let mut owner = spawn_asking(&fixture, &["--on-ask", "cat >>seen"]);
    eventually("the first hook", || seen(&fixture).len() == 1);
    kill(&owner, Signal::KILL);
    owner.wait().unwrap();
    fixture.wait_for("it", "the death", |shown| shown["status"] == "crashed");
    for (verb, count) in [("resume", 2), ("retry", 3)] {
        let mut command = fixture.command([verb, "--quiet", "it"]);
        let child = command.current_dir(fixture.dir.path()).stdout(Stdio::null()).spawn().unwrap();
        eventually(verb, || seen(&fixture).len() == count);
        fixture.ctl(["cancel", "it"]).exits(0);
        child.wait_with_output().unwrap();
    }
    let seen = seen(&fixture);
    assert_eq!(seen[0]["asked_at"], seen[1]["asked_at"], "the question is the same");
    assert_ne!(seen[1]["id"], seen[2]["id"]);
}

#[test]
fn the_setting_applies_where_no_option_is_given() {
    let Some(fixture) = with_client() else { return };
    for (options, hooked) in
        [(&[][..], "setting"), (&["--on-ask", "echo '\"option\"' >>seen"], "option"), (&["--on-ask="], "")]
    {
        let _ = std::fs::remove_file(fixture.dir.path().join("seen"));
        let script = r#"exec python3 client.py ask '{"name": "deploy", "question": "Deploy?"}'"#;
        let words = [&["run", "-q", "--name", "it"], options, &["--", "sh", "-c", script]].concat();
        let mut command = fixture.command(words);
        command.env("SESSIONCTL_ON_ASK", "echo '\"setting\"' >>seen").current_dir(fixture.dir.path());
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        fixture.wait_for("it", "the question", |shown| shown["status"] == "waiting");
        if hooked.is_empty() {
            let origin = fixture.ctl(["show", "it"]).exits(0).stdout;
            assert!(!origin.contains("on ask"), "{origin}");
        } else {
            eventually("the hook", || seen(&fixture) == [json!(hooked)]);
        }
        fixture.ctl(["answer", "it", "yes"]).exits(0);
        assert!(child.wait_with_output().unwrap().status.success());
    }
}

#[test]
fn a_hook_that_hangs_or_fails_delays_nothing() {
    let Some(fixture) = with_client() else { return };
    let owner = spawn_asking(&fixture, &["--on-ask", "echo $$ >hook; exec sleep 600"]);
    let path = fixture.dir.path().join("hook");
    eventually("the hook", || std::fs::read_to_string(&path).is_ok_and(|pid| pid.ends_with('\n')));
    let pid = std::fs::read_to_string(&path).unwrap();
    fixture.ctl(["answer", "it", "yes"]).exits(0);
    let started = std::time::Instant::now();
    assert!(owner.wait_with_output().unwrap().status.success());
    assert!(started.elapsed() < std::time::Duration::from_secs(20), "the owner waited for the hook");
    eventually("the end of the hook, with its owner", || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    });
    let failing = spawn_asking(&fixture, &["--on-ask", "exit 3"]);
    eventually("the note", || {
        fixture.ctl(["why", "it"]).stdout.contains("the hook for question `deploy` failed: exit code 3")
    });
    fixture.ctl(["answer", "it", "no"]).exits(0);
    assert!(failing.wait_with_output().unwrap().status.success());
}
