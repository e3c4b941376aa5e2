//! Programs as sessions: output, exit codes, the death of the owner, and resuming after it.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sessionkit::{SessionConfig, SessionId};

use crate::requests::kinds;
use crate::support::{self, Fixture, Ran, eventually};

/// Returns the id in the first line of stderr.
fn id_of(stderr: &str) -> String {
    let first = stderr.lines().next().unwrap_or_default();
    first
        .split(' ')
        .find(|word| word.parse::<SessionId>().is_ok())
        .unwrap_or_else(|| panic!("{stderr}"))
        .to_owned()
}

/// A running session in a process of its own.
pub(crate) struct Running {
    child: Child,
    pub(crate) id: String,
}

/// Starts a program in the foreground of a process of its own, and waits until its shell says `ready`.
pub(crate) fn start<'a>(
    fixture: &Fixture,
    args: impl IntoIterator<Item = &'a str>,
    script: &'a str,
) -> Running {
    let mut command = fixture.command(["run"].into_iter().chain(args).chain(["--", "sh", "-c", script]));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    // One byte at a time: the rest is read by the caller.
    let stderr = child.stderr.as_mut().unwrap();
    while !first.ends_with('\n') {
        let mut byte = [0];
        assert_eq!(stderr.read(&mut byte).unwrap(), 1, "ended before its first line: {first}");
        first.push(char::from(byte[0]));
    }
    let mut ready = String::new();
    BufReader::with_capacity(1, child.stdout.as_mut().unwrap()).read_line(&mut ready).unwrap();
    assert_eq!(ready, "ready\n");
    Running { child, id: id_of(&first) }
}

