//! `each` in scripts: a durable `xargs`.

use std::io::Write as _;
use std::os::unix::ffi::OsStringExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::fixture::{Fixture, Ran, eventually, kill, ran, signal};

/// Runs plain `xargs` with an input.
fn xargs(fixture: &Fixture, args: &[&str], input: &str) -> Ran {
    fixture.write("xargs-input", input);
    let mut command = Command::new("xargs");
    command
        .args(args)
        .current_dir(fixture.path(""))
        .stdin(std::fs::File::open(fixture.path("xargs-input")).unwrap());
    ran(&mut command)
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn each_line_is_an_item_as_for_xargs() {
    let fixture = Fixture::new();
    let input = "a b\n\n\"quoted\" 'x'\n-n\n*\n\\\n$HOME\nlast";
    fixture.write("input", input);
    fixture.write("show", "printf '[%s]' \"$@\"; echo");
    let plain = xargs(&fixture, &["-d", "\\n", "-n1", "sh", "./show"], input);
    fixture.run("sessionctl each show -- sh ./show <input").exits(0).prints(&plain.stdout);
    let plain = xargs(&fixture, &["-d", "\\n", "-I{}", "sh", "./show", "x{}y{}", "{}"], "a b\n-n");
    fixture
        .run("printf 'a b\\n-n' | sessionctl each show -- sh ./show x{}y{} {}")
        .exits(0)
        .prints(&plain.stdout);
    fixture
        .run("printf 'a\\nb\\0\\0c' | sessionctl each show --null -- sh ./show")
        .exits(0)
        .prints("[a\nb]\n[]\n[c]\n");
    fixture
        .run("sessionctl each show -- sh ./show </dev/null")
        .exits(0)
        .prints("")
        .says("each show: no items");
}

#[test]
fn items_that_are_not_utf8_reach_the_command() {
    let fixture = Fixture::new();
    let mut input = std::ffi::OsString::from("a\u{fe}b\n").into_vec();
    input.extend(b"\xff\x80\n\x1b[31m\n");
    std::fs::write(fixture.path("input"), &input).unwrap();
    let ran = fixture
        .run("sessionctl each show --keep-going -- sh -c 'printf \"%s\\n\" \"$1\" >>out; exit 3' x <input")
        .exits(123);
    assert_eq!(std::fs::read(fixture.path("out")).unwrap(), input);
    assert!(ran.stderr.contains("each show: item `\\xff\\x80` exited with code 3"), "{ran:#?}");
    assert!(!ran.stderr.contains('\u{1b}'), "{ran:#?}");
}

#[test]
fn recorded_items_are_not_run_again() {
    let fixture = Fixture::new();
    let script = "sessionctl each check --jobs 2 -- sh -c 'echo $1 $SESSIONCTL_STEP_KEY >>ran; [ $1 != c ] || [ -e go ]' x <input";
    fixture.write("input", "a\nb\nc\n");
    fixture
        .run(script)
        .exits(123)
        .says("each check: item `c` exited with code 1")
        .says("each check: 2 done, 1 failed\n");
    fixture.write("go", "");
    // Two are gone, one is new, and one occurs twice.
    fixture.write("input", "c\nd\nb\nd\n");
    let ran = fixture.ctl(&["retry", "--quiet", "it"]).exits(0);
    let ran = ran.says("each check: 1 item of earlier runs is not in the input: a\n");
    ran.says("each check: 3 done, 1 recorded before\n");
    let text = fixture.read("ran");
    let items: Vec<&str> = text.lines().map(|line| &line[..1]).collect();
    assert_eq!(
        (sorted(&items[..3].join("\n")), sorted(&items[3..].join("\n"))),
        (vec!["a", "b", "c"], vec!["c", "d", "d"])
    );
    let mut keys: Vec<&str> = text.lines().map(|line| &line[2..]).collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), 5, "one key for each item, the same in each attempt: {text}");
}

