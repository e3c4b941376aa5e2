//! Stop signals, deaths and pauses: what a session is afterwards, and what `recover` and `resume` make of it.

use std::io::Read as _;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::{Fixture, eventually};

/// A program under `run`, with its owner and its supervisor.
struct Running {
    owner: Child,
    supervisor: Pid,
    program: Pid,
}

pub(crate) fn pid(number: u32) -> Pid {
    Pid::from_raw(i32::try_from(number).unwrap()).unwrap()
}

/// Waits for the only child of a process.
pub(crate) fn child_of(parent: Pid) -> Pid {
    let mut found = None;
    eventually("a child process", || {
        found = children(parent).first().copied();
        found.is_some()
    });
    found.unwrap()
}

/// Returns the children of a process.
pub(crate) fn children(parent: Pid) -> Vec<Pid> {
    let ids = std::fs::read_dir("/proc").unwrap().flatten();
    let ids = ids.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).map(pid);
    let is_child = |pid: &Pid| {
        let stat =
            std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
        let fields = stat.rsplit_once(") ").map(|(_, fields)| fields.split(' ').nth(1).map(str::to_owned));
        fields.flatten() == Some(parent.as_raw_nonzero().to_string())
    };
    ids.filter(is_child).collect()
}

impl Running {
    /// Runs a script that prints `ready` once it can be stopped, as the session `it`.
    fn start(fixture: &Fixture, options: &[&str], script: &str) -> Self {
        let mut command = fixture.command(["run", "--name", "it"].iter().chain(options));
        command.args(["--", "sh", "-c", script]).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut owner = command.spawn().unwrap();
        let mut text = [0; 6];
        owner.stdout.as_mut().unwrap().read_exact(&mut text).unwrap();
        assert_eq!(&text, b"ready\n");
        let supervisor = child_of(pid(owner.id()));
        Self { owner, supervisor, program: child_of(supervisor) }
    }

    fn signal(&self, signal: Signal, targets: &[Target]) {
        for target in targets {
            let pid = match target {
                Target::Owner => pid(self.owner.id()),
                Target::Supervisor => self.supervisor,
                Target::Program => self.program,
            };
            // The end of one of them may be the end of all.
            match kill_process(pid, signal) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(error) => panic!("{target:?}: {error}"),
            }
        }
    }

    /// Returns the exit code of the owner.
    fn exit(mut self) -> Option<i32> {
        self.owner.wait().unwrap().code()
    }
}

#[derive(Debug, Clone, Copy)]
enum Target {
    Owner,
    Supervisor,
    Program,
}

/// Ends like most programs: by the signal.
const PLAIN: &str = "echo ready; exec sleep 60";
/// Shuts down in an orderly way.
const ORDERLY: &str = "trap 'exit 0' TERM INT HUP; echo ready; while :; do sleep 0.01; done";
/// Fails when it is stopped.
const FAILING: &str = "trap 'exit 3' TERM INT HUP; echo ready; while :; do sleep 0.01; done";

fn loss(shown: &Value) -> Option<&str> {
    shown["loss"].as_str()
}

#[test]
fn a_stop_through_the_owner_ends_no_session() {
    use Target::{Owner, Program, Supervisor};
    for (script, signal, targets, exit, state) in [
        (PLAIN, Signal::TERM, &[Owner, Supervisor, Program][..], 143, "interrupted"),
        (PLAIN, Signal::TERM, &[Program, Supervisor, Owner], 143, "interrupted"),
        (PLAIN, Signal::TERM, &[Owner], 143, "interrupted"),
        (PLAIN, Signal::HUP, &[Owner], 129, "interrupted"),
        (ORDERLY, Signal::TERM, &[Owner], 0, "interrupted"),
        (ORDERLY, Signal::TERM, &[Owner, Supervisor, Program], 0, "interrupted"),
        (FAILING, Signal::TERM, &[Owner], 3, "interrupted"),
        (PLAIN, Signal::TERM, &[Program], 143, "failed"),
        (PLAIN, Signal::INT, &[Owner], 130, "stopped"),
        (FAILING, Signal::INT, &[Owner], 3, "stopped"),
        (ORDERLY, Signal::INT, &[Owner], 0, "completed"),
        (ORDERLY, Signal::INT, &[Program], 0, "completed"),
    ] {
        let case = format!("{signal:?} to {targets:?}: {script}");
        let fixture = Fixture::new();
        let running = Running::start(&fixture, &[], script);
        running.signal(signal, targets);
        assert_eq!(running.exit(), Some(exit), "{case}");
        let shown = fixture.show("it");
        match state {
            "failed" | "completed" => assert_eq!(shown["state"], state, "{case}"),
            kind => {
                assert_eq!((shown["state"].as_str(), loss(&shown)), (Some("paused"), Some(kind)), "{case}");
            }
        }
    }
}