impl Running {
    /// Returns the process id of the owner.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn end(mut self) -> Ran {
        let deadline = Instant::now() + support::TIMEOUT;
        while self.child.try_wait().unwrap().is_none() {
            if Instant::now() > deadline {
                // The program ends with it.
                self.kill();
                panic!("session {} did not end", self.id);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let output = self.child.wait_with_output().unwrap();
        Ran {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

fn is_gone(pid: &str) -> bool {
    // A zombie has ended, too.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'))
}

#[test]
fn run_records_output_and_exit_code() {
    let fixture = Fixture::new();
    let script = "echo out; echo err >&2; echo more";
    let args = ["run", "--name", "hello", "--label", "team=data", "--label", "k=", "--", "sh", "-c", script];
    let ran = fixture.ctl(args).exits(0);
    assert_eq!(ran.stdout, "out\nmore\n");
    let id = id_of(&ran.stderr);
    assert_eq!(ran.stderr.lines().nth(1), Some("err"), "{ran:#?}");
    let shown = fixture.show("hello");
    let here = std::env::current_dir().unwrap();
    for (field, value) in [
        ("id", json!(id)),
        ("name", json!("hello")),
        ("operation", json!("command")),
        ("command", json!(["sh", "-c", script])),
        ("cwd", json!(here.to_str().unwrap())),
        ("state", json!("completed")),
        ("exit_code", json!(0)),
        ("signal", Value::Null),
        ("labels", json!({ "team": "data", "k": "" })),
        ("owner", Value::Null),
        ("attempt", json!(1)),
    ] {
        assert_eq!(shown[field], value, "{field}");
    }
    assert_eq!(kinds(&fixture, &id), ["created", "started", "command_executed", "completed"]);
    assert_eq!(fixture.ctl(["logs", &id, "--stdout"]).exits(0).stdout, "out\nmore\n");
    assert_eq!(fixture.ctl(["logs", &id, "--stderr"]).exits(0).stdout, "err\n");
    assert_eq!(fixture.ctl(["logs", &id, "--stdout", "--tail", "1"]).exits(0).stdout, "more\n");
    assert_eq!(fixture.ctl(["logs", &id, "--tail", "0"]).exits(0).stdout, "");
    fixture.ctl(["logs", &id, "--stdout", "--stderr"]).exits(2);
    // The owner has removed its lock.
    assert_eq!(fixture.locks(), [""; 0], "locks are left behind");
}

#[test]
fn logged_output_is_byte_identical() {
    let fixture = Fixture::new();
    let bytes = b"\x1b[31mred\x07\xff\xfe\r\nend";
    let script = r"printf '\033[31mred\007\377\376\r\nend'";
    let mut command = fixture.command(["run", "--name", "raw", "--", "sh", "-c", script]);
    assert_eq!(command.output().unwrap().stdout, bytes, "live output is forwarded unchanged");
    let logged = fixture.command(["logs", "raw"]).output().unwrap().stdout;
    assert_eq!(logged, bytes);
    let lines = fixture.ctl(["logs", "raw", "--json"]).exits(0).stdout;
    let mut decoded = Vec::new();
    for line in lines.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["offset"], decoded.len());
        assert_eq!(line["stream"], "stdout");
        let text = line["base64"].as_str().unwrap();
        decoded.extend(base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text).unwrap());
    }
    assert_eq!(decoded, bytes);
}

#[test]
fn run_exits_with_the_code_of_the_program() {
    let fixture = Fixture::new();
    let no_program = fixture.dir.path().join("plain");
    std::fs::write(&no_program, "no program").unwrap();
    let no_program = no_program.to_str().unwrap();
    for (args, code, state) in [
        (vec!["true"], 0, "completed"),
        (vec!["sh", "-c", "exit 3"], 3, "failed"),
        (vec!["sh", "-c", "exit 255"], 255, "failed"),
        (vec!["sh", "-c", "kill -9 $$"], 137, "failed"),
        (vec!["sh", "-c", "kill -15 $$"], 143, "failed"),
        (vec![no_program], 126, "failed"),
        (vec!["no-such-program-anywhere"], 127, "failed"),
    ] {
        let ran = fixture.ctl(["run", "--"].iter().chain(&args)).exits(code);
        let shown = fixture.show(id_of(&ran.stderr));
        assert_eq!(shown["state"], state, "{args:?}");
        assert!(code == 0 || ran.stderr.contains("next: "), "{ran:#?}");
    }
    let shown = fixture.show("@last");
    assert_eq!(shown["error"]["cause"], "spawn");
    assert!(fixture.ctl(["run", "--", "no-such-program"]).stderr.contains("[SPAWN_FAILED]"));
}

#[test]
fn run_with_json_prints_only_the_session() {
    let fixture = Fixture::new();
    let ran = fixture.ctl(["run", "--json", "--", "sh", "-c", "echo out; echo err >&2; exit 4"]).exits(4);
    assert_eq!(ran.stdout.lines().count(), 1, "{ran:#?}");
    let shown: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&shown["state"], &shown["exit_code"]), (&json!("failed"), &json!(4)));
    for line in ran.stderr.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["schema"], 1);
        assert_eq!(line["hint"]["sessions"][0], shown["id"]);
    }
    assert_eq!(fixture.ctl(["logs", "@last"]).stdout.lines().count(), 2);
    let ran = fixture.ctl(["run", "--json", "--", "no-such-program"]).exits(127);
    let shown: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&shown["state"], &shown["error"]["cause"]), (&json!("failed"), &json!("spawn")));
}

#[test]
fn environment_values_are_not_logged() {
    let fixture = Fixture::new();
    let mut command = fixture.command(["run", "--", "sh", "-c", "read line; echo got $line $SECRET"]);
    command.env("SECRET", "hunter2").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"hello\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "got hello hunter2\n");
    let log = fixture.ctl(["events", "@last", "--json"]).stdout;
    assert!(log.contains("\"SECRET\"") && !log.contains("hunter2"), "{log}");
}

