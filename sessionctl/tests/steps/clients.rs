//! Other clients of the step protocol: the one for Python, and the shim for scripts without `sessionctl`. The Python client
//! passes the cases of the command.

use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::fixture::{Fixture, Ran, eventually, kill, ran, signal};

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/steps");

/// A session whose script is written in Python; `None` where Python is missing.
fn python() -> Option<Fixture> {
    let found = Command::new("python3").arg("-c").arg("").stdin(Stdio::null()).status();
    if !found.is_ok_and(|status| status.success()) {
        eprintln!("not run: no python3 here");
        return None;
    }
    Some(Fixture::new())
}

/// Returns a shell script that runs this Python code with the client.
fn script(fixture: &Fixture, code: &str) -> String {
    fixture.write(
        "main.py",
        &format!("import os, sys, threading, time\nfrom step import StepError, step\n{code}\n"),
    );
    format!("PYTHONDONTWRITEBYTECODE=1 PYTHONPATH={EXAMPLES} exec python3 ./main.py")
}

fn run(fixture: &Fixture, code: &str) -> Ran {
    let script = script(fixture, code);
    fixture.run(&script)
}

#[test]
fn python_values_come_back_byte_for_byte() {
    let Some(fixture) = python() else { return };
    fixture.write("make", "printf 'a\\000b\\377\\033[1mä\\n'; head -c 300000 /dev/urandom; echo ran >>runs");
    let code = "value, code = step('bytes', ['sh', './make'])
open('out', 'ab').write(value)
value, code = step('empty', ['true'])
print(value, code, step('direct', ['echo', 'shown'], value=False))
sys.exit(1)";
    run(&fixture, code).exits(1).prints("shown\nb'' 0 (None, 0)\n");
    fixture.ctl(&["retry", "--quiet", "it"]).exits(1).prints("b'' 0 (None, 0)\n");
    let out = std::fs::read(fixture.path("out")).unwrap();
    let (first, second) = out.split_at(out.len() / 2);
    assert!(first.len() > 300_000 && first == second);
    assert_eq!(fixture.read("runs"), "ran\n");
}

#[test]
fn python_failures_are_retried_or_kept() {
    let Some(fixture) = python() else { return };
    let code = r#"
keys = "echo $SESSIONCTL_STEP_KEY >>keys; [ $(wc -l <keys) = 3 ]"
print(step("flaky", ["sh", "-c", keys], retries=5, backoff=0.001)[1])
print(step("ends", ["sh", "-c", "echo ran >>ends; exit 6"], retries=2, backoff=0.001)[1])
print(step("kept", ["sh", "-c", "echo ran >>kept; exit 9"], keep_failure=True)[1])
print(step("fine", ["sh", "-c", "echo ran >>fine; exit 4"], ok=[1, 4])[1])
print(step("missing", ["no-such-command"])[1], step("file", ["./main.py"])[1])
print(step("killed", ["sh", "-c", "kill -KILL $$"])[1])
sys.exit(1)"#;
    let printed = "0\n6\n9\n4\n127 126\n-9\n";
    run(&fixture, code).exits(1).prints(printed);
    let keys = fixture.read("keys");
    assert_eq!(keys.lines().count(), 3);
    assert!(keys.lines().all(|key| key == keys.lines().next().unwrap()), "{keys}");
    assert_eq!(fixture.read("ends").lines().count(), 3);
    assert_eq!(fixture.state("killed"), "unknown");
    fixture.ctl(&["retry", "--quiet", "it"]).exits(1).prints(printed);
    assert_eq!((fixture.read("kept"), fixture.read("fine")), ("ran\n".to_owned(), "ran\n".to_owned()));
    assert_eq!((fixture.read("keys").lines().count(), fixture.read("ends").lines().count()), (3, 6));
}

#[test]
fn a_step_of_a_killed_python_client_is_ended_and_unknown() {
    let Some(fixture) = python() else { return };
    // The command ignores TERM, and the client is killed while it runs.
    let code = r#"step("publish", ["sh", "-c", "trap '' TERM; echo $PPID >client; echo $$ >command; while :; do sleep 0.01; done"])"#;
    let mut owner = fixture.spawn(&script(&fixture, code));
    let command = fixture.wait_for("command");
    signal(&fixture.wait_for("client"), Signal::KILL);
    assert_ne!(owner.wait().unwrap().code(), Some(0));
    assert!(!Path::new("/proc").join(command.trim()).exists(), "the command still runs");
    assert_eq!(fixture.state("publish"), "unknown");
}