#[test]
fn items_that_came_or_went_since_the_last_attempt_are_counted() {
    let fixture = Fixture::new();
    // The script is stopped, so that the session is resumed.
    let script = "sessionctl each check -- sh -c 'echo $1 >>ran' x <input; echo $$ >pid; while ! [ -e go ]; do sleep 0.01; done";
    fixture.write("input", "a\nb\nc\n");
    let owner = fixture.spawn(script);
    fixture.wait_for("pid");
    kill(owner);
    fixture.write("go", "");
    fixture.write("input", "c\nd\n");
    let ran = fixture.ctl(&["resume", "--quiet", "it"]).exits(0);
    let ran = ran.says("each check: 2 items of earlier runs are not in the input: a, b\n");
    ran.says("each check: 1 done, 1 recorded before, 1 new\n");
    assert_eq!(fixture.read("ran"), "a\nb\nc\nd\n");
}

#[test]
fn the_first_failure_ends_the_each_after_what_runs() {
    let fixture = Fixture::new();
    let script = "printf '%s\\n' a b c d e f g h | sessionctl each check --jobs 2 -- sh -c '
        if [ $1 = a ]; then while ! [ -e b ]; do sleep 0.01; done; exit 3; fi
        echo >$1; sleep 0.3; echo $1 >>ended' x";
    let ran = fixture.run(script).exits(123);
    assert_eq!(fixture.read("ended"), "b\n", "{ran:#?}");
    ran.says("each check: 1 done, 1 failed, 6 not run\n");
}

#[test]
fn failures_are_collected_as_asked_for() {
    let fixture = Fixture::new();
    let script =
        "seq 100 | sessionctl each check $(cat options) -- sh -c 'echo $1 >>ran; exit $(($1 % 2))' x";
    for (options, failed, ran_items) in [("--max-failures 3", 3, 5), ("--keep-going", 50, 100)] {
        let _ = std::fs::remove_file(fixture.path("ran"));
        fixture.write("options", options);
        let ran = fixture.run(script).exits(123).says(&format!("{failed} failed"));
        assert_eq!(fixture.read("ran").lines().count(), ran_items);
        let named = ran.stderr.matches("exited with code 1").count();
        assert_eq!(named, failed.min(10), "{ran:#?}");
    }
    fixture
        .run("echo a | sessionctl each check -- no-such-command")
        .exits(123)
        .says("cannot run `no-such-command`");
    fixture
        .run("echo a | sessionctl each check -- sh -c 'kill -KILL $$'")
        .exits(123)
        .says("ended by signal 9 (KILL)");
}

#[test]
fn a_failed_item_is_retried_with_the_same_key() {
    let fixture = Fixture::new();
    let script = "echo a | sessionctl each flaky --retries 5 --backoff 1ms -- sh -c 'echo $SESSIONCTL_STEP_KEY >>keys; [ $(wc -l <keys) = 3 ]'";
    let ran = fixture.run(script).exits(0).says("each flaky: 1 done\n");
    let keys = fixture.read("keys");
    assert_eq!(keys.lines().count(), 3);
    assert!(keys.lines().all(|key| key == keys.lines().next().unwrap()), "{keys}");
    assert!(!ran.stderr.contains("exited with"), "only the last failure is named: {ran:#?}");
}

#[test]
fn values_are_printed_in_the_order_of_the_input() {
    let fixture = Fixture::new();
    let script = "sessionctl each sum --jobs 4 --values -- sh -c 'sleep 0.$((5 - $1)); echo ran >>ran; printf \"<%s\\\\000\\\\377\" $1; [ $1 != 3 ] || [ -e go ]' x <input >out
        code=$?; [ $code != 0 ] || exit 7; exit $code";
    fixture.write("input", "1\n2\n3\n4\n");
    fixture.run(script).exits(123);
    assert_eq!(fixture.read("out"), "", "not all items are done");
    fixture.write("go", "");
    for (input, expected, runs) in [("1\n2\n3\n4\n", "1234", 5), ("4\n2\n1\n3\n", "4213", 5)] {
        fixture.write("input", input);
        fixture.ctl(&["retry", "--quiet", "it"]).exits(7);
        let bytes: Vec<u8> = expected.bytes().flat_map(|digit| [b'<', digit, 0, 0xff]).collect();
        assert_eq!(std::fs::read(fixture.path("out")).unwrap(), bytes);
        assert!(fixture.read("ran").lines().count() <= runs + 2);
    }
}