#[test]
fn nested_sessions_and_reports_reach_the_outer_session() {
    let fixture = Fixture::new();
    let script = format!(
        "{0} report --progress 40 --step 'com\u{1b}piling' --phase build && {0} run --name inner -- true && env | grep ^SESSIONCTL_ \
         && {0} report --progress 101; echo code $?",
        support::BINARY
    );
    let ran = fixture.ctl(["run", "--name", "outer", "--", "sh", "-c", &script]).exits(0);
    let outer = fixture.show("outer");
    assert_eq!(fixture.show("inner")["parent"], outer["id"]);
    assert_eq!(outer["progress"]["percent"], 100.0, "completed");
    assert_eq!((&outer["progress"]["step"], &outer["phase"]), (&json!("com piling"), &json!("build")));
    for line in [
        format!("SESSIONCTL_SESSION={}", outer["id"].as_str().unwrap()),
        "SESSIONCTL_ATTEMPT=1".to_owned(),
        format!("SESSIONCTL_STORE={}", fixture.url()),
        "code 2".to_owned(),
    ] {
        assert!(ran.stdout.lines().any(|found| found == line), "{line}: {ran:#?}");
    }
    assert!(ran.stderr.contains("[INVALID_ARGUMENT]"), "{ran:#?}");
    let people = fixture.ctl(["events", "outer"]).stdout;
    assert!(people.contains("progress_reported") && !people.contains('\u{1b}'), "{people}");
    // Outside a session, and with an owner that is gone.
    fixture.ctl(["report", "--progress", "5"]).fails(2, "INVALID_ARGUMENT");
    let mut gone = fixture.command(["report", "--progress", "5"]);
    gone.env("SESSIONCTL_SOCKET", fixture.dir.path().join("gone"));
    support::run(gone).fails(4, "FENCED");
}

#[test]
fn cancel_ends_a_program_in_the_foreground() {
    let fixture = Fixture::new();
    for (force, trap, code) in [(false, "exit 0", 143), (false, "exit 7", 7), (true, "", 137)] {
        let running =
            start(&fixture, [], &format!("trap '{trap}' TERM; echo ready; while :; do sleep 0.05; done"));
        let mut args = vec!["cancel", &running.id, "--reason", "enough"];
        if force {
            args.push("--force");
        }
        let cancelled = fixture.json(&args);
        assert_eq!((&cancelled["state"], &cancelled["reason"]), (&json!("cancelled"), &json!("enough")));
        let ran = running.end().exits(code);
        assert!(ran.stderr.contains("enough"), "{ran:#?}");
    }
}

#[test]
fn run_forwards_signals_to_the_program() {
    let fixture = Fixture::new();
    for (signal, code, status) in
        [("INT", 130, "stopped"), ("TERM", 143, "interrupted"), ("HUP", 129, "interrupted")]
    {
        let script = format!(
            "trap 'echo caught; trap - {signal}; kill -{signal} $$' {signal}; echo ready; while :; do sleep 0.05; done"
        );
        let running = start(&fixture, [], &script);
        let pid = running.child.id().to_string();
        assert!(
            std::process::Command::new("kill")
                .args([&format!("-{signal}"), &pid])
                .status()
                .unwrap()
                .success()
        );
        let id = running.id.clone();
        let ran = running.end().exits(code);
        assert_eq!(ran.stdout, "caught\n");
        assert_eq!(fixture.show(id)["status"], status);
    }
}

