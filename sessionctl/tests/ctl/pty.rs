//! Programs with a terminal of their own: left and attached to, stopped and resumed, from a shell in a real terminal.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::outer_terminal::OuterTerminal;
use crate::requests::kinds;
use crate::support::{BINARY, Fixture, clean_command, eventually, run};
use crate::tmux::{Screen, has};

/// Returns a process of a session: its owner, or the viewer that started the owner.
fn process(fixture: &Fixture, name: &str, viewer: bool) -> rustix::process::Pid {
    let owner = i32::try_from(fixture.show(name)["owner"]["pid"].as_i64().unwrap()).unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{owner}/stat")).unwrap();
    let parent = stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap().parse().unwrap();
    rustix::process::Pid::from_raw(if viewer { parent } else { owner }).unwrap()
}

fn kill(pid: rustix::process::Pid, signal: Signal) {
    rustix::process::kill_process(pid, signal).unwrap();
}

#[test]
fn a_program_has_colours_and_the_size_of_its_viewer() {
    let fixture = Fixture::new();
    let Some(screen) = Screen::shell(&fixture) else { return };
    screen.do_line(
        "sessionctl run -q -- sh -c 'test -t 1 && echo terminal; stty size; ls --color=auto -d /; tput cols'",
    );
    let shown = screen.shown();
    assert!(shown.contains("terminal\n30 110\n/\n110"), "{shown}");
    let logs = fixture.ctl(["logs", "@last"]).exits(0).stdout;
    assert!(logs.starts_with("terminal\n30 110\n\u{1b}["), "without CR, with colours: {logs:?}");
    let raw = fixture.ctl(["logs", "@last", "--raw"]).exits(0).stdout;
    assert!(raw.starts_with("terminal\r\n30 110\r\n"), "{raw:?}");
    let json = fixture.ctl(["logs", "@last", "--json"]).exits(0).stdout;
    assert!(json.contains(r#""stream":"tty""#), "{json}");
}

#[test]
fn a_session_is_left_and_attached_to() {
    let fixture = Fixture::new();
    let Some(screen) = Screen::shell(&fixture) else { return };
    screen.line("sessionctl run --name shell -- sh -c 'echo begin; while read x; do echo got $x; done'; echo c''ode $?");
    screen.until_line("begin");
    screen.line("one");
    screen.until_line("got one");
    screen.key("C-]");
    screen.key("d");
    screen.until_line("code 125");
    screen.looks_like("left");
    assert_eq!(fixture.show("shell")["status"], "running");
    screen.clear();
    // From another terminal, which may be of another size.
    let Some(other) = Screen::shell(&fixture) else { return };
    other.line("sessionctl attach shell; echo c''ode $?");
    other.until_line("got one");
    other.line("two");
    other.until_line("got two");
    // Two of them see the same.
    screen.line("sessionctl attach shell; echo c''ode $?");
    screen.until_line("got two");
    screen.line("three");
    other.until_line("got three");
    screen.until_line("got three");
    // The key once more types it.
    screen.key("C-]");
    screen.key("C-]");
    screen.line("");
    screen.until("the key", |shown| shown.contains("^]"));
    screen.key("C-d");
    screen.until_line("code 0");
    other.until_line("code 0");
    assert_eq!(fixture.show("shell")["status"], "completed");
}

#[test]
fn a_closed_terminal_leaves_the_session_running() {
    let fixture = Fixture::new();
    for (name, options, status) in [
        ("stays", "", "running"),
        ("ends", "--on-hangup interrupt", "interrupted"),
        ("stopped", "", "paused"),
    ] {
        let Some(screen) = Screen::shell(&fixture) else { return };
        screen.line(&format!("sessionctl run {options} --name {name} -- sh -c 'echo ready; exec sleep 600'"));
        screen.until_line("ready");
        if name == "stopped" {
            screen.key("C-z");
            screen.until_prompt();
        }
        let viewer = process(&fixture, name, true);
        screen.close();
        eventually("the viewer is gone", || rustix::process::test_kill_process(viewer).is_err());
        let shown = fixture.wait_for(name, "its state", |shown| shown["status"] == status);
        assert_eq!(shown["state"], if status == "running" { "running" } else { "paused" }, "{shown}");
        if status != "interrupted" {
            fixture.ctl(["cancel", name]).exits(0);
        }
    }
}

#[test]
fn modes_are_restored_whatever_ends_the_viewer() {
    let fixture = Fixture::new();
    let Some(screen) = Screen::shell(&fixture) else { return };
    let is_sane = || {
        screen.do_line("stty -a | grep -c ' icanon .* echo '");
        screen.until("the answer", |shown| shown.lines().any(|line| line == "1"));
        screen.clear();
    };
    let program = "printf \"\\033[?1049h\\033[?25l\\033[?2004hscreen\"; stty raw -echo; exec sleep 600";
    for (name, end) in [("detach", "keys"), ("viewer", "KILL"), ("owner", "KILL"), ("both", "TERM")] {
        screen.line(&format!("clear; sessionctl run -q --name {name} -- sh -c '{program}'"));
        screen.until("its screen", |shown| shown == "screen");
        fixture.wait_for(name, "it runs", |shown| shown["status"] == "running");
        match (name, end) {
            ("detach", _) => {
                screen.key("C-]");
                screen.key("d");
            }
            ("viewer", _) => kill(process(&fixture, name, true), Signal::KILL),
            ("owner", _) => kill(process(&fixture, name, false), Signal::KILL),
            (_, _) => kill(process(&fixture, name, true), Signal::TERM),
        }
        screen.until("the shell's screen", |shown| !shown.contains("screen") || shown.contains("Killed"));
        screen.line("");
        screen.until_prompt();
        screen.clear();
        is_sane();
        if name == "detach" || name == "viewer" {
            assert_eq!(fixture.show(name)["status"], "running");
            fixture.ctl(["cancel", name, "--force"]).exits(0);
        }
    }
}

#[test]
fn a_job_in_the_background_shows_and_reads_no_keys() {
    let fixture = Fixture::new();
    let Some(screen) = Screen::shell(&fixture) else { return };
    screen.line("stty tostop; sessionctl run -q --name b -- sh -c 'echo behind; read x; echo got $x' &");
    screen.until("its line", |shown| shown.contains("behind\n") || shown.ends_with("$ behind"));
    screen.line("echo still mi''ne");
    screen.until_line("still mine");
    screen.line("fg");
    screen.until("fg", |shown| shown.contains("\nsessionctl run -q --name b"));
    screen.line("typed");
    screen.until_line("got typed");
    screen.until_prompt();
    // Stopped, and continued in the background.
    screen.line("clear; sessionctl run -q --name z -- sh -c 'echo begin; read x; echo got $x'");
    screen.until_line("begin");
    screen.key("C-z");
    screen.until_prompt();
    assert_eq!(fixture.show("z")["status"], "paused");
    screen.do_line("bg");
    fixture.wait_for("z", "the resume", |shown| shown["status"] == "running");
    screen.line("fg");
    screen.line("again");
    screen.until_line("got again");
    screen.until_prompt();
    assert!(kinds(&fixture, "z").windows(2).any(|pair| pair == ["paused", "resumed"]));
}

#[test]
fn a_pause_from_elsewhere_is_shown_and_lasts() {
    let fixture = Fixture::new();
    let Some(screen) = Screen::shell(&fixture) else { return };
    screen.line("sessionctl run --name p -- sh -c 'echo ready; read x; echo got $x'");
    screen.until_line("ready");
    fixture.ctl(["pause", "p"]).exits(0);
    screen.until_begun("session paused by request");
    // The key stops the job, and its continuation does not end the pause.
    screen.key("C-z");
    screen.until_prompt();
    screen.line("fg");
    screen.until_begun("sessionctl run --name p");
    assert_eq!(fixture.show("p")["status"], "paused");
    fixture.ctl(["resume", "p"]).exits(0);
    screen.line("lunch");
    screen.until_line("got lunch");
    screen.until_prompt();
    // A viewer that attaches to a paused one learns it.
    fixture.ctl(["run", "--detach", "--tty", "--name", "d", "--", "sleep", "600"]).exits(0);
    fixture.ctl(["pause", "d"]).exits(0);
    screen.line("clear; sessionctl attach d");
    screen.until_begun("session paused; next: sessionctl resume ");
    fixture.ctl(["cancel", "d"]).exits(0);
    screen.until_prompt();
    // Ctrl-C continues a paused one, and reaches it.
    screen.line("sessionctl run --name c -- sh -c 'echo set; exec sleep 600'; echo c''ode $?");
    screen.until_line("set");
    fixture.ctl(["pause", "c"]).exits(0);
    screen.key("C-c");
    screen.until_prompt();
    assert_eq!(fixture.show("c")["status"], "stopped");
}

#[test]
fn standard_streams_that_are_no_terminal_stay_as_they_are() {
    let fixture = Fixture::new();
    let Some(screen) = Screen::shell(&fixture) else { return };
    screen.do_line("sessionctl run -q -- sh -c 'test -t 1 && test -t 0 && test ! -t 2 && echo out; echo err >&2' 2>errors");
    screen.until_line("out");
    assert_eq!(std::fs::read_to_string(fixture.dir.path().join("errors")).unwrap(), "err\n");
    assert_eq!(fixture.ctl(["logs", "@last", "--stderr"]).exits(0).stdout, "err\n");
    screen.line(
        "clear; printf 'a\\nb\\n' | sessionctl run -q -- sh -c 'cat; read x </dev/tty; echo key $x'; true",
    );
    screen.until_line("b");
    screen.line("k");
    screen.until_line("key k");
    screen.until_prompt();
    screen.line("clear; sessionctl run -q -- sh -c 'cat; test -t 1 && echo end' </dev/null");
    screen.until_line("end");
    screen.until_prompt();
    screen.line("clear; echo one | xargs sessionctl run -q -- echo two");
    screen.until_line("two one");
    screen.until_prompt();
    screen.line("clear; sessionctl run -q --no-tty -- sh -c 'test -t 1 || echo none'; true");
    screen.until_line("none");
    screen.until_prompt();
    screen.line(
        "clear; sessionctl run -q --tty -- sh -c 'test -t 0 -a -t 1 -a -t 2 && echo all' </dev/null | cat -A",
    );
    screen.until_line("all^M$");
}

#[test]
fn a_resumed_program_has_its_terminal_again() {
    let fixture = Fixture::new();
    let Some(screen) = Screen::shell(&fixture) else { return };
    screen.line(
        "sessionctl run --name again -- sh -c 'test -t 2 && echo $TERM $SESSIONCTL_ATTEMPT; exec sleep 600'",
    );
    screen.until_line("screen 1");
    kill(process(&fixture, "again", false), Signal::KILL);
    screen.until_prompt();
    fixture.wait_for("again", "the crash", |shown| shown["status"] == "crashed");
    // Without a terminal here: the program has one, and it is seen from elsewhere.
    let resumed = clean_command(BINARY);
    let mut resumed = resumed;
    resumed.args(["resume", "again", "--detach"]).env("SESSIONCTL_STORE", fixture.url());
    run(resumed).exits(0);
    eventually("its output", || fixture.ctl(["logs", "again"]).stdout.contains("screen 2"));
    screen.line("clear; sessionctl attach again");
    screen.until_line("screen 2");
    screen.key("C-c");
    screen.until_prompt();
    assert_eq!(fixture.show("again")["status"], "stopped");
}

#[test]
fn a_terminal_without_a_viewer_keeps_its_last_size() {
    let fixture = Fixture::new();
    let Some(screen) = Screen::shell(&fixture) else { return };
    screen.line("sessionctl run --name sized -- sh -c 'stty size; exec sleep 600'");
    screen.until_line("30 110");
    let resizes =
        || fixture.ctl(["events", "sized"]).exits(0).stdout.matches("session.terminal_resized").count();
    assert_eq!(resizes(), 0, "the size of the beginning is part of the command");
    screen.resize(92, 21);
    eventually("the note of the size", || resizes() == 1);
    kill(process(&fixture, "sized", false), Signal::KILL);
    screen.until_prompt();
    for attempt in 2..4 {
        fixture.wait_for("sized", "the crash", |shown| shown["status"] == "crashed");
        fixture.ctl(["resume", "sized", "--detach"]).exits(0);
        let sizes = format!("30 110\n{}", "21 92\n".repeat(attempt - 1));
        eventually("its size", || fixture.ctl(["logs", "sized"]).stdout == sizes);
        let owner = fixture.show("sized")["owner"]["pid"].as_i64().unwrap();
        kill(rustix::process::Pid::from_raw(i32::try_from(owner).unwrap()).unwrap(), Signal::KILL);
    }
}

#[test]
fn a_text_is_typed_from_elsewhere() {
    let fixture = Fixture::new();
    let id = fixture.ctl([
        "run",
        "--detach",
        "--tty",
        "--name",
        "asks",
        "--",
        "sh",
        "-c",
        "read x; echo \"<$x>\"; read y",
    ]);
    id.exits(0);
    fixture.ctl(["input", "asks", "yes it is", "--enter"]).exits(0);
    eventually("the answer", || fixture.ctl(["logs", "asks"]).stdout.contains("<yes it is>\n"));
    let long = "x".repeat(4096);
    let refused = fixture.ctl(["input", "asks", &long]).fails(4, "ILLEGAL_TRANSITION");
    assert!(refused.stderr.contains("4095 bytes"), "{refused:?}");
    fixture.ctl(["cancel", "asks"]).exits(0);
    fixture.ctl(["input", "asks", "late"]).fails(4, "ILLEGAL_TRANSITION");
    fixture.ctl(["run", "-q", "--no-tty", "--name", "pipes", "--", "true"]).exits(0);
    fixture.ctl(["attach", "pipes"]).fails(2, "INVALID_ARGUMENT");
}

/// A session whose terminal has no viewer is marked where sessions are listed and explained.
#[test]
fn a_terminal_without_a_viewer_is_shown() {
    let fixture = Fixture::new();
    fixture.ctl(["run", "--detach", "--tty", "--name", "left", "--", "sleep", "600"]).exits(0);
    fixture.ctl(["run", "--detach", "--name", "pipes", "--", "sleep", "600"]).exits(0);
    let listed = |state: &str| fixture.ctl(["ls", "--state", state]).exits(0).stdout;
    let shown = listed("running");
    assert!(
        shown.contains("  left   running, detached  ") && shown.contains("  pipes  running            "),
        "{shown}"
    );
    assert!(shown.lines().all(|line| line.len() <= 80), "{shown}");
    assert_eq!(fixture.show("left")["terminal"], json!({ "viewed": false }));
    assert_eq!(fixture.show("pipes")["terminal"], json!(null));
    let next = |ran: &str| ran.lines().any(|line| line.contains("sessionctl") && line.contains(" attach "));
    let page = fixture.ctl(["show", "left"]).exits(0);
    assert!(page.stdout.contains("terminal    no viewer\n") && next(&page.stderr), "{page:?}");
    let why = fixture.ctl(["why", "left"]).exits(0);
    assert!(why.stdout.contains("Its terminal has no viewer.") && next(&why.stdout), "{why:?}");
    let page = fixture.ctl(["show", "pipes"]).exits(0);
    assert!(!page.stdout.contains("terminal ") && !next(&page.stderr), "{page:?}");
    // Paused, a session is resumed first.
    fixture.ctl(["pause", "left"]).exits(0);
    assert!(listed("paused").contains("  paused, detached  "));
    let why = fixture.ctl(["why", "left"]).exits(0);
    assert!(why.stdout.contains("Its terminal has no viewer.") && !next(&why.stdout), "{why:?}");
    fixture.ctl(["cancel", "left"]).exits(0);
    assert_eq!(fixture.show("left")["terminal"], json!(null));
}

#[test]
fn a_terminal_with_a_viewer_is_not_marked() {
    let fixture = Fixture::new();
    let Some(screen) = Screen::shell(&fixture) else { return };
    screen.line("sessionctl run --name seen -- sh -c 'echo ready; exec sleep 600'");
    screen.until_line("ready");
    let shown = fixture.wait_for("seen", "its viewer", |shown| shown["terminal"]["viewed"] == true);
    assert_eq!(shown["status"], "running");
    let listed = fixture.ctl(["ls"]).exits(0).stdout;
    assert!(listed.contains("seen  running  -  ") && !listed.contains("detached"), "{listed}");
    screen.key("C-]");
    screen.key("d");
    screen.until_prompt();
    fixture.wait_for("seen", "it is left", |shown| shown["terminal"]["viewed"] == false);
    fixture.ctl(["cancel", "seen"]).exits(0);
}

#[test]
fn attaching_from_inside_is_refused() {
    let fixture = Fixture::new();
    let Some(screen) = Screen::shell(&fixture) else { return };
    screen.line("sessionctl run -q --name inside -- bash --norc -i");
    screen.until_prompt();
    screen.do_line("sessionctl attach inside; echo c''ode $?");
    screen.until("the refusal", |shown| {
        shown.contains("this command runs inside session") && shown.contains("code 125")
    });
    screen.do_line("env -u SESSIONCTL_SESSION sessionctl attach inside; echo a''gain $?");
    screen.until("the refusal", |shown| {
        shown.contains("is the one of the session itself") && shown.contains("again 125")
    });
    screen.line("exit");
    screen.until_prompt();
}

#[test]
fn an_owner_stays_where_there_is_a_continuous_integration() {
    let fixture = Fixture::new();
    let Some(screen) = Screen::shell(&fixture) else { return };
    screen.line("CI=1 sessionctl run --name ci -- sh -c 'test -t 1 && echo terminal; exec sleep 600'");
    screen.until_line("terminal");
    let owner = fixture.show("ci")["owner"]["pid"].clone();
    let command = std::fs::read(format!("/proc/{owner}/cmdline")).unwrap();
    assert!(
        !String::from_utf8_lossy(&command).contains("__viewed"),
        "the process that was typed is the owner"
    );
    screen.close();
    let ended = fixture.wait_for("ci", "its end", |shown| shown["status"] == "interrupted");
    assert_eq!(ended["signal"], json!(1));
}

#[test]
fn programs_that_people_run_work_at_a_terminal() {
    let fixture = Fixture::new();
    let Some(screen) = Screen::shell(&fixture).filter(|_| has(&["python3", "vi", "less"])) else { return };
    screen.line("sessionctl run -q -- python3 -q");
    screen.until_line(">>>");
    screen.line("6 * 7");
    screen.until_line("42");
    // The line before, by the arrow key, and changed.
    screen.key("Up");
    screen.line(" + 1");
    screen.until_line("43");
    screen.key("C-d");
    screen.until_prompt();
    screen.line("clear; sessionctl run -q -- vi notes");
    screen.until("its screen", |shown| shown.lines().filter(|line| *line == "~").count() > 20);
    screen.line("ihello");
    screen.key("Escape");
    screen.line(":wq");
    screen.until_prompt();
    assert!(std::fs::read_to_string(fixture.dir.path().join("notes")).unwrap().starts_with("hello\n"));
    screen.line("clear; seq 1 200 | sessionctl run -q -- less");
    screen.until("its first page", |shown| shown.starts_with("1\n2\n") && shown.ends_with(':'));
    screen.key("G");
    screen.until("its last page", |shown| shown.contains("\n200\n"));
    screen.key("q");
    screen.until_prompt();
}

/// It was shown before the terminal was raw, which then added a CR to each line.
#[test]
fn an_attached_viewer_shows_the_bytes_of_the_program() {
    let fixture = Fixture::new();
    fixture.ctl(["run", "--detach", "--tty", "--name", "it", "--", "sh", "-c", "echo one; read x"]).exits(0);
    eventually("its output", || fixture.ctl(["logs", "it"]).stdout == "one\n");
    let terminal = OuterTerminal::new();
    let mut viewer = terminal.start(&fixture, &[], &["attach", "it"]);
    eventually("the line", || !terminal.shown().is_empty());
    terminal.type_keys(b"\r");
    viewer.wait().unwrap();
    assert_eq!(String::from_utf8(terminal.shown()).unwrap(), "one\r\n\r\n");
    assert_eq!(terminal.changed_modes(), None);
}

/// The viewer waited for an owner that did not know of the signal, and neither showed nor passed on anything.
#[test]
fn a_signal_during_the_start_reaches_the_program() {
    if !has(&["setsid", "strace"]) {
        return;
    }
    let fixture = Fixture::new();
    let terminal = OuterTerminal::new();
    // The viewer introduces itself late, with its second message, and gets an answer only after the signal.
    let slow = ["strace", "-o/dev/null", "-etrace=sendmsg", "-einject=sendmsg:delay_enter=1s:when=2"];
    let script = "echo ready >ready; exec sleep 600";
    let mut tracer =
        terminal.start(&fixture, &slow, &["run", "-q", "--name", "it", "--", "sh", "-c", script]);
    let ready = fixture.dir.path().join("ready");
    eventually("a program", || ready.exists() || tracer.try_wait().unwrap().is_some());
    if !ready.exists() {
        eprintln!("not run: strace may not trace here: {}", String::from_utf8_lossy(&terminal.shown()));
        return;
    }
    let [owner, viewer] = [false, true].map(|viewer| process(&fixture, "it", viewer));
    kill(owner, Signal::STOP);
    kill(viewer, Signal::TERM);
    std::thread::sleep(Duration::from_millis(1500));
    kill(owner, Signal::CONT);
    eventually("the end of the viewer", || tracer.try_wait().unwrap().is_some());
    assert_eq!(fixture.show("it")["status"], "interrupted");
}