#[test]
fn values_that_are_too_long_exit_with_125() {
    let fixture = Fixture::new();
    let script = "printf '1\\n2\\n' | sessionctl each long --values -- sh -c 'head -c 9000000 /dev/zero; echo ran >>ran' | wc -c
        printf '1\\n2\\n' | sessionctl each long2 --values -- sh -c 'head -c 9000000 /dev/zero' >out; echo $?
        printf '1\\n2\\n' | sessionctl each fits --values -- sh -c 'head -c 8388608 /dev/zero' | wc -c; exit 1";
    fixture.run(script).exits(1).says("--values").prints("0\n125\n16777216\n");
    fixture.ctl(&["retry", "--quiet", "it"]).exits(1).says("--values").prints("0\n125\n16777216\n");
    assert_eq!(fixture.read("ran").lines().count(), 2);
}

#[test]
fn the_first_item_runs_before_the_input_ends() {
    let fixture = Fixture::new();
    let script =
        "{ echo a; while ! [ -e a ]; do sleep 0.01; done; printf b; } | sessionctl each touch -- touch";
    fixture.run(script).exits(0);
    assert!(fixture.path("b").exists());
}

#[test]
fn items_that_no_argument_can_be_are_named() {
    let fixture = Fixture::new();
    fixture.write("long", &format!("a\n{}\nb\n", "x".repeat(128 * 1024 + 1)));
    let script = "sessionctl each a -- sh -c 'echo $1 >>ran' x <long; echo $?; printf 'c\\0d\\n' | sessionctl each b -- touch; echo $?";
    let ran = fixture.run(script).exits(0).prints("125\n125\n");
    ran.says("is longer than 128 KiB").says("d` has a zero byte");
    assert!(!fixture.read("ran").contains('b'), "nothing runs after it");
}

#[test]
fn commands_have_an_empty_input_and_the_outputs_of_the_script() {
    let fixture = Fixture::new();
    let script = "printf '1\\n2\\n' | sessionctl each cat -- sh -c 'wc -c; echo err >&2'; exit 0";
    let ran = fixture.run(script).exits(0).prints("0\n0\n");
    assert_eq!(ran.stderr.matches("err\n").count(), 2);
    // An output that is not read does not hold up the others.
    let script =
        "seq 20 | sessionctl each print --jobs 5 --values -- sh -c 'head -c 300000 /dev/zero' | wc -c";
    fixture.run(script).exits(0).prints("6000000\n");
}

#[test]
fn commands_have_the_umask_and_signals_of_the_script() {
    let fixture = Fixture::new();
    let script = "umask 022; trap '' HUP PIPE
        echo a | sessionctl each look -- sh -c 'umask; grep SigIgn /proc/self/status'; umask; grep SigIgn /proc/self/status
        sessionctl --color never step look -- sh -c umask";
    let ran = fixture.run(script).exits(0);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!((lines[0], lines[2], lines[4]), ("0022", "0022", "0022"), "{ran:#?}");
    // Without those of the C library.
    let ignored =
        |line: &str| u64::from_str_radix(line.split_whitespace().last().unwrap(), 16).unwrap() & 0x3fff_ffff;
    assert_eq!((ignored(lines[1]), ignored(lines[3])), (0x1001, 0x1001), "HUP and PIPE: {ran:#?}");
}