/// The README's example: a program, `kill -9` of its owner, `ls`, and `resume`.
#[test]
fn a_session_can_be_resumed_after_its_owner_was_killed() {
    let fixture = Fixture::new();
    let once = fixture.dir.path().join("once");
    let script = format!(
        "sleep 600 & echo $$ $! > {0}/pids; echo ready; if [ -e {1} ]; then echo again; exit 5; fi; touch {1}; wait",
        fixture.dir.path().display(),
        once.display()
    );
    let mut running = start(&fixture, ["--name", "story"], &script);
    eventually("the program to wait", || once.exists());
    let pids = std::fs::read_to_string(fixture.dir.path().join("pids")).unwrap();
    running.kill();
    let listed = fixture.json(["ls"]);
    assert_eq!((&listed[0]["status"], &listed[0]["state"]), (&json!("crashed"), &json!("running")));
    assert_eq!(listed[0]["owner"]["liveness"], "dead");
    let listed = fixture.ctl(["ls"]);
    assert!(listed.stdout.contains("crashed") && listed.stderr.contains("has crashed"), "{listed:#?}");
    for pid in pids.split_whitespace() {
        eventually("the tree to end", || is_gone(pid));
    }
    let listed = fixture.ctl(["run", "--", "true"]).exits(0);
    assert!(
        listed.stderr.lines().nth(1).unwrap().contains("has crashed"),
        "the first line is the session's: {listed:#?}"
    );
    let ran = fixture.ctl(["resume", "story"]).exits(5);
    assert_eq!(ran.stdout, "ready\nagain\n");
    // Without the note about ended leftovers.
    let recorded: Vec<String> =
        kinds(&fixture, &running.id).into_iter().filter(|kind| kind != "noted").collect();
    assert_eq!(recorded, ["created", "started", "interrupted", "resumed", "command_executed", "failed"]);
    assert_eq!(fixture.ctl(["logs", "story"]).stdout, "ready\nready\nagain\n");
    assert_eq!(fixture.show("story")["attempt"], 2);
    assert!(!fixture.ctl(["ls"]).stderr.contains("has crashed"));
}

#[test]
fn a_killed_supervisor_fails_the_session_as_a_crash() {
    let fixture = Fixture::new();
    let script = "echo $PPID > pid.tmp; mv pid.tmp pid; echo ready; sleep 600";
    let script = format!("cd {}; {script}", fixture.dir.path().display());
    let running = start(&fixture, [], &script);
    let pid = std::fs::read_to_string(fixture.dir.path().join("pid")).unwrap();
    assert!(std::process::Command::new("kill").args(["-9", pid.trim()]).status().unwrap().success());
    let id = running.id.clone();
    let ran = running.end();
    assert!(ran.code.is_some_and(|code| code != 0), "{ran:#?}");
    let shown = fixture.show(id);
    assert_eq!((&shown["state"], &shown["error"]["cause"]), (&json!("failed"), &json!("crash")), "{shown}");
}

#[test]
fn exactly_one_of_several_resumes_wins() {
    let fixture = Fixture::new();
    let runs = fixture.dir.path().join("runs");
    let script = format!(
        "echo ran >> {}; echo ready; if [ $SESSIONCTL_ATTEMPT = 1 ]; then sleep 600; fi",
        runs.display()
    );
    for _ in 0..3 {
        let _ = std::fs::remove_file(&runs);
        let mut running = start(&fixture, [], &script);
        running.kill();
        let rivals: Vec<_> = (0..4)
            .map(|_| {
                let mut command = fixture.command(["resume", &running.id]);
                command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
            })
            .collect();
        let ended: Vec<_> = rivals.into_iter().map(|rival| rival.wait_with_output().unwrap()).collect();
        let won = ended.iter().filter(|output| output.status.success()).count();
        assert_eq!(won, 1, "{ended:#?}");
        for output in ended.iter().filter(|output| !output.status.success()) {
            assert_eq!(output.status.code(), Some(125), "{output:?}");
            let said = String::from_utf8_lossy(&output.stderr);
            let codes = ["[CONFLICT]", "[FENCED]", "[ILLEGAL_TRANSITION]"];
            assert!(codes.iter().any(|code| said.contains(code)), "{said}");
        }
        assert_eq!(std::fs::read_to_string(&runs).unwrap(), "ran\nran\n", "the program ran too often");
        let resumed = kinds(&fixture, &running.id).iter().filter(|kind| *kind == "resumed").count();
        assert_eq!(resumed, 1);
    }
}

