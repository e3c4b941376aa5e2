//! Detached sessions: their start is reported, and they keep nothing of their caller.

use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal};
use serde_json::{Value, json};
use sessionkit::SessionId;

use crate::support::{self, Fixture, eventually};

fn owner(fixture: &Fixture, id: &str) -> i32 {
    i32::try_from(fixture.show(id)["owner"]["pid"].as_i64().unwrap()).unwrap()
}

/// Files that a process has open.
fn open_files(pid: i32) -> Vec<String> {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    files.filter_map(|file| Some(file.path().read_link().ok()?.to_string_lossy().into_owned())).collect()
}

#[test]
fn detach_prints_the_id_once_the_program_runs() {
    let fixture = Fixture::new();
    let args = [
        "run",
        "--detach",
        "--name",
        "far",
        "--",
        "sh",
        "-c",
        "echo ready; read x || echo nothing; sleep 600",
    ];
    let ran = fixture.ctl(args).exits(0);
    let id = ran.stdout.strip_suffix('\n').unwrap();
    assert!(id.parse::<SessionId>().is_ok(), "{ran:#?}");
    assert_eq!(ran.stderr.lines().count(), 1, "{ran:#?}");
    let shown = fixture.show(id);
    assert_eq!((&shown["state"], &shown["owner"]["liveness"]), (&json!("running"), &json!("alive")));
    eventually("its output", || fixture.ctl(["logs", id]).stdout == "ready\nnothing\n");
    // Its owner acts on requests like any other.
    support::block_on(async {
        let store = fixture.open().await;
        store.manager().pause_session(id.parse().unwrap(), "lunch".to_owned()).await.unwrap();
    });
    fixture.wait_for(id, "the pause", |shown| shown["state"] == "paused");
    assert_eq!(fixture.ctl(["resume", "--detach", id]).exits(0).stdout, format!("{id}\n"));
    assert_eq!(fixture.show(id)["state"], "running");
    // Signals to the owner are forwarded to the program, as in the foreground.
    rustix::process::kill_process(Pid::from_raw(owner(&fixture, id)).unwrap(), Signal::HUP).unwrap();
    let ended = fixture.wait_for(id, "its end", |shown| shown["status"] == "interrupted");
    assert_eq!(ended["signal"], 1);
    eventually("the owner's end", || fixture.locks().is_empty());
}

#[test]
fn detach_with_json_prints_the_session() {
    let fixture = Fixture::new();
    let ran = fixture.ctl(["run", "--detach", "--json", "--name", "far", "--", "sleep", "600"]).exits(0);
    let shown: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&shown["name"], &shown["state"]), (&json!("far"), &json!("running")));
    assert_eq!(fixture.show("far")["id"], shown["id"]);
    let hint: Value = serde_json::from_str(&ran.stderr).unwrap();
    assert_eq!(hint["hint"]["sessions"], json!([shown["id"]]));
    fixture.ctl(["cancel", "far", "--force"]).exits(0);
}

#[test]
fn detached_start_failures_match_the_foreground() {
    let fixture = Fixture::new();
    let no_program = fixture.dir.path().join("plain");
    std::fs::write(&no_program, "no program").unwrap();
    let no_folder = format!("file:{}", no_program.display());
    for (args, code) in [
        (vec!["run", "--", "no-such-program-anywhere"], 127),
        (vec!["run", "--", no_program.to_str().unwrap()], 126),
        (vec!["run", "--json", "--", "no-such-program-anywhere"], 127),
        (vec!["--store", &no_folder, "run", "--", "true"], 125),
        (vec!["run", "--name", "-x", "--", "true"], 2),
        (vec!["run", "--label", "novalue", "--", "true"], 2),
        (vec!["run"], 2),
        (vec!["resume", "no-such-session"], 125),
    ] {
        let at = args.iter().position(|word| ["run", "resume"].contains(word)).unwrap() + 1;
        let mut detached = args.clone();
        detached.insert(at, "--detach");
        let here = fixture.ctl(&args).exits(code);
        let there = fixture.ctl(&detached).exits(code);
        assert_eq!(settled(&there.stderr), settled(&here.stderr), "{args:?}");
        assert_eq!(there.stdout.lines().count(), here.stdout.lines().count(), "{args:?}");
    }
}

/// Replaces ids and the place where the session runs.
fn settled(text: &str) -> String {
    let word = |word: &str| {
        let hex = |c: char| c.is_ascii_hexdigit() || c == '-';
        if word.len() >= 8 && word.trim_matches(|c| "\"[],{}:".contains(c)).chars().all(hex) {
            "ID"
        } else {
            word
        }
        .to_owned()
    };
    let text = text
        .replace(" in the background", "")
        .replace("run --detach", "run")
        .replace("resume --detach", "resume");
    let text = text.replace('"', " \" ");
    text.split_whitespace().filter(|part| *part != "--detach").map(word).collect::<Vec<_>>().join(" ")
}