#[test]
fn a_changed_command_is_refused_until_it_is_decided() {
    let fixture = Fixture::new();
    let script =
        "printf 'a\\nb\\n' | sessionctl each check -- sh -c \"echo $(cat flags) >>ran\"; exit $(cat go)";
    fixture.write("flags", "-O1");
    fixture.write("go", "1");
    fixture.run(script).exits(1);
    fixture.write("flags", "-O2");
    fixture.write("go", "0");
    let refused =
        fixture.ctl(&["retry", "--quiet", "it"]).says("[STEP_CHANGED]").says("--changed check=rerun");
    assert_ne!(refused.code, Some(0));
    let ran = fixture.ctl(&["retry", "--quiet", "--changed", "check=rerun", "it"]).exits(0);
    ran.says("each check: runs all items again: its command has changed").says("each check: 2 done\n");
    fixture.write("flags", "-O3");
    fixture.ctl(&["retry", "--quiet", "--changed", "check=keep", "it"]).exits(0).says("2 recorded before");
    assert_eq!(fixture.read("ran"), "-O1\n-O1\n-O2\n-O2\n");
}

#[test]
fn a_stopped_each_begins_no_further_item() {
    for (stop, passed_on) in [(Signal::TERM, true), (Signal::HUP, true), (Signal::INT, false)] {
        let fixture = Fixture::new();
        let script = "seq 1000 | sessionctl each wait --keep-going --jobs 2 -- sh -c '
                echo $PPID >client; echo $1 >>began; while ! [ -e go ]; do sleep 0.01; done; echo $1 >>ended' x; echo $? >code";
        let mut owner = fixture.spawn(script);
        eventually("two items", || fixture.read("began").lines().count() == 2);
        signal(&fixture.read("client"), stop);
        if !passed_on {
            std::thread::sleep(Duration::from_millis(100));
        }
        fixture.write("go", "");
        owner.wait().unwrap();
        assert_eq!(fixture.read("code"), format!("{}\n", 128 + stop.as_raw()));
        assert_eq!(fixture.read("began").lines().count(), 2);
        assert_eq!(fixture.read("ended").lines().count(), if passed_on { 0 } else { 2 }, "{stop:?}");
        let each = &fixture.json(&["steps", "it"])["eaches"][0];
        let counts = if passed_on { [0, 0, 2] } else { [2, 0, 0] };
        assert_eq!([&each["done"], &each["failed"], &each["unknown"]], counts, "{each}");
    }
}

#[test]
fn a_killed_client_leaves_unknown_items_without_processes() {
    let fixture = Fixture::new();
    let script = "printf 'a\\nb\\nc\\n' | sessionctl each save --if-unknown $(cat decision) --jobs 2 -- sh -c '
            trap \"\" TERM; echo $PPID >client; echo $$ >>began; while ! [ -e go ]; do sleep 0.01; done' x; exit 1";
    fixture.write("decision", "rerun");
    let mut owner = fixture.spawn(script);
    eventually("two items", || fixture.read("began").lines().count() == 2);
    signal(&fixture.read("client"), Signal::KILL);
    owner.wait().unwrap();
    for pid in fixture.read("began").lines() {
        assert!(!std::path::Path::new("/proc").join(pid).exists(), "process {pid} of an item still runs");
    }
    let each = fixture.json(&["steps", "it"])["eaches"][0].clone();
    assert_eq!(
        [&each["done"], &each["unknown"], &each["state"]],
        [&0.into(), &2.into(), &serde_json::json!("unknown")],
        "{each}"
    );
    fixture.write("go", "");
    fixture.write("decision", "fail");
    fixture.ctl(&["retry", "--quiet", "it"]).says("[STEP_UNKNOWN]").says("item `a` of `save`");
    fixture.write("decision", "skip");
    fixture.ctl(&["retry", "--quiet", "it"]).exits(1).says("each save: 3 done\n");
    assert_eq!(fixture.read("began").lines().count(), 3);
}

