//! Processes that a program leaves behind, and readers that end before it.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::run;
use crate::support::{Fixture, eventually};

fn pid_in(path: &std::path::Path) -> Pid {
    eventually("a process id", || std::fs::read_to_string(path).is_ok_and(|text| text.ends_with('\n')));
    Pid::from_raw(std::fs::read_to_string(path).unwrap().trim().parse().unwrap()).unwrap()
}

/// Regression: 0 to 2 of 500 lines, and exit code 0.
#[test]
fn output_of_background_processes_is_passed_on_and_stored() {
    let fixture = Fixture::new();
    for (script, expected) in [
        ("exec > >(while read -r line; do echo \"$line\"; done | tee build.log) 2>&1; seq 1 500", 500),
        ("(sleep 0.3; echo late) & echo main", 2),
        ("seq 1 3 > >(sleep 0.3; tee /dev/stderr)", 3),
    ] {
        let mut command = fixture.command(["run", "--", "bash", "-c", script]);
        command.current_dir(fixture.dir.path());
        let ran = crate::support::run(command).exits(0);
        assert_eq!(ran.stdout.lines().count(), expected, "{script}: {ran:?}");
        let stored = fixture.ctl(["logs", "--stdout", "@last"]).exits(0);
        assert_eq!(stored.stdout, ran.stdout, "{script}");
    }
    let log = std::fs::read_to_string(fixture.dir.path().join("build.log")).unwrap();
    assert_eq!(log.lines().count(), 500);
}

/// Regression: they were killed immediately, without a message.
#[test]
fn separate_processes_are_left_running_and_named() {
    let fixture = Fixture::new();
    for wrapper in ["setsid", "nohup"] {
        let path = fixture.dir.path().join(wrapper);
        let script =
            format!("{wrapper} sh -c 'echo $$ >{}; exec sleep 60' >/dev/null 2>&1 &", path.display());
        let ran = fixture.ctl(["run", "--", "sh", "-c", &script]).exits(0);
        let pid = pid_in(&path);
        assert!(ran.stderr.contains("left running: "), "{ran:?}");
        let why = fixture.ctl(["why", "@last"]).exits(0).stdout;
        let order = ["program exited with code 0", "left running: ", "completed\n"];
        let places = order.map(|text| why.rfind(text).unwrap_or_else(|| panic!("{text}: {why}")));
        assert!(places.is_sorted(), "{why}");
        assert!(ran.stderr.contains(&format!("(pid {})", pid.as_raw_nonzero())), "{ran:?}");
        assert!(test_kill_process(pid).is_ok(), "{wrapper} is gone");
        kill_process(pid, Signal::KILL).unwrap();
    }
}

#[test]
fn other_processes_are_ended_and_named_after_the_wait() {
    let fixture = Fixture::new();
    let ran = fixture.ctl(["run", "--linger", "1200ms", "--", "sh", "-c", "sleep 60 & echo main"]).exits(0);
    assert_eq!(ran.stdout, "main\n");
    let lines = ["the program has ended; waiting for sleep (pid ", "ended background processes: sleep (pid "];
    let places = lines.map(|text| ran.stderr.find(text).unwrap_or_else(|| panic!("{text}: {ran:?}")));
    assert!(places.is_sorted() && ran.stderr.contains("--keep-background"), "{ran:?}");
    // Regression: a signal was shown before the end that caused it.
    let why = fixture.ctl(["why", "@last"]).exits(0).stdout;
    let order = ["program exited with code 0", "ended background processes: sleep (pid ", "completed\n"];
    let places = order.map(|text| why.rfind(text).unwrap_or_else(|| panic!("{text}: {why}")));
    assert!(places.is_sorted(), "{why}");
}

#[test]
fn a_retry_repeats_the_treatment_of_background_processes() {
    let fixture = Fixture::new();
    let path = fixture.dir.path().join("pid");
    let script = format!("sh -c 'echo $$ >{}; exec sleep 60' >/dev/null 2>&1 &", path.display());
    fixture.ctl(["run", "--keep-background", "--", "sh", "-c", &script]).exits(0);
    let first = pid_in(&path);
    std::fs::remove_file(&path).unwrap();
    let ran = fixture.ctl(["retry", "@last"]).exits(0);
    assert!(ran.stderr.contains("left running: "), "{ran:?}");
    for pid in [first, pid_in(&path)] {
        assert!(test_kill_process(pid).is_ok());
        kill_process(pid, Signal::KILL).unwrap();
    }
}

/// A process that outlives its owner on purpose is no leftover of a killed run.
#[test]
fn a_session_of_its_own_survives_owner_and_resume() {
    let fixture = Fixture::new();
    let path = fixture.dir.path().join("pid");
    let script = format!(
        "test $SESSIONCTL_ATTEMPT = 1 || exit 0; setsid sh -c 'echo $$ >{0}; exec sleep 60' & \
         until test -s {0}; do sleep 0.01; done; echo ready; sleep 60",
        path.display()
    );
    let mut running = run::start(&fixture, [], &script);
    let pid = pid_in(&path);
    running.kill();
    let crashed = fixture.wait_for(&running.id, "a crash", |session| session["status"] == "crashed");
    fixture.ctl(["resume", crashed["id"].as_str().unwrap()]).exits(0);
    assert!(test_kill_process(pid).is_ok());
    kill_process(pid, Signal::KILL).unwrap();
}

#[test]
fn quiet_prints_only_errors_of_its_own() {
    let fixture = Fixture::new();
    for script in ["echo out; echo err >&2", "setsid sleep 1 & echo out; echo err >&2; exit 3"] {
        let ran = fixture.ctl(["run", "-q", "--", "sh", "-c", script]);
        assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("out\n", "err\n"), "{script}");
    }
    let ran = fixture.ctl(["run", "--quiet", "--", "/nonexistent/program"]).exits(127);
    assert!(ran.stderr.contains("SPAWN_FAILED"), "{ran:?}");
}

/// Regression: `run -- yes | head -1` never ended.
#[test]
fn a_program_ends_by_pipe_when_its_reader_is_gone() {
    let fixture = Fixture::new();
    let mut command = fixture.command(["run", "--", "yes"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::with_capacity(2, child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!((line.as_str(), child.wait().unwrap().code()), ("y\n", Some(141)));
    let shown = fixture.show("@last");
    assert_eq!(shown["state"], "cancelled", "{shown}");
    let why = fixture.ctl(["why", "@last"]).exits(0).stdout;
    assert!(why.contains("cancelled: the reader of its output has gone"), "{why}");
}

#[test]
fn keep_running_stores_on_without_a_reader() {
    let fixture = Fixture::new();
    let mut command = fixture.command(["run", "--keep-running", "--", "seq", "1", "100000"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut byte = [0];
    child.stdout.take().unwrap().read_exact(&mut byte).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let stored = fixture.ctl(["logs", "@last"]).exits(0);
    assert_eq!(stored.stdout.lines().last(), Some("100000"));
}