/// Regression: a signal between the start of the program and its report abandoned the start, and the owner was gone while
/// the program ran on.
#[test]
fn an_owner_that_a_program_stops_first_of_all_waits_for_it() {
    let script = r#"trap "sleep 0.2; echo saved; exit 7" TERM
        read -r _ _ _ owner _ </proc/$PPID/stat
        kill -TERM "$owner"
        while :; do sleep 0.01; done"#;
    for round in 0..20 {
        let fixture = Fixture::new();
        let args = ["run", "--quiet", "--name", "it", "--", "sh", "-c", script];
        let ran = fixture.command(args).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&ran.stdout), "saved\n", "round {round}");
        assert_eq!(ran.status.code(), Some(7), "round {round}");
        assert_eq!(loss(&fixture.show("it")), Some("interrupted"), "round {round}");
    }
}

#[test]
fn the_same_signal_within_a_second_is_one_stop() {
    let fixture = Fixture::new();
    let running = Running::start(&fixture, &[], PLAIN);
    running.signal(Signal::TERM, &[Target::Program]);
    std::thread::sleep(std::time::Duration::from_millis(300));
    running.signal(Signal::TERM, &[Target::Owner]);
    assert_eq!(running.exit(), Some(143));
    assert_eq!(loss(&fixture.show("it")), Some("interrupted"));
}

#[test]
fn success_after_term_completes_where_the_program_means_it() {
    let fixture = Fixture::new();
    let running = Running::start(&fixture, &["--on-term", "complete"], ORDERLY);
    running.signal(Signal::TERM, &[Target::Owner]);
    assert_eq!(running.exit(), Some(0));
    assert_eq!(fixture.show("it")["state"], "completed");
    let other = Fixture::new();
    let running = Running::start(&other, &["--on-term", "complete"], FAILING);
    running.signal(Signal::TERM, &[Target::Owner]);
    assert_eq!(running.exit(), Some(3));
    assert_eq!(loss(&other.show("it")), Some("interrupted"));
}

