//! Output that is kept, the order of both outputs, and selections of `logs`.

use serde_json::Value;

use crate::support::{Fixture, Ran, eventually};
use crate::terminal::on_terminal;

const MIB: usize = 1024 * 1024;

/// Regression: the first 64 MiB were kept, and the error in the last line was lost.
#[test]
fn both_ends_of_long_output_are_kept() {
    let fixture = Fixture::new();
    // Chunks of at most 64 KiB with the error between and after them.
    let script = "head -c 11000000 /dev/zero | tr '\\0' x; echo the first error >&2; \
        head -c 11000000 /dev/zero | tr '\\0' y; echo the last line; echo the error >&2; exit 3";
    let output = fixture.command(["run", "--keep", "1MiB", "--", "sh", "-c", script]).output().unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(3), 22_000_014), "all of it is passed on");
    let logs = fixture.command(["logs", "@last"]).output().unwrap();
    assert_eq!(logs.status.code(), Some(0));
    let (kept, stderr) = (logs.stdout, String::from_utf8(logs.stderr).unwrap());
    assert!((9 * MIB..11 * MIB).contains(&kept.len()), "{}", kept.len());
    assert!(kept[..8 * MIB].iter().all(|byte| *byte == b'x'));
    let stdout = fixture.ctl(["logs", "@last", "--stdout"]).exits(0).stdout;
    assert!(stdout.ends_with("the last line\n"));
    assert!(stderr.contains(" MiB of stdout not kept]"), "{stderr}");
    let errors = fixture.ctl(["logs", "@last", "--stderr"]).exits(0);
    assert_eq!((errors.stdout.as_str(), errors.stderr.as_str()), ("the first error\nthe error\n", ""));
    assert_eq!(fixture.ctl(["logs", "@last", "--stderr", "--tail", "1"]).exits(0).stdout, "the error\n");

    // Offsets count all bytes that were printed.
    let lines = fixture.ctl(["logs", "@last", "--json"]).exits(0).stdout;
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let missing: u64 = lines.iter().filter_map(|line| line["missing"].as_u64()).sum();
    assert_eq!(missing, (22_000_014 + 26 - kept.len()) as u64);
    let last = lines.last().unwrap();
    let length = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, last["base64"].as_str().unwrap());
    assert_eq!(last["offset"].as_u64().unwrap() + length.unwrap().len() as u64, 22_000_014 + 26);
    let why = fixture.ctl(["why", "@last"]).exits(0).stdout;
    assert!(why.contains("of the output not kept"), "{why}");
}

/// Regression: `o1 … o6 e1 … e6`.
#[test]
fn merged_output_has_its_exact_order() {
    let fixture = Fixture::new();
    let script = "for i in 1 2 3 4 5 6; do echo o$i; echo e$i >&2; done";
    let expected = "o1\ne1\no2\ne2\no3\ne3\no4\ne4\no5\ne5\no6\ne6\n";
    let is_merged = |ran: Ran| {
        assert_eq!(ran.exits(0).stdout, expected);
        assert_eq!(fixture.ctl(["logs", "@last", "--stdout"]).exits(0).stdout, expected);
    };
    for _ in 0..10 {
        is_merged(fixture.ctl(["run", "--merge", "--name", "order", "--", "sh", "-c", script]));
    }
    is_merged(fixture.ctl(["retry", "order"]));
    // The pipe ends with its reader, as without it.
    let mut command = fixture.command(["run", "--merge", "-q", "--", "yes"]);
    let mut run = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    drop(run.stdout.take());
    assert_eq!(run.wait().unwrap().code(), Some(141));
}

