//! Values of steps: their recorded output.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;

use rustix::process::Signal;

use crate::fixture::{Fixture, eventually, kill, ran, signal};

#[test]
fn output_is_a_value_unless_it_is_that_of_the_session() {
    let fixture = Fixture::new();
    let script = "sessionctl step a -- echo shown
        v=$(sessionctl step b -- echo captured); sessionctl step c -- echo filed >file
        sessionctl step d --value -- echo both; w=$(sessionctl step e --no-value -- echo direct)
        echo $v $w; cat file; exit 1";
    fixture.run(script).exits(1).prints("shown\nboth\ncaptured direct\nfiled\n");
    let steps = fixture.json(&["steps", "it"]);
    let values: Vec<_> =
        steps["steps"].as_array().unwrap().iter().map(|step| step["value"].as_str()).collect();
    assert_eq!(values, [None, Some("captured"), Some("filed"), Some("both"), None]);
    // What went to the output of the session is not printed again.
    fixture.ctl(&["retry", "--quiet", "it"]).exits(1).prints("both\ncaptured\nfiled\n");
}

#[test]
fn values_come_back_byte_for_byte() {
    let fixture = Fixture::new();
    fixture.write("make", "printf 'a\\000b\\377\\033[1m\\n\\n'; head -c 300000 /dev/urandom");
    let script = "sessionctl step bytes -- sh ./make >out$(cat n); [ -e go ]";
    fixture.write("n", "1");
    fixture.run(script).exits(1);
    fixture.write("n", "2");
    fixture.write("go", "");
    fixture.ctl(&["retry", "--quiet", "it"]).exits(0);
    let (first, second) =
        (std::fs::read(fixture.path("out1")).unwrap(), std::fs::read(fixture.path("out2")).unwrap());
    assert!(first.len() > 300_000 && first == second);
}

#[test]
fn a_value_that_is_too_long_is_done_without_one() {
    let fixture = Fixture::new();
    let script = "sessionctl step long -- sh -c 'echo ran >>ran; head -c 16777217 /dev/zero' | wc -c
        v=$(sessionctl step long2 -- sh -c 'head -c 16777217 /dev/zero'); echo $?
        sessionctl step fits -- head -c 16777216 /dev/zero | wc -c; exit 1";
    fixture.run(script).exits(1).says("--no-value").prints("0\n125\n16777216\n");
    fixture.ctl(&["retry", "--quiet", "it"]).exits(1).says("--no-value").prints("0\n125\n16777216\n");
    assert_eq!(fixture.read("ran"), "ran\n");
}

#[test]
fn a_value_is_passed_on_only_when_it_is_recorded() {
    let fixture = Fixture::new();
    let script =
        "sessionctl step a -- sh -c 'echo one; echo >printed; while ! [ -e go ]; do sleep 0.01; done' >a &
        sessionctl step b --stream -- sh -c 'echo two; while ! [ -e go ]; do sleep 0.01; done' >b & wait";
    let mut owner = fixture.spawn(script);
    fixture.wait_for("printed");
    assert_eq!(fixture.wait_for("b"), "two\n");
    assert_eq!(fixture.read("a"), "");
    fixture.write("go", "");
    owner.wait().unwrap();
    assert_eq!((fixture.read("a"), fixture.read("b")), ("one\n".to_owned(), "two\n".to_owned()));
}

/// The owner dies after the command has ended, and before it has recorded that.
#[test]
fn a_value_whose_end_is_not_recorded_is_not_passed_on() {
    let fixture = Fixture::new();
    let script = "sessionctl step a -- sh -c 'echo one; echo $$ >command; echo $PPID >client; while ! [ -e go ]; do sleep 0.01; done' >a";
    let owner = fixture.spawn(script);
    let (client, command) = (fixture.wait_for("client"), fixture.read("command"));
    signal(&owner.id().to_string(), Signal::STOP);
    fixture.write("go", "");
    let ended = |pid: &str| !std::path::Path::new("/proc").join(pid.trim()).exists();
    eventually("the end of the command", || ended(&command));
    kill(owner);
    eventually("the end of its client", || ended(&client));
    assert_eq!(fixture.read("a"), "");
    fixture.ctl(&["resume", "--quiet", "it"]).exits(0);
    assert_eq!((fixture.read("a"), fixture.state("a")), ("one\n".to_owned(), "completed".to_owned()));
}

#[test]
fn an_input_is_part_of_the_step() {
    let fixture = Fixture::new();
    let script = "sessionctl step sum --stdin -- wc -c <in; exit 1";
    fixture.write("in", "12345");
    fixture.run(script).exits(1).prints("5\n");
    fixture.ctl(&["retry", "--quiet", "it"]).exits(1);
    fixture.write("in", "123456");
    fixture.ctl(&["retry", "--quiet", "it"]).says("[STEP_CHANGED]").says("another input");
    fixture.ctl(&["retry", "--quiet", "--changed", "sum=rerun", "it"]).exits(1).prints("6\n");
}

#[test]
fn a_line_about_a_step_is_written_in_one_call() {
    // Regression: the line of a replayed step was written in parts, and output of the script came in between.
    let fixture = Fixture::new();
    fixture.write("script", "sessionctl step a -- true 2>&0");
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    let mut command = fixture.command(&["run", "--quiet", "--no-tty", "--", "sh", "./script"]);
    ran(command.stdin(OwnedFd::from(theirs))).exits(0);
    let mut datagram = [0; 1024];
    let bytes = ours.recv(&mut datagram).unwrap();
    let line = String::from_utf8_lossy(&datagram[..bytes]);
    assert_eq!(line, "step a: does not read its standard input: use --stdin to pass it on\n");
}

#[test]
fn an_input_that_is_not_read_is_named() {
    let fixture = Fixture::new();
    let script = "echo lost | sessionctl step a -- cat; sessionctl step b -- cat <script; sessionctl step c -- cat </dev/null
        printf 'kept' | sessionctl step d --stdin --retries 1 --backoff 1ms -- sh -c 'cat; [ -e e ] || { : >e; exit 1; }'";
    let ran = fixture.run(script).exits(0);
    assert_eq!(ran.stderr.matches("does not read its standard input").count(), 2, "{ran:#?}");
    assert_eq!(ran.stdout, "keptkept", "each run of the step has all of its input");
}
