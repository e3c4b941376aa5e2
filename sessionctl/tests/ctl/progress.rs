//! Progress of foreground programs: lines in a pipe, a bar on a terminal, nothing with `--json`; and the log of `-v`.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;

use serde_json::Value;

use crate::support::{BINARY, Fixture, eventually};
use crate::terminal::{on_terminal, on_watched_terminal, terminal};

/// A script that reports progress and prints, one step each time the test creates the next file. Without the file, the
/// step runs after a while, so that a failing test ends.
fn script(fixture: &Fixture) -> String {
    format!(
        "cd {}; allowed() {{ i=0; until test -e $1 || test $i = 1000; do i=$((i+1)); sleep 0.02; done; }}; \
         for n in 5 10 14 30; do allowed $n; {BINARY} report --progress $n --step \"step $n\"; echo line $n; done; \
         allowed 60; printf '\\033]9;4;1;60\\007'; allowed end; echo end",
        fixture.dir.path().display()
    )
}

fn allow(fixture: &Fixture, what: &str) {
    std::fs::write(fixture.dir.path().join(what), "").unwrap();
}

fn bars(stderr: &str) -> Vec<&str> {
    stderr
        .lines()
        .filter(|line| line.starts_with('['))
        .map(|line| line.split(" ETA").next().unwrap())
        .collect()
}