/// A command substitution used to wait for the end of the session, which held its pipe open.
#[test]
fn a_detached_owner_keeps_no_descriptor_of_its_caller() {
    let fixture = Fixture::new();
    let mut command = fixture.command(["run", "--detach", "--name", "far", "--", "sleep", "600"]);
    let kept = fixture.dir.path().join("kept");
    // A descriptor that a shell opens for all of its commands.
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "exec 7>\"$0\"; \"$@\" | cat"])
        .arg(&kept)
        .arg(support::BINARY)
        .args(command.get_args());
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = shell.spawn().unwrap();
    let (mut id, mut stderr) = (String::new(), String::new());
    // Both end although the session does not.
    child.stdout.take().unwrap().read_to_string(&mut id).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert!(child.wait().unwrap().success(), "{stderr}");
    let pid = owner(&fixture, id.trim());
    let files = open_files(pid);
    assert!(!files.iter().any(|file| file == kept.to_str().unwrap()), "{files:?}");
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // State, parent, group, session, terminal.
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    assert_eq!((fields[2], fields[3], fields[4]), (&*pid.to_string(), &*pid.to_string(), "0"), "{stat}");
    command = fixture.command(["cancel", "far", "--force"]);
    support::run(command).exits(0);
}

#[test]
fn a_failed_output_does_not_end_a_detached_session() {
    let fixture = Fixture::new();
    for (name, output, code) in [("left", None, 0), ("full", Some("/dev/full"), 125)] {
        let mut command = fixture.command(["run", "--detach", "--name", name, "--", "sleep", "600"]);
        match output {
            Some(path) => command.stdout(std::fs::File::options().write(true).open(path).unwrap()),
            None => command.stdout(std::io::pipe().unwrap().1),
        };
        assert_eq!(command.stderr(Stdio::null()).status().unwrap().code(), Some(code), "{name}");
        assert_eq!(fixture.show(name)["status"], "running", "{name}");
        fixture.ctl(["cancel", name, "--force"]).exits(0);
    }
}

#[test]
fn resume_detach_runs_a_crashed_session_in_background() {
    let fixture = Fixture::new();
    let script = "echo attempt $SESSIONCTL_ATTEMPT; [ $SESSIONCTL_ATTEMPT = 2 ] || sleep 600; exit 5";
    let id = fixture.ctl(["run", "--detach", "--", "sh", "-c", script]).exits(0).stdout.trim().to_owned();
    rustix::process::kill_process(Pid::from_raw(owner(&fixture, &id)).unwrap(), Signal::KILL).unwrap();
    fixture.wait_for(&id, "the crash", |shown| shown["status"] == "crashed");
    assert_eq!(fixture.ctl(["resume", "--detach", &id]).exits(0).stdout, format!("{id}\n"));
    let ended = fixture.wait_for(&id, "its end", |shown| shown["state"] == "failed");
    assert_eq!((&ended["exit_code"], &ended["attempt"]), (&json!(5), &json!(2)));
    assert_eq!(fixture.ctl(["logs", &id]).stdout.lines().last(), Some("attempt 2"));
}

#[test]
fn a_caller_killed_before_the_start_leaves_no_owner() {
    let fixture = Fixture::new();
    let script = "echo ready; sleep 600";
    let id = fixture.ctl(["run", "--detach", "--", "sh", "-c", script]).exits(0).stdout.trim().to_owned();
    rustix::process::kill_process(Pid::from_raw(owner(&fixture, &id)).unwrap(), Signal::KILL).unwrap();
    fixture.wait_for(&id, "the crash", |shown| shown["status"] == "crashed");
    // Holds the lock as a process left over from the first run would.
    let locks = sessionkit::backend::LocalPresence::new(fixture.store().join("owners"));
    let lock = support::block_on(locks.session_lock(id.parse().unwrap()).acquire()).unwrap();
    let mut waiting = fixture.command(["resume", "--detach", &id]);
    let mut waiting = waiting.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let is = |shown: &Value, liveness: &str| shown["owner"]["liveness"] == liveness;
    fixture.wait_for(&id, "the takeover", |shown| is(shown, "alive"));
    waiting.kill().unwrap();
    waiting.wait().unwrap();
    fixture.wait_for(&id, "the owner's end", |shown| shown["owner"].is_null());
    drop(lock);
    assert_eq!(fixture.show(&id)["status"], "interrupted");
}