#[test]
fn a_python_step_is_unknown_after_the_death_of_its_owner() {
    let Some(fixture) = python() else { return };
    let code = r#"
try:
    step("publish", ["sh", "-c", "echo $$ >>publish; [ -e go ] || sleep 60"], if_unknown="fail")
except StepError as error:
    print(error.code)"#;
    let owner = fixture.spawn(&script(&fixture, code));
    fixture.wait_for("publish");
    kill(owner);
    fixture.write("go", "");
    let resumed = fixture.ctl(&["resume", "--quiet", "it"]).prints("STEP_UNKNOWN\n");
    assert_ne!(resumed.code, Some(0), "the session fails, whatever its script does");
    fixture.ctl(&["retry", "--quiet", "--unknown", "publish=skip", "it"]).exits(0);
    assert_eq!((fixture.state("publish").as_str(), fixture.read("publish").lines().count()), ("skipped", 1));
    fixture.ctl(&["retry", "--quiet", "--fresh", "it"]).exits(0);
    assert_eq!(fixture.read("publish").lines().count(), 2);
}

#[test]
fn a_changed_python_step_is_refused() {
    let Some(fixture) = python() else { return };
    fixture.write("flags", "-O1");
    let code = r#"
for name in "build", "after":
    try:
        print(step(name, ["echo", open("flags").read()]))
    except StepError as error:
        print(error.code)
sys.exit(int(open("flags").read() == "-O1"))"#;
    run(&fixture, code).exits(1);
    fixture.write("flags", "-O2");
    let refused = fixture.ctl(&["retry", "--quiet", "it"]).prints("STEP_CHANGED\nSTEP_CHANGED\n");
    assert_ne!(refused.code, Some(0));
    fixture
        .ctl(&["retry", "--quiet", "--changed", "build=keep", "--changed", "after=rerun", "it"])
        .exits(0)
        .prints("(b'-O1\\n', 0)\n(b'-O2\\n', 0)\n");
}

#[test]
fn python_keys_identify_steps_in_another_order() {
    let Some(fixture) = python() else { return };
    fixture.write("order", "a b c");
    let code = "for name in open('order').read().split():
    step('file', ['sh', '-c', f'echo {name} >>files'], key=name)
sys.exit(1)";
    run(&fixture, code).exits(1);
    fixture.write("order", "c a d b");
    fixture.ctl(&["retry", "--quiet", "it"]).exits(1);
    assert_eq!(fixture.read("files"), "a\nb\nc\nd\n");
}

#[test]
fn a_python_value_that_is_too_long_is_done_without_one() {
    let Some(fixture) = python() else { return };
    let code = r#"
try:
    step("long", ["sh", "-c", "echo ran >>ran; yes | head -c 16777217"])
except StepError as error:
    print(error.code)
print(len(step("fits", ["sh", "-c", "yes | head -c 16777216"])[0]))
sys.exit(1)"#;
    run(&fixture, code).exits(1).prints("LIMIT_EXCEEDED\n16777216\n");
    fixture.ctl(&["retry", "--quiet", "it"]).exits(1).prints("LIMIT_EXCEEDED\n16777216\n");
    assert_eq!(fixture.read("ran"), "ran\n");
}

#[test]
fn a_time_limit_ends_a_python_step() {
    let Some(fixture) = python() else { return };
    let code =
        r#"print(step("late", ["sh", "-c", "trap '' TERM; echo $$ >pid; sleep 60"], timeout_ms=200)[1])"#;
    run(&fixture, code).exits(0).prints("124\n");
    assert!(!Path::new("/proc").join(fixture.read("pid").trim()).exists(), "the command still runs");
    assert_eq!(fixture.state("late"), "timed-out");
}

#[test]
fn concurrent_python_steps_need_names_of_their_own() {
    let Some(fixture) = python() else { return };
    let code = r#"
wait = "echo >>open; while ! [ -e end ]; do sleep 0.01; done"
threads = [threading.Thread(target=step, args=("file", ["sh", "-c", wait]), kwargs={"key": key}) for key in "abc"]
for thread in threads:
    thread.start()
while not os.path.exists("open") or len(open("open").read()) < 3:
    time.sleep(0.01)
try:
    step("file", ["touch", "wrong"])
except StepError as error:
    print(error.code)
open("end", "w").close()
for thread in threads:
    thread.join()"#;
    let refused = run(&fixture, code).prints("STEP_OPEN\n");
    assert_ne!(refused.code, Some(0));
    assert!(!fixture.path("wrong").exists());
    assert_eq!(fixture.steps("it").iter().filter(|(_, state)| state == "completed").count(), 3);
}

