//! `logs` of a program that had a terminal of its own: one stream, with the carriage returns of a terminal.

use std::fmt::Write as _;
use std::io::Read as _;
use std::process::Stdio;

use base64::Engine as _;
use serde_json::Value;
use sessionkit::runner::OutputStream::{Stderr, Stdout, Terminal};
use sessionkit::{SessionConfig, SessionSummary};

use crate::support::Fixture;
use crate::terminal::on_terminal;

/// Returns what a progress bar prints: thousands of states in one line.
fn progress_bar() -> String {
    let mut bar = String::new();
    for step in 0..50_000 {
        write!(bar, "\r\u{1b}[K{step:6} of 50000 [{}]", "=".repeat(step / 2_500)).unwrap();
    }
    bar
}

/// The last state of [`progress_bar`].
const LAST_STATE: &str = " 49999 of 50000 [===================]";

#[test]
fn logs_drop_the_return_of_a_terminals_line_ends() {
    let (fixture, elsewhere) = (Fixture::new(), Fixture::new());
    let id = fixture.completed(SessionConfig::new("import").name("program"));
    let pieces: [(_, &[u8]); 6] = [
        (Terminal, b"one\r\ntwo\r"),
        (Stderr, b"error\r\n"),
        (Terminal, b"\nown\r\r\n 1%\r 2%"),
        (Terminal, b"\r"),
        (Terminal, b"3%\r\n"),
        (Terminal, b"open\r"),
    ];
    fixture.print(id, &pieces);
    let shown = "one\ntwoerror\r\n\nown\r\n 1%\r 2%\r3%\nopen\r";
    assert_eq!(fixture.ctl(["logs", "program"]).exits(0).stdout, shown);
    let file = fixture.dir.path().join("shown");
    let mut command = fixture.command(["logs", "program"]);
    assert!(command.stdout(std::fs::File::create(&file).unwrap()).status().unwrap().success());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), shown, "into a file, too");

    let printed = pieces.map(|(_, bytes)| bytes).concat();
    assert_eq!(fixture.ctl(["logs", "program", "--raw"]).exits(0).stdout.into_bytes(), printed);
    let lines = fixture.ctl(["logs", "program", "--json"]).exits(0).stdout;
    let decode = |line: &str| {
        let chunk: Value = serde_json::from_str(line).unwrap();
        base64::prelude::BASE64_STANDARD.decode(chunk["base64"].as_str().unwrap()).unwrap()
    };
    assert_eq!(lines.lines().flat_map(decode).collect::<Vec<u8>>(), printed);
    // An export has all bytes.
    std::fs::write(&file, fixture.ctl(["export", "program"]).exits(0).stdout).unwrap();
    elsewhere.ctl(["import".as_ref(), file.as_os_str()]).exits(0);
    assert_eq!(elsewhere.ctl(["logs", "program", "--raw"]).exits(0).stdout.into_bytes(), printed);
}

#[test]
fn logs_of_stdout_include_a_terminal() {
    let fixture = Fixture::new();
    let id = fixture.completed(SessionConfig::new("import").name("program"));
    let pieces: [(_, &[u8]); 4] =
        [(Stdout, b"out\n"), (Stderr, b"err\n"), (Terminal, b"tty\r\n"), (Stderr, b"more\n")];
    fixture.print(id, &pieces);
    let logs = |args: &[&str]| fixture.ctl(["logs", "program"].iter().chain(args)).exits(0).stdout;
    assert_eq!(logs(&[]), "out\nerr\ntty\nmore\n");
    assert_eq!(logs(&["--stdout"]), "out\ntty\n");
    assert_eq!(logs(&["--stderr"]), "err\nmore\n");
    assert_eq!(logs(&["--stdout", "--tail", "1"]), "tty\n");
    assert_eq!(logs(&["--stderr", "--tail", "1"]), "more\n");
    assert_eq!(logs(&["--tail", "2"]), "tty\nmore\n");
    assert_eq!(logs(&["--stdout", "--raw"]), "out\ntty\r\n");
}