#[test]
fn unknown_items_ask_and_name_the_line_to_type() {
    let fixture = Fixture::new();
    let script = "printf 'a\\nb\\n' | sessionctl each save --if-unknown ask -- sh -c 'echo $$ >>$1; [ -e go ] || sleep 60' x";
    let owner = fixture.spawn(script);
    fixture.wait_for("a");
    kill(owner);
    fixture.write("go", "");
    let mut owner = fixture.spawn_with_errors(&["resume", "--quiet", "it"]);
    // The other item runs meanwhile.
    fixture.wait_for("b");
    eventually("the question", || fixture.read("errors").contains(" save rerun|fail|skip\n"));
    fixture.answer("save", "skip").unwrap();
    assert_eq!(owner.wait().unwrap().code(), Some(0));
    assert_eq!((fixture.read("a").lines().count(), fixture.read("b").lines().count()), (1, 1));
}

#[test]
fn an_each_of_a_killed_owner_continues() {
    for scheme in ["file", "sqlite", "sled"] {
        let fixture = Fixture::on(scheme);
        let script = "seq 30 | sessionctl each work --jobs 3 -- sh -c 'echo $1 >>ran; [ -e go ] || [ $1 -lt 10 ] || sleep 60' x";
        let owner = fixture.spawn(script);
        eventually("twelve items", || fixture.read("ran").lines().count() == 12);
        kill(owner);
        fixture.write("go", "");
        fixture.ctl(&["resume", "--quiet", "it"]).exits(0).says("recorded before");
        let text = fixture.read("ran");
        let mut items = sorted(&text);
        assert!((30..=33).contains(&items.len()), "{scheme}: at most three are unknown: {text}");
        items.dedup();
        assert_eq!(items.len(), 30);
    }
}

#[test]
fn a_paused_each_begins_no_item() {
    let fixture = Fixture::new();
    let script = "{ cat input; while ! [ -e more ]; do sleep 0.01; done; echo b; } | sessionctl each touch -- sh -c 'echo >$1' x";
    fixture.write("input", "a\n");
    let mut owner = fixture.spawn(script);
    fixture.wait_for("a");
    eventually("the end of the item", || fixture.json(&["steps", "it"])["eaches"][0]["done"] == 1);
    fixture.ctl(&["pause", "it"]).exits(0);
    fixture.write("more", "");
    std::thread::sleep(Duration::from_millis(200));
    assert!(!fixture.path("b").exists());
    fixture.ctl(&["resume", "it"]).exits(0);
    assert_eq!(owner.wait().unwrap().code(), Some(0));
    assert!(fixture.path("b").exists());
}

#[test]
fn without_steps_each_is_a_plain_xargs() {
    let fixture = Fixture::new();
    let off = |args: &[&str], input: &str| {
        let mut command = fixture.command(&[&["each", "a"], args].concat());
        command.env("SESSIONCTL_STEPS", "off").env_remove("SESSIONCTL_SOCKET").stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A client that ends early does not read all of it.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        let [stdout, stderr] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        Ran { code: output.status.code(), stdout, stderr }
    };
    off(&["--", "sh", "-c", "echo $1$SESSIONCTL_STEP_KEY", "x"], "1\n2\n3").exits(0).prints("1\n2\n3\n");
    off(&["--", "sh", "-c", "echo $1; exit $1", "x"], "0\n1\n2\n")
        .exits(123)
        .prints("0\n1\n")
        .says("1 failed");
    let slow_first = ["--values", "--jobs", "3", "--", "sh", "-c", "sleep 0.$((4 - $1)); echo $1", "x"];
    off(&slow_first, "1\n2\n3\n").exits(0).prints("1\n2\n3\n");
    let flaky = [
        "--retries",
        "2",
        "--backoff",
        "1ms",
        "--",
        "sh",
        "-c",
        "echo $1 >>runs; [ $(wc -l <runs) = 3 ]",
        "x",
    ];
    off(&flaky, "a").exits(0);
    off(&["--keep-going", "--jobs", "8", "--", "sh", "-c", "exit $(($1 % 2))", "x"], "1\n2\n3\n4\n")
        .exits(123)
        .says("2 done, 2 failed");
    off(&["--", "true"], "a\0b").exits(125).says("zero byte");
}