/// A resume waits until all processes of the last attempt have ended, and can be interrupted.
#[test]
fn resume_waits_for_the_end_of_the_last_attempt() {
    let fixture = Fixture::new();
    let script = "echo ready; [ $SESSIONCTL_ATTEMPT = 1 ] && sleep 600; echo again";
    let mut running = start(&fixture, [], script);
    running.kill();
    let id: SessionId = running.id.parse().unwrap();
    let locks = sessionkit::backend::LocalPresence::new(fixture.store().join("owners"));
    let lock = support::block_on(locks.session_lock(id).acquire()).unwrap();
    let resume = || {
        let mut command = fixture.command(["resume", &running.id]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        fixture.wait_for(id, "the takeover", |shown| shown["owner"]["pid"] == child.id());
        child
    };
    let mut first = resume();
    assert!(
        std::process::Command::new("kill")
            .args(["-INT", &first.id().to_string()])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(first.wait().unwrap().code(), Some(130));
    assert_eq!(fixture.show(id)["status"], "interrupted");
    let second = resume();
    assert_eq!(
        fixture.ctl(["logs", &running.id]).stdout,
        "ready\n",
        "it ran concurrently with its last attempt"
    );
    drop(lock);
    let output = second.wait_with_output().unwrap();
    assert_eq!((output.status.code(), &*output.stdout), (Some(0), &b"ready\nagain\n"[..]));
}

#[test]
fn recover_with_policy_resume_runs_commands_again() {
    let fixture = Fixture::new();
    let script = "echo ready; if [ $SESSIONCTL_ATTEMPT = 1 ]; then sleep 600; fi; echo second";
    let mut running = start(&fixture, [], script);
    running.kill();
    // Work of a library has no command to run again.
    let library = fixture.crashed(SessionConfig::new("import"));
    let dry = fixture.json(["recover", "--policy", "resume", "--dry-run"]);
    assert_eq!(dry["recovered"].as_array().map(Vec::len), Some(2));
    let done = fixture.json(["recover", "--policy", "resume"]);
    let of = |id: &str| {
        let found = done["recovered"].as_array().unwrap().iter().find(|item| item["id"] == id);
        found.unwrap_or_else(|| panic!("{done}"))["outcome"].clone()
    };
    assert_eq!((of(&running.id), of(&library.to_string())), (json!("running"), json!("paused")));
    assert_eq!(fixture.show(&running.id)["state"], "completed");
    assert_eq!(fixture.ctl(["logs", &running.id]).stdout, "ready\nready\nsecond\n");
}

#[test]
fn resume_asks_a_live_owner() {
    let fixture = Fixture::new();
    let running = start(&fixture, [], "echo ready; while [ ! -e go ]; do sleep 0.05; done");
    // Running already.
    fixture.ctl(["resume", &running.id]).fails(125, "ILLEGAL_TRANSITION");
    support::block_on(async {
        let store = fixture.open().await;
        let id = running.id.parse().unwrap();
        store.manager().pause_session(id, "lunch".to_owned()).await.unwrap();
    });
    let paused = fixture.wait_for(&running.id, "the pause", |shown| shown["state"] == "paused");
    assert_eq!((&paused["status"], &paused["owner"]["liveness"]), (&json!("paused"), &json!("alive")));
    assert_eq!(fixture.json(["resume", &running.id])["state"], "running");
    fixture.ctl(["cancel", &running.id, "--force"]).exits(0);
    running.end();
}

#[test]
fn resume_rejects_a_session_without_a_command() {
    let fixture = Fixture::new();
    let id = fixture.crashed(SessionConfig::new("import")).to_string();
    let before = fixture.snapshot();
    fixture.ctl(["resume", &id]).fails(2, "INVALID_ARGUMENT");
    assert_eq!(fixture.snapshot(), before);
}