#[test]
fn an_input_is_part_of_a_python_step() {
    let Some(fixture) = python() else { return };
    let code = r#"
try:
    print(step("sum", ["cat"], input=open("in", "rb").read() * 100_000)[0][:9])
except StepError as error:
    print(error.code)
sys.exit(1)"#;
    fixture.write("in", "12345");
    run(&fixture, code).exits(1).prints("b'123451234'\n");
    fixture.ctl(&["retry", "--quiet", "it"]).exits(1).prints("b'123451234'\n");
    fixture.write("in", "123456");
    fixture.ctl(&["retry", "--quiet", "it"]).prints("STEP_CHANGED\n");
    fixture.ctl(&["retry", "--quiet", "--changed", "sum=rerun", "it"]).exits(1).prints("b'123456123'\n");
}

#[test]
fn python_and_shell_steps_are_one_list() {
    let Some(fixture) = python() else { return };
    let code = r#"
print(step("build", ["echo", "built"])[0])
os.system("sessionctl step build -- sh -c 'echo again; exit 1'; sessionctl step build --value -- sh -c 'echo again; exit 0'")
step("build", ["true"])
sys.exit(1)"#;
    run(&fixture, code).exits(1);
    let steps = fixture.steps("it");
    assert_eq!(
        steps.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        ["build", "build#2", "build#3", "build#4"]
    );
}

#[test]
fn a_python_step_outside_a_session_does_not_run() {
    let Some(fixture) = python() else { return };
    script(&fixture, "step('outside', ['touch', 'outside'])");
    let mut python = Command::new("python3");
    python.arg("./main.py").current_dir(fixture.path("")).stdin(Stdio::null());
    python.env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONPATH", EXAMPLES).env_remove("SESSIONCTL_SOCKET");
    ran(&mut python).exits(1).says("outside a session");
    assert!(!fixture.path("outside").exists());
}

#[test]
fn an_interrupted_python_script_leaves_its_step_unknown() {
    let Some(fixture) = python() else { return };
    let code = r#"step("save", ["sh", "-c", "echo $$ >pid; while :; do sleep 0.01; done"])"#;
    let mut owner = fixture.spawn(&script(&fixture, code));
    let pid = fixture.wait_for("pid");
    signal(&owner.id().to_string(), Signal::INT);
    owner.wait().unwrap();
    eventually("the end of the command", || !Path::new("/proc").join(pid.trim()).exists());
    assert_eq!((fixture.status().as_str(), fixture.state("save").as_str()), ("stopped", "unknown"));
}

const WITH_SHIM: &str = "set -eu; . \"$1\"
v=$(sessionctl step version --retries 2 --if-unknown fail -- sh -c 'echo \"$1\"' sh 'a b -- c'); echo \"$v\"
sessionctl step build -- sh -c 'exit 5' || echo $?";

#[test]
fn a_script_with_the_shim_runs_without_sessionctl() {
    let fixture = Fixture::new();
    let shim = format!("{EXAMPLES}/shim.sh");
    for shell in ["sh", "bash", "dash", "zsh", "ksh", "busybox"] {
        let mut command = Command::new(shell);
        if shell == "busybox" {
            command.arg("sh");
        }
        command.args(["-c", WITH_SHIM, "sh", &shim]).stdin(Stdio::null()).current_dir(fixture.path(""));
        command.env("PATH", "/usr/bin:/bin").env_remove("SESSIONCTL_SOCKET");
        if command.output().is_err() {
            eprintln!("not run: no {shell} here");
            continue;
        }
        ran(&mut command).exits(0).prints("a b -- c\n5\n");
    }
}

#[test]
fn a_script_with_the_shim_has_steps_inside_a_session() {
    let fixture = Fixture::new();
    fixture.write("script", WITH_SHIM);
    let shim = format!("{EXAMPLES}/shim.sh");
    let args = ["run", "--quiet", "--name", "it", "--", "sh", "./script", &shim];
    fixture.ctl(&args).exits(0).prints("a b -- c\n5\n");
    let completed = ("version".to_owned(), "completed".to_owned());
    assert_eq!(fixture.steps("it"), [completed, ("build".to_owned(), "failed".to_owned())]);
}
