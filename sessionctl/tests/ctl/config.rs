//! The configuration: `config`, the file with its errors, and the verbs that read it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use sessionkit::SessionConfig;

use crate::support::{Fixture, Ran, eventually, run};

/// Returns a command whose configuration is this file.
fn with_file(fixture: &Fixture, file: &Path, args: &[&str]) -> Command {
    let mut command = fixture.command(args);
    command.env("SESSIONCTL_CONFIG", file);
    command
}

fn file(fixture: &Fixture, text: &str) -> PathBuf {
    let path = fixture.dir.path().join("config.toml");
    std::fs::write(&path, text).unwrap();
    path
}

fn show(fixture: &Fixture, file: &Path, options: &[&str]) -> Ran {
    run(with_file(fixture, file, &[&["config", "show"], options].concat()))
}

#[test]
fn the_shown_settings_can_be_the_file() {
    let fixture = Fixture::new();
    let defaults = "tty = \"auto\"\non_hangup = \"leave\"\nunbuffered = false\non_ask = \"\"\n";
    assert_eq!(fixture.ctl(["config", "show"]).exits(0).stdout, defaults);
    let others = "tty = \"never\"\non_hangup = \"interrupt\"\nunbuffered = true\non_ask = \"notify-send 'a question' \\\"$(cat)\\\"\"\n";
    for text in [defaults, others] {
        let file = file(&fixture, text);
        assert_eq!(show(&fixture, &file, &[]).exits(0).stdout, text);
        let explained = show(&fixture, &file, &["--origin"]).exits(0).stdout;
        std::fs::write(&file, explained).unwrap();
        assert_eq!(show(&fixture, &file, &[]).exits(0).stdout, text);
    }
}

#[test]
fn the_origin_of_each_setting_is_shown() {
    let fixture = Fixture::new();
    let file = file(&fixture, "# mine\non_hangup = \"interrupt\"\nunbuffered = true\n");
    let mut command = with_file(&fixture, &file, &["config", "show", "--origin"]);
    command.env("SESSIONCTL_UNBUFFERED", "0");
    let shown = run(command).exits(0).stdout;
    let expected = format!(
        "tty = \"auto\"             # default\n\
         on_hangup = \"interrupt\"  # {}, line 2\n\
         unbuffered = false       # SESSIONCTL_UNBUFFERED\n\
         on_ask = \"\"              # default\n",
        file.display()
    );
    assert_eq!(shown, expected);
    let mut command = with_file(&fixture, &file, &["config", "show", "--json"]);
    command.env("SESSIONCTL_UNBUFFERED", "0");
    let shown: Value = serde_json::from_str(&run(command).exits(0).stdout).unwrap();
    let setting = |key: &str, value: Value, origin: &str, line: Value, variable: Value| json!({ "key": key, "value": value, "origin": origin, "line": line, "variable": variable });
    let variable = json!("SESSIONCTL_UNBUFFERED");
    assert_eq!(
        shown,
        json!({ "schema": 1, "path": file.to_str(), "settings": [
            setting("tty", json!("auto"), "default", Value::Null, Value::Null),
            setting("on_hangup", json!("interrupt"), "file", json!(2), Value::Null),
            setting("unbuffered", json!(false), "environment", Value::Null, variable),
            setting("on_ask", json!(""), "default", Value::Null, Value::Null),
        ] })
    );
}

#[test]
fn config_path_names_the_file_even_if_it_is_missing() {
    let fixture = Fixture::new();
    let mut command = fixture.command(["config", "path"]);
    command.env_remove("SESSIONCTL_CONFIG").env("XDG_CONFIG_HOME", fixture.dir.path());
    let expected = format!("{}/sessionctl/config.toml\n", fixture.dir.path().display());
    assert_eq!(run(command).exits(0).stdout, expected);
    let mut command = fixture.command(["config", "path"]);
    command.env("SESSIONCTL_CONFIG", "mine.toml").current_dir(fixture.dir.path());
    assert!(run(command).exits(0).stdout.ends_with("/mine.toml\n"));
    let ran = fixture.ctl(["config", "path"]).exits(0);
    assert!(ran.stdout.is_empty() && ran.stderr.contains("no configuration file"), "{ran:#?}");
}

#[test]
fn only_verbs_that_use_the_file_refuse_a_broken_one() {
    let fixture = Fixture::new();
    let (live, done) =
        (fixture.owner(SessionConfig::new("import")), fixture.completed(SessionConfig::new("import")));
    let (live, done) = (live.id.to_string(), done.to_string());
    let before = fixture.snapshot();
    for text in ["ttty = \"never\"", "tty = \"newer\"", "tty = never"] {
        let file = file(&fixture, text);
        for args in [
            &["run", "--", "true"][..],
            &["resume", &live],
            &["retry", &done],
            &["config", "show"],
            &["run", "--detach", "--", "true"],
        ] {
            let ran = run(with_file(&fixture, &file, args)).fails(2, "INVALID_ARGUMENT");
            assert!(ran.stderr.contains(&format!("{}, line 1: ", file.display())), "{ran:#?}");
            assert_eq!(fixture.snapshot(), before, "{args:?} changed something");
        }
        for args in [
            &["ls", "--all"][..],
            &["show", &done],
            &["why", &done],
            &["wait", &done],
            &["events", &done],
            &["logs", &done],
            &["recover", "--dry-run"],
            &["verify"],
            &["gc", "--older-than", "1d"],
            &["config", "path"],
            &["config", "--help"],
            &["completions", "bash"],
        ] {
            run(with_file(&fixture, &file, args)).exits(0);
        }
    }
    let file = file(&fixture, "tty = never");
    fixture.ctl(["run", "--detach", "--name", "sleeper", "--", "sleep", "600"]).exits(0);
    run(with_file(&fixture, &file, &["cancel", "sleeper"])).exits(0);
}

#[test]
fn a_pipe_as_the_file_is_an_error_and_does_not_block() {
    let fixture = Fixture::new();
    let pipe = fixture.dir.path().join("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let mut command = with_file(&fixture, &pipe, &["config", "show"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    eventually("the command to end", || child.try_wait().unwrap().is_some());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("is not a regular file [INVALID_ARGUMENT]"), "{stderr}");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn contradictory_and_unknown_terminal_options_are_rejected() {
    let fixture = Fixture::new();
    for options in [&["--tty", "--no-tty"][..], &["--on-hangup", "stay"]] {
        fixture.ctl([&["run"], options, &["--", "true"]].concat()).exits(2);
        fixture.ctl([&["resume"], options, &["it"]].concat()).exits(2);
        fixture.ctl([&["retry"], options, &["it"]].concat()).exits(2);
    }
}