#[test]
fn logs_with_tail_print_the_last_state_of_a_bar() {
    let fixture = Fixture::new();
    let id = fixture.completed(SessionConfig::new("import").name("program"));
    let bar = progress_bar();
    let printed = format!("first\r\n\u{1b}[?25l{bar}\r\n\u{1b}[32mgreen\u{1b}[0m\r\n{bar}\r");
    assert!(printed.len() > 3_000_000);
    fixture.print(id, &[(Terminal, printed.as_bytes())]);
    let logs = |args: &[&str]| fixture.ctl(["logs", "program"].iter().chain(args)).exits(0).stdout;
    assert_eq!(logs(&["--tail", "1"]), LAST_STATE);
    let last_three = format!("{LAST_STATE}\n\u{1b}[32mgreen\u{1b}[0m\n{LAST_STATE}");
    assert_eq!(logs(&["--tail", "3"]), last_three);
    assert_eq!(logs(&["--tail", "5"]), format!("first\n{last_three}"));
    // Nothing is left out without it, nor with --raw.
    assert!(logs(&[]) == printed.replace("\r\n", "\n"), "all states");
    assert!(logs(&["--tail", "3", "--raw"]) == printed["first\r\n".len()..], "all bytes");
    let shown = on_terminal(fixture.command(["logs", "program", "--tail", "3", "--color", "never"]));
    assert_eq!(shown, format!("{LAST_STATE}\ngreen\n{LAST_STATE}"));
}

#[test]
fn logs_with_tail_keep_rewritten_lines_of_a_pipe() {
    let fixture = Fixture::new();
    let id = fixture.completed(SessionConfig::new("import").name("program"));
    fixture.print(id, &[(Stdout, b"first\r\n 1%\r 2%\r\n"), (Terminal, b" 1%\r 2%\r\n")]);
    assert_eq!(fixture.ctl(["logs", "program", "--tail", "2"]).exits(0).stdout, " 1%\r 2%\r\n 2%\n");
}

/// The first state of the bar has control characters: the program hides the cursor before it draws one.
#[test]
fn logs_on_a_terminal_show_the_last_state_of_a_bar() {
    let fixture = Fixture::new();
    let id = fixture.completed(SessionConfig::new("import").name("program"));
    let printed = format!("\u{1b}[?25l{}\r\n\u{1b}[?25hdone\r\n", progress_bar());
    fixture.print(id, &[(Terminal, printed.as_bytes())]);
    let shown = on_terminal(fixture.command(["logs", "program", "--color", "never"]));
    assert_eq!(shown, format!("{LAST_STATE}\n\\u{{1b}}[?25hdone\n"));
}

/// A held back state is printed once `logs` has reached the end, and what follows comes as it is printed.
#[test]
fn logs_follow_a_bar_after_its_tail() {
    let fixture = Fixture::new();
    let owner = fixture.owner(SessionConfig::new("import").name("program"));
    fixture.print(owner.id, &[(Terminal, b"first\r\n 1%\r 2%\r")]);
    let mut command = fixture.command(["logs", "program", "--tail", "1", "--follow"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut state = [0; 3];
    out.read_exact(&mut state).unwrap();
    assert_eq!(&state, b" 2%");
    fixture.print(owner.id, &[(Terminal, b" 3%\r"), (Terminal, b" 4%\r\ndone\r\n")]);
    owner.runtime.block_on(owner.session.complete(SessionSummary::new())).unwrap();
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "\r 3%\r 4%\ndone\n");
    assert!(child.wait().unwrap().success());
}

/// The carriage return at the end of an attempt is not that of a line end in the next one.
#[test]
fn logs_end_the_line_of_a_terminal_with_its_attempt() {
    let fixture = Fixture::new();
    let id = fixture.completed(SessionConfig::new("import").name("program"));
    fixture.print(id, &[(Terminal, b"one\r")]);
    fixture.print_in(2, id, &[(Terminal, b"\ntwo\r\n")]);
    assert_eq!(fixture.ctl(["logs", "program"]).exits(0).stdout, "one\r\ntwo\n");
    let shown = fixture.ctl(["logs", "program", "--tail", "2", "--attempt", "2"]).exits(0).stdout;
    assert_eq!(shown, "\ntwo\n");
}
