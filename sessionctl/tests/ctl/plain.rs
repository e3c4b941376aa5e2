//! Programs under `run` behave as under a plain shell: their arguments, and what can be executed.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use serde_json::Value;

use crate::support::{self, Fixture};

/// Shells run a script without a first line `#!`; execve does not.
#[test]
fn a_script_without_an_interpreter_runs_under_sh() {
    let fixture = Fixture::new();
    let script = |name: &str, content: &[u8]| {
        let path = fixture.dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    };
    let path = script("-plain", b"echo \"$1 from $0\"; exit 3\n");
    let ran = fixture.ctl(["run", "--", path.to_str().unwrap(), "hello"]).exits(3);
    assert_eq!(ran.stdout, format!("hello from {}\n", path.display()));
    for args in [["./-plain", "hello"], ["-plain", "hello"]] {
        let mut command = fixture.command(["run", "--"].iter().chain(&args));
        let folders = format!("{}:{}", fixture.dir.path().display(), std::env::var("PATH").unwrap());
        command.current_dir(fixture.dir.path()).env("PATH", folders);
        assert!(support::run(command).exits(3).stdout.starts_with("hello from "), "{args:?}");
    }
    let binary = script("binary", b"\x01\x00\x02\n");
    fixture.ctl(["run", "--", binary.to_str().unwrap()]).fails(126, "SPAWN_FAILED");
}

/// Arguments, directories and values of variables are bytes.
#[test]
fn bytes_that_are_not_utf8_reach_the_program_and_its_retry() {
    let fixture = Fixture::new();
    let bytes = |text: &[u8]| OsString::from_vec(text.to_vec());
    let folder = fixture.dir.path().join(bytes(b"d\xff"));
    std::fs::create_dir(&folder).unwrap();
    let script = "pwd | od -An -c | tail -1 | tr -d ' '; printf '%s%s' \"$1\" \"$ODD\" | od -An -tx1";
    let mut command = fixture.command(["run", "--name", "odd", "--env"]);
    command.arg(bytes(b"ODD=\xfe=")).args(["--", "sh", "-c", script, "sh"]).arg(bytes(b"a\xff"));
    command.current_dir(&folder);
    let ran = support::run(command).exits(0);
    assert!(ran.stdout.contains("d377\\n") && ran.stdout.ends_with(" 61 ff fe 3d\n"), "{ran:#?}");
    assert_eq!(fixture.ctl(["retry", "odd"]).exits(0).stdout, ran.stdout);
    let id = fixture.json(["ls", "--all"])[0]["id"].as_str().unwrap().to_owned();
    let shown = fixture.show(&id);
    assert_eq!(shown["command"][4], "a\\xff");
    assert!(shown["cwd"].as_str().unwrap().ends_with("/d\\xff"), "{shown}");
    let page = fixture.ctl(["show", &id]).exits(0).stdout;
    assert!(page.contains(r"$'a\xff'") && page.contains(r"/d\xff"), "{page}");
    let log = fixture.ctl(["events", &id, "--json"]).exits(0).stdout;
    assert!(
        log.contains(r#"{"base64":"Yf8="}"#) && log.contains(r#""env":{"ODD":{"base64":"/j0="}}"#),
        "{log}"
    );
    fixture.ctl(["verify", &id]).exits(0);
}

/// `worktree` was null in every session of a program.
#[test]
fn a_session_names_the_git_worktree_it_was_created_in() {
    if !crate::tmux::has(&["git"]) {
        return;
    }
    let fixture = Fixture::new();
    let script = "git init -q main && cd main && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m one \
        && git worktree add -q ../tree && mkdir ../tree/inner";
    let made = Command::new("sh").args(["-c", script]).current_dir(fixture.dir.path()).status().unwrap();
    assert!(made.success());
    let created = |folder: &str| {
        let mut command = fixture.command(["run", "--json", "--", "true"]);
        command.current_dir(fixture.dir.path().join(folder));
        serde_json::from_str::<Value>(&support::run(command).exits(0).stdout).unwrap()["worktree"].clone()
    };
    let tree = fixture.dir.path().join("tree").canonicalize().unwrap();
    assert_eq!(created("tree/inner"), tree.to_str().unwrap());
    assert_eq!(created("tree"), tree.to_str().unwrap());
    assert_eq!(created("main"), Value::Null);
    assert_eq!(created("."), Value::Null);
}