#[test]
fn progress_in_a_pipe_is_a_line_per_tenth() {
    let fixture = Fixture::new();
    let mut command = fixture.command(["run", "--", "sh", "-c", &script(&fixture)]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut reader = BufReader::new(child.stderr.take().unwrap());
    let (mut stderr, mut next) = (String::new(), ["10", "14", "60", "end"].iter());
    allow(&fixture, "5");
    while reader.read_line(&mut stderr).unwrap() > 0 {
        if bars(&stderr).is_empty() {
            continue;
        }
        let Some(what) = next.next() else { continue };
        allow(&fixture, what);
        if *what == "14" {
            // This report leads to no line.
            fixture.wait_for("@last", "14 %", |shown| shown["progress"]["percent"] == 14.0);
            allow(&fixture, "30");
        }
    }
    let output = child.wait_with_output().unwrap();
    let expected = [
        "[----------] 5% step 5",
        "[#---------] 10% step 10",
        "[###-------] 30% step 30",
        "[######----] 60% step 30",
        "[##########] 100% step 30 completed",
    ];
    assert_eq!(bars(&stderr), expected, "{stderr}");
    assert!(output.status.success() && !stderr.contains('\u{1b}'), "{stderr:?}");
    // What the program printed is all there is on stdout.
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(printed, "line 5\nline 10\nline 14\nline 30\n\u{1b}]9;4;1;60\u{7}end\n");
}

#[test]
fn no_progress_is_shown_without_reports_or_with_json() {
    let fixture = Fixture::new();
    for word in ["5", "10", "14", "30", "60", "end"] {
        allow(&fixture, word);
    }
    let silent = "echo out; echo err >&2".to_owned();
    for (words, script) in [(&["run"][..], silent), (&["run", "--json"], script(&fixture))] {
        let ran = fixture.ctl(words.iter().copied().chain(["--", "sh", "-c", &script])).exits(0);
        assert!(bars(&ran.stderr).is_empty() && !ran.stderr.contains('%'), "{ran:#?}");
        let mut command = fixture.command(words.iter().copied().chain(["--", "sh", "-c", &script]));
        command.env("TERM", "xterm");
        assert!(!on_terminal(command).contains("\u{1b}[2K"));
    }
}

#[test]
fn the_progress_bar_never_mixes_with_output() {
    let fixture = Fixture::new();
    let mut command = fixture.command(["run", "--no-tty", "--", "sh", "-c", &script(&fixture)]);
    command.env("TERM", "xterm").env("NO_COLOR", "1");
    let mut steps =
        [("]   5% ", "10"), ("]  10% ", "14"), ("]  14% ", "30"), ("]  30% ", "60"), ("]  60% ", "end")]
            .iter()
            .peekable();
    allow(&fixture, "5");
    let shown = on_watched_terminal(command, |so_far| {
        while let Some((_, next)) = steps.next_if(|(bar, _)| so_far.contains(bar)) {
            allow(&fixture, next);
        }
    });
    assert_eq!(steps.peek(), None, "a bar never came: {shown:?}");
    // The rest of each line after the parts that were cleared.
    let left: Vec<&str> = shown.lines().map(|line| line.rsplit("\r\u{1b}[2K").next().unwrap()).collect();
    assert_eq!(left[1..], ["line 5", "line 10", "line 14", "line 30", "end", ""], "{shown:?}");
}

/// A bar must not overwrite a prompt and the input typed after it.
#[test]
fn no_bar_is_drawn_on_an_unfinished_line() {
    let fixture = Fixture::new();
    // Stored output is forwarded at about the same time, and a report that is in the log has reached this renderer,
    // too.
    let script = format!(
        "cd {0}; allowed() {{ i=0; until test -e $1 || test $i = 1000; do i=$((i+1)); sleep 0.02; done; }}; \
         printf 'name? '; until {BINARY} logs @last 2>/dev/null | grep -q name; do sleep 0.02; done; \
         {BINARY} report --progress 40 --step asking; \
         until {BINARY} show @last --json | grep -q '\"percent\":40.0'; do sleep 0.02; done; sleep 0.3; \
         printf 'Ada\\n'; allowed bye; echo bye",
        fixture.dir.path().display()
    );
    let mut command = fixture.command(["run", "--no-tty", "--", "sh", "-c", &script]);
    command.env("TERM", "xterm");
    let shown = on_watched_terminal(command, |so_far| {
        if so_far.contains("40% asking") {
            allow(&fixture, "bye");
        }
    });
    assert!(shown.contains("name? Ada\n") && shown.contains("40% asking"), "{shown:?}");
    // The same without a terminal, with both outputs in one pipe.
    std::fs::remove_file(fixture.dir.path().join("bye")).unwrap();
    let (mut all, both) = std::io::pipe().unwrap();
    let mut command = fixture.command(["run", "--no-tty", "--", "sh", "-c", &script]);
    let mut child = command.stdout(both.try_clone().unwrap()).stderr(both).spawn().unwrap();
    drop(command);
    let (mut got, mut buffer) = (String::new(), [0; 4096]);
    while let Ok(length @ 1..) = all.read(&mut buffer) {
        got.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
        if got.contains("40% asking") {
            allow(&fixture, "bye");
        }
    }
    assert!(child.wait().unwrap().success());
    assert!(got.contains("name? Ada\n[####------] 40% asking\n"), "{got:?}");
}

/// Neither progress nor anything else waits for a terminal that is stopped or whose other side is stuck.
#[test]
fn a_blocked_terminal_does_not_block_the_session() {
    let fixture = Fixture::new();
    let script = format!("(while {BINARY} report --progress 40 --step busy; do :; done) & yes");
    let mut command = fixture.command(["run", "--name", "stuck", "-v", "--", "sh", "-c", &script]);
    let (ours, theirs) = terminal();
    command.env("TERM", "xterm").stdout(theirs.try_clone().unwrap()).stderr(theirs);
    let mut child = command.spawn().unwrap();
    drop(command);
    // More than a terminal takes that is not read.
    eventually("the terminal to be full", || {
        fixture.command(["logs", "stuck"]).output().unwrap().stdout.len() > 100_000
    });
    assert_eq!(fixture.show("stuck")["progress"]["percent"], 40.0);
    fixture.ctl(["cancel", "stuck"]).exits(0);
    fixture.wait_for("stuck", "the end", |shown| shown["state"] == "cancelled");
    // Once its output is read, the command prints the outcome and exits.
    let reader = std::thread::spawn(move || {
        while std::fs::File::from(ours.try_clone().unwrap()).read(&mut [0; 4096]).is_ok() {}
    });
    eventually("the command to end", || child.try_wait().unwrap().is_some());
    reader.join().unwrap();
}

#[test]
fn the_final_message_starts_on_its_own_line() {
    let fixture = Fixture::new();
    for option in ["--tty", "--no-tty"] {
        let mut command = fixture.command(["run", option, "--", "sh", "-c", "printf unfinished; exit 3"]);
        command.env("TERM", "xterm").env("NO_COLOR", "1");
        let shown = on_terminal(command);
        assert!(shown.contains("\nunfinished\nsession failed: "), "{option}: {shown:?}");
    }
}

#[test]
fn verbose_logs_events_as_text_or_json() {
    let fixture = Fixture::new();
    let quiet = fixture.ctl(["run", "--", "true"]).exits(0);
    assert_eq!(quiet.stderr.lines().count(), 1, "{quiet:#?}");
    let ran = fixture.ctl(["run", "-v", "--", "sh", "-c", "exit 3"]).exits(3);
    for fact in ["kind=\"created\"", "kind=\"started\"", "kind=\"failed\""] {
        assert!(
            ran.stderr.lines().any(|line| line.contains(" session: ") && line.contains(fact)),
            "{fact} {ran:#?}"
        );
    }
    assert!(!ran.stderr.contains("command_executed"), "{ran:#?}");
    let ran = fixture.ctl(["run", "-vv", "--json", "--", "true"]).exits(0);
    let shown: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(shown["state"], "completed");
    let stderr: Vec<Value> = ran.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for kind in ["created", "started", "command_executed", "completed"] {
        assert!(stderr.iter().any(|line| line["fields"]["kind"] == kind), "{kind} {ran:#?}");
    }
    let output = fixture.ctl(["ls", "--all", "--json", "-vv"]).exits(0);
    assert!(serde_json::from_str::<Value>(&output.stdout).unwrap().is_array() && !output.stderr.is_empty());
}
