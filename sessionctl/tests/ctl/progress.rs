//! Progress of programs in the foreground: lines in a pipe, a bar on a terminal, nothing for programs; and `-v`.

use serde_json::Value;

use crate::support::{self, BINARY, Fixture};
use crate::terminal::on_terminal;

/// Prints, says how far it is, and waits until that is known, so that no two reports become one.
fn script() -> String {
    format!(
        "say() {{ {BINARY} report --progress $1 --step \"step $1\"; \
         until {BINARY} show @last --json | grep -q \"\\\"percent\\\":$1.0\"; do sleep 0.02; done; sleep 0.1; }}; \
         for n in 5 10 14 30; do say $n; echo line $n; done; printf '\\033]9;4;1;60\\007'; sleep 0.3; echo end"
    )
}

fn bars(stderr: &str) -> Vec<&str> {
    stderr
        .lines()
        .filter(|line| line.starts_with('['))
        .map(|line| line.split(" ETA").next().unwrap())
        .collect()
}

#[test]
fn in_a_pipe_progress_is_a_line_for_each_tenth() {
    let fixture = Fixture::new();
    let ran = fixture.ctl(["run", "--", "sh", "-c", &script()]).exits(0);
    let expected = [
        "[----------] 5% step 5",
        "[#---------] 10% step 10",
        "[###-------] 30% step 30",
        "[######----] 60% step 30",
        "[##########] 100% step 30 completed",
    ];
    assert_eq!(bars(&ran.stderr), expected, "{ran:#?}");
    assert!(!ran.stderr.contains('\u{1b}'), "{ran:#?}");
    // What the program printed is all there is on stdout.
    assert_eq!(ran.stdout, "line 5\nline 10\nline 14\nline 30\n\u{1b}]9;4;1;60\u{7}end\n");
}

#[test]
fn who_reports_nothing_or_reads_json_gets_no_progress() {
    let fixture = Fixture::new();
    for (words, script) in
        [(&["run"][..], "echo out; echo err >&2".to_owned()), (&["run", "--json"], script())]
    {
        let ran = fixture.ctl(words.iter().copied().chain(["--", "sh", "-c", &script])).exits(0);
        assert!(bars(&ran.stderr).is_empty() && !ran.stderr.contains('%'), "{ran:#?}");
        let mut command = fixture.command(words.iter().copied().chain(["--", "sh", "-c", &script]));
        command.env("TERM", "xterm");
        assert!(!on_terminal(command).contains("\u{1b}[2K"));
    }
}

#[test]
fn on_a_terminal_progress_is_a_bar_that_no_output_is_mixed_with() {
    let fixture = Fixture::new();
    let mut command = fixture.command(["run", "--", "sh", "-c", &script()]);
    command.env("TERM", "xterm").env("NO_COLOR", "1");
    let shown = on_terminal(command);
    for bar in [" 5% step 5", "]  10% ", "]  14% ", "]  30% ", "]  60% "] {
        assert!(shown.contains(bar), "{bar}: {shown:?}");
    }
    // What is left in each line once everything is taken away that was cleared.
    let left: Vec<&str> = shown.lines().map(|line| line.rsplit("\r\u{1b}[2K").next().unwrap()).collect();
    assert_eq!(left[1..], ["line 5", "line 10", "line 14", "line 30", "end", ""], "{shown:?}");
}

/// A prompt, and what somebody types behind it, is no place for a bar.
#[test]
fn an_unfinished_line_is_left_alone() {
    let fixture = Fixture::new();
    let script = format!(
        "printf 'name? '; {BINARY} report --progress 40 --step asking; sleep 0.5; printf 'Ada\\n'; sleep 0.2; echo bye"
    );
    let mut command = fixture.command(["run", "--", "sh", "-c", &script]);
    command.env("TERM", "xterm");
    let shown = on_terminal(command);
    assert!(shown.contains("name? Ada\n") && shown.contains("40% asking"), "{shown:?}");
    // The same where there is no terminal, and both go to one pipe.
    let shell = format!("exec 2>&1; {BINARY} run -- sh -c '{}'", script.replace('\'', r"'\''"));
    let mut command = std::process::Command::new("sh");
    command.env("SESSIONCTL_STORE", fixture.url()).args(["-c", &shell]);
    let ran = support::run(command).exits(0);
    assert!(ran.stdout.contains("name? Ada\n[####------] 40% asking\n"), "{ran:#?}");
}

#[test]
fn verbose_says_what_goes_on_and_json_stays_json() {
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
    let said: Vec<Value> = ran.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for kind in ["created", "started", "command_executed", "completed"] {
        assert!(said.iter().any(|line| line["fields"]["kind"] == kind), "{kind} {ran:#?}");
    }
    let looked = fixture.ctl(["ls", "--all", "--json", "-vv"]).exits(0);
    assert!(serde_json::from_str::<Value>(&looked.stdout).unwrap().is_array() && !looked.stderr.is_empty());
}