#[test]
fn logs_select_attempts_and_times_and_mark_attempts() {
    let fixture = Fixture::new();
    let marker = fixture.dir.path().join("second");
    // What the owner has not stored dies with it.
    let script = format!(
        "test -e {0} && {{ echo two; exit; }}; touch {0}; printf one; echo err >&2; cd {1}/sessions/*/output; \
         until test -s *-out-*.index && test -s *-err-*.index; do sleep 0.01; done; \
         read -r _ _ _ owner _ </proc/$PPID/stat; kill -9 $owner",
        marker.display(),
        fixture.store().display()
    );
    fixture.ctl(["run", "--name", "twice", "--", "sh", "-c", &script]);
    eventually("a crash", || fixture.show("twice")["status"] == "crashed");
    fixture.ctl(["resume", "twice"]).exits(0);
    let logs = |args: &[&str]| fixture.ctl(["logs", "twice"].iter().chain(args)).exits(0).stdout;
    assert_eq!(logs(&["--attempt", "1", "--stdout"]), "one");
    assert_eq!(logs(&["--attempt", "2"]), "two\n");
    let none = fixture.ctl(["logs", "twice", "--attempt", "3"]).exits(0);
    assert!(none.stdout.is_empty() && none.stderr.contains("no output"), "{none:?}");
    assert_eq!(logs(&["--stdout"]), "onetwo\n", "into a pipe, only what was printed");
    assert_eq!(logs(&["--since", "1h"]), logs(&[]));
    assert_eq!(logs(&["--since", "0s"]), "");
    assert_eq!(logs(&["--since", "2099-01-01T00:00:00Z"]), "");
    assert_eq!(logs(&["--since", "2020-01-01"]), logs(&[]));
    fixture.ctl(["logs", "twice", "--since", "yesterday"]).exits(2);
    let shown = on_terminal(fixture.command(["logs", "twice", "--stdout", "--color", "never"]));
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!((lines[0], lines[2], lines.len()), ("one", "two", 3), "{shown}");
    assert!(lines[1].starts_with("[attempt 2, 20"), "{shown}");
}

/// Regression: `logs` ended as if the rest had not been printed.
#[test]
fn output_that_is_lost_at_the_end_is_named() {
    let fixture = Fixture::new();
    // The limit of a file, as a full disk: what is beyond it cannot be stored.
    let binary = crate::support::BINARY;
    let mut command = crate::support::clean_command("bash");
    let script =
        format!("ulimit -f 200; exec {binary} run -q -- sh -c 'head -c 1000000 /dev/zero | tr \"\\0\" x'");
    command.args(["-c", &script]).env("SESSIONCTL_STORE", fixture.url());
    assert_eq!(crate::support::run(command).exits(0).stdout.len(), 1_000_000, "all of it is passed on");
    let logs = fixture.ctl(["logs", "@last"]).exits(0);
    assert!(logs.stdout.len() < 1_000_000, "{}", logs.stdout.len());
    assert!(logs.stderr.contains(" could not be stored"), "{}", logs.stderr);
    let why = fixture.ctl(["why", "@last"]).exits(0).stdout;
    assert!(why.contains("could not be stored"), "{why}");
}

/// Regression: each piece that did not fit left an empty segment, and the loss was named nowhere but in the log.
#[test]
fn a_full_disk_leaves_no_empty_files_and_is_named() {
    let fixture = Fixture::new();
    let Some(mut command) = crate::containers::unshare(&["--mount"]) else { return };
    let binary = crate::support::BINARY;
    let script = format!(
        "mkdir small && mount -t tmpfs -o size=4m tmpfs small || exit 99
         export SESSIONCTL_STORE=file:small/store
         {binary} run -q -- sh -c 'head -c 9000000 /dev/zero | tr \"\\0\" x' | wc -c
         ls small/store/sessions/*/output | wc -l
         {binary} logs @last 2>&1 >/dev/null
         mount -o remount,size=40m small
         {binary} retry @last -q | wc -c; {binary} verify >/dev/null; echo $?"
    );
    command.args(["sh", "-c", &script]).current_dir(fixture.dir.path());
    let ran = crate::support::run(command).exits(0);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!((lines[0], lines[3], lines[4]), ("9000000", "9000000", "0"), "{ran:?}");
    assert!(lines[1].parse::<u32>().unwrap() <= 5, "the lock, and two files for each stream: {ran:?}");
    assert!(lines[2].ends_with(" could not be stored]"), "{ran:?}");
}