#[test]
fn what_a_person_stopped_only_a_person_resumes() {
    let fixture = Fixture::new();
    let script = "test -e again && exit 0; touch again; echo ready; exec sleep 60";
    let mut command = fixture.command(["run", "--name", "it", "--", "sh", "-c", script]);
    command.current_dir(fixture.dir.path()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut owner = command.spawn().unwrap();
    owner.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
    kill_process(pid(owner.id()), Signal::INT).unwrap();
    assert_eq!(owner.wait().unwrap().code(), Some(130));
    fixture.ctl(["recover", "--policy", "resume"]).exits(0);
    assert_eq!(loss(&fixture.show("it")), Some("stopped"));
    fixture.ctl(["resume", "it"]).exits(0);
    assert_eq!(fixture.show("it")["state"], "completed");
}

/// Regression: the owner of a paused program never ended.
#[test]
fn a_stop_ends_a_paused_program_and_its_session_stays_paused() {
    for (signal, kind) in [(Signal::TERM, "interrupted"), (Signal::INT, "stopped")] {
        let fixture = Fixture::new();
        let running = Running::start(&fixture, &[], PLAIN);
        fixture.ctl(["pause", "it"]).exits(0);
        running.signal(signal, &[Target::Owner]);
        assert!(running.exit().is_some());
        let shown = fixture.show("it");
        assert_eq!((shown["state"].as_str(), loss(&shown)), (Some("paused"), Some(kind)));
        fixture.ctl(["recover", "--policy", "resume"]).exits(0);
        assert_eq!(fixture.show("it")["state"], "paused");
    }
}

/// Regression: a session that a person had paused ran again.
#[test]
fn a_paused_session_whose_owner_was_killed_stays_paused() {
    let fixture = Fixture::new();
    let running = Running::start(&fixture, &[], PLAIN);
    fixture.ctl(["pause", "it"]).exits(0);
    running.signal(Signal::KILL, &[Target::Owner]);
    assert_eq!(running.exit(), None);
    fixture.ctl(["recover", "--policy", "resume"]).exits(0);
    let shown = fixture.show("it");
    assert_eq!((shown["state"].as_str(), loss(&shown)), (Some("paused"), Some("crashed")));
}

/// Regression: it was run again.
#[test]
fn a_program_that_had_ended_is_not_run_again() {
    for (code, state, verb, exit) in [
        (3, "failed", &["recover", "--policy", "resume"][..], 0),
        (0, "completed", &["recover"], 0),
        (3, "failed", &["resume", "it"], 3),
        (0, "completed", &["resume", "it"], 0),
        (0, "completed", &["cancel", "it"], 0),
    ] {
        let fixture = Fixture::new();
        let script = format!("(sleep 60; echo late) & echo ready; exit {code}");
        let mut command = fixture.command(["run", "--name", "it", "--", "sh", "-c", &script]);
        let mut owner = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        owner.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
        fixture.wait_for("it", "the end of the program", |shown| shown["exit_code"] == code);
        owner.kill().unwrap();
        owner.wait().unwrap();
        let ran = fixture.ctl(verb).exits(exit);
        let shown = fixture.show("it");
        assert_eq!(
            (&shown["state"], &shown["exit_code"]),
            (&state.into(), &code.into()),
            "{verb:?}: {ran:?}"
        );
        if verb[0] == "resume" {
            assert!(ran.stderr.contains(&format!("had ended with {code}")), "{ran:?}");
        }
    }
}

/// Regression: it ran with empty input and without the variable, completed, and nothing said so.
#[test]
fn what_of_the_first_run_is_missing_is_named_or_refused() {
    let fixture = Fixture::new();
    let list = fixture.dir.path().join("list");
    std::fs::write(&list, "1\n2\n3\n").unwrap();
    let script = "echo ready; cat; test -e again && exit 0; touch again; exec sleep 60";
    let start = |name: &str, stdin: Stdio| {
        let mut command = fixture.command(["run", "--name", name, "--", "sh", "-c", script]);
        command.current_dir(fixture.dir.path()).env("FOO", "x").stdin(stdin);
        let mut owner = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        drop(owner.stdin.take());
        owner.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
        let again = fixture.dir.path().join("again");
        eventually("the program to wait", || again.exists());
        owner.kill().unwrap();
        owner.wait().unwrap();
        fixture.wait_for(name, "the crash", |shown| shown["status"] == "crashed");
    };
    start("piped", Stdio::piped());
    let refused = fixture.ctl(["resume", "piped", "--strict-env"]).exits(2);
    assert!(refused.stderr.contains("FOO"), "{refused:?}");
    let ran = fixture.ctl(["resume", "piped"]).exits(0);
    assert!(
        ran.stderr.contains("not set now: FOO") && ran.stderr.contains("was a pipe, which is gone"),
        "{ran:?}"
    );
    assert_eq!(ran.stdout, "ready\n");

    std::fs::remove_file(fixture.dir.path().join("again")).unwrap();
    start("listed", std::fs::File::open(&list).unwrap().into());
    let mut again = fixture.command(["resume", "listed", "--strict-env"]);
    again.env("FOO", "y");
    let ran = crate::support::run(again).exits(0);
    assert_eq!(ran.stdout, "ready\n1\n2\n3\n", "{ran:?}");
    assert!(!ran.stderr.contains("FOO"), "{ran:?}");

    std::fs::remove_file(fixture.dir.path().join("again")).unwrap();
    start("recovered", Stdio::piped());
    let report = fixture.json(["recover", "--policy", "resume"]);
    let message = report["recovered"][0]["message"].as_str().unwrap_or_default();
    assert!(message.contains("FOO") && message.contains("pipe"), "{report}");
}

/// Regression: a shutdown of `recover --policy resume` left crashed sessions.
#[test]
fn a_stopped_recovery_interrupts_what_it_resumed() {
    let fixture = Fixture::new();
    let running = Running::start(&fixture, &[], PLAIN);
    running.signal(Signal::KILL, &[Target::Owner]);
    running.exit();
    let again = |signal: Signal, status: &str| {
        let mut command = fixture.command(["recover", "--policy", "resume"]);
        let mut recovery = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        fixture.wait_for("it", "a running session", |shown| shown["status"] == "running");
        eventually("a program", || children(pid(recovery.id())).iter().any(|of| !children(*of).is_empty()));
        kill_process(pid(recovery.id()), signal).unwrap();
        recovery.wait().unwrap();
        assert_eq!(fixture.show("it")["status"], status);
    };
    again(Signal::TERM, "interrupted");
    again(Signal::HUP, "interrupted");
    again(Signal::INT, "stopped");
    let none = fixture.ctl(["recover", "--policy", "resume"]).exits(0);
    assert!(none.stderr.contains("no crashed sessions"), "a person stopped it: {none:?}");
}
