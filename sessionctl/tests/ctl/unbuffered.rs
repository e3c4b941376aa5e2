//! Programs in Python, which keep their output back while it goes to a pipe: `--unbuffered`, and the hint of `logs`.

use std::process::Stdio;

use crate::follow::Follower;
use crate::support::{Fixture, eventually, run};
use crate::tmux::has;

/// Prints the variable, and runs on in the first attempt.
const SCRIPT: &str = "echo \"[$PYTHONUNBUFFERED]\"; test $SESSIONCTL_ATTEMPT = 2 || exec sleep 600";
const PRINT: &str = "echo \"[$PYTHONUNBUFFERED]\"";

/// Runs a program with these variables in the environment, and returns what it prints.
fn printed(fixture: &Fixture, variables: &[(&str, &str)], options: &[&str]) -> String {
    let args = [&["run"], options, &["--", "sh", "-c", PRINT]].concat();
    let mut command = fixture.command(args);
    command.env_remove("PYTHONUNBUFFERED").envs(variables.iter().copied());
    run(command).exits(0).stdout
}

#[test]
fn unbuffered_sets_the_variable_unless_it_is_set() {
    let fixture = Fixture::new();
    let file = fixture.dir.path().join("config.toml");
    std::fs::write(&file, "unbuffered = true").unwrap();
    let file = ("SESSIONCTL_CONFIG", file.to_str().unwrap());
    for (variables, options, expected) in [
        (&[][..], &[][..], "[]\n"),
        (&[], &["--unbuffered"], "[1]\n"),
        (&[file], &[], "[1]\n"),
        (&[file, ("SESSIONCTL_UNBUFFERED", "0")], &[], "[]\n"),
        (&[file, ("SESSIONCTL_UNBUFFERED", "0")], &["--unbuffered"], "[1]\n"),
        (&[("SESSIONCTL_UNBUFFERED", "true")], &[], "[1]\n"),
        (&[("PYTHONUNBUFFERED", "")], &["--unbuffered"], "[]\n"),
        (&[("PYTHONUNBUFFERED", "x")], &["--unbuffered"], "[x]\n"),
        (&[], &["--unbuffered", "--env", "PYTHONUNBUFFERED=y"], "[y]\n"),
    ] {
        assert_eq!(printed(&fixture, variables, options), expected, "{variables:?} {options:?}");
    }
}

#[test]
fn a_retry_repeats_the_recorded_choice() {
    let fixture = Fixture::new();
    for (options, today, expected) in [(&["--unbuffered"][..], "false", "[1]\n"), (&[], "true", "[]\n")] {
        printed(&fixture, &[], options);
        let mut command = fixture.command(["retry", "@last"]);
        command.env_remove("PYTHONUNBUFFERED").env("SESSIONCTL_UNBUFFERED", today);
        assert_eq!(run(command).exits(0).stdout, expected, "{options:?}");
    }
}

#[test]
fn a_resume_repeats_the_recorded_choice() {
    let fixture = Fixture::new();
    let mut command = fixture.command(["run", "--name", "it", "--unbuffered", "--", "sh", "-c", SCRIPT]);
    command.env_remove("PYTHONUNBUFFERED").stdout(Stdio::null()).stderr(Stdio::null());
    let mut owner = command.spawn().unwrap();
    eventually("its output", || fixture.ctl(["logs", "it"]).stdout == "[1]\n");
    owner.kill().unwrap();
    owner.wait().unwrap();
    let mut command = fixture.command(["resume", "it"]);
    command.env_remove("PYTHONUNBUFFERED");
    assert_eq!(run(command).exits(0).stdout, "[1]\n");
}

#[test]
fn unbuffered_python_output_is_stored_while_it_runs() {
    if !has(&["python3"]) {
        return;
    }
    let fixture = Fixture::new();
    let program = "import time; print('x'); time.sleep(600)";
    let args = ["run", "--detach", "--name", "it", "--unbuffered", "--", "python3", "-c", program];
    let mut command = fixture.command(args);
    command.env_remove("PYTHONUNBUFFERED");
    run(command).exits(0);
    eventually("its output", || fixture.ctl(["logs", "it"]).stdout == "x\n");
    assert_eq!(fixture.show("it")["status"], "running");
    fixture.ctl(["cancel", "--force", "it"]).exits(0);
}

/// Before, a follower of such a program showed nothing for hours, and nothing said why.
#[test]
fn a_follower_of_silent_python_is_hinted_at_the_buffer() {
    let fixture = Fixture::new();
    // Named like Python: the hint depends on the command line, and not on the program.
    let python = fixture.dir.path().join("python3.99");
    std::os::unix::fs::symlink("/bin/sh", &python).unwrap();
    let python = python.to_str().unwrap();
    let start = |name: &str, options: &[&str], argv: &[&str]| {
        let args = [&["run", "--detach", "--name", name], options, &["--"], argv].concat();
        let mut command = fixture.command(args);
        command.env_remove("PYTHONUNBUFFERED");
        run(command).exits(0);
    };
    start("other", &[], &["sh", "-c", "sleep 600"]);
    start("unbuffered", &["--unbuffered"], &[python, "-c", "sleep 600"]);
    start("talks", &[], &[python, "-c", "echo x; sleep 600"]);
    start("silent", &[], &[python, "-c", "sleep 600"]);
    let follow = |name: &str| Follower::start(&fixture, &["logs", name, "--follow"]);
    let others = ["other", "unbuffered", "talks"].map(follow);
    // It is the last to be due.
    let silent = follow("silent");
    let hint = silent.stderr_line();
    let next = format!("sessionctl run --unbuffered -- {python} -c 'sleep 600'\n");
    assert!(hint.contains("Python buffers its output") && hint.ends_with(&next), "{hint}");
    for name in ["other", "unbuffered", "talks", "silent"] {
        fixture.ctl(["cancel", "--force", name]).exits(0);
    }
    for follower in others.into_iter().chain([silent]) {
        let (_, code, stderr) = follower.end();
        assert!(code == Some(0) && !stderr.contains("Python"), "{stderr}");
    }
}
