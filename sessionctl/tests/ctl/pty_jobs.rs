//! Viewers as jobs: of a shell, of `timeout`, as the first process of a container, and several on one terminal.

use crate::support::{Fixture, eventually};
use crate::tmux::{Screen, has};

#[test]
fn a_viewer_ends_the_session_with_itself() {
    let fixture = Fixture::new();
    let Some(screen) = Screen::shell(&fixture) else { return };
    screen.line("timeout 1 sessionctl run -q --name t -- sleep 600; echo c''ode $?");
    screen.until_line("code 124");
    fixture.wait_for("t", "its end", |shown| shown["status"] == "interrupted");
    screen.line("clear; sessionctl run -q --name k -- sleep 600 &");
    fixture.wait_for("k", "it runs", |shown| shown["status"] == "running");
    screen.line("kill %1; wait $!; echo c''ode $?");
    screen.until_line("code 143");
    assert_eq!(fixture.show("k")["status"], "interrupted");
}

#[test]
fn what_follows_a_run_that_was_left_does_not_run() {
    let fixture = Fixture::new();
    let Some(screen) = Screen::shell(&fixture) else { return };
    screen.line(
        "sessionctl run -q --name build -- sh -c 'echo begin; read x' && echo depl''oyed; echo c''ode $?",
    );
    screen.until_line("begin");
    screen.key("C-]");
    screen.key("d");
    screen.until_line("code 125");
    assert!(!screen.shown().contains("deployed"), "{}", screen.shown());
    assert_eq!(fixture.show("build")["status"], "running");
    fixture.ctl(["cancel", "build", "--force"]).exits(0);
}

#[test]
fn one_of_two_viewers_on_a_terminal_has_its_keys() {
    let fixture = Fixture::new();
    let Some(screen) = Screen::shell(&fixture) else { return };
    screen.line("sessionctl run -q --name one -- sh -c 'echo first; read x; echo one got $x' &");
    screen.until("the first", |shown| shown.contains("first\n") || shown.ends_with("first"));
    screen.line("sessionctl run -q --name two -- sh -c 'echo second; read x; echo two got $x'");
    screen.until_line("second");
    screen.line("a line");
    screen.until_line("two got a line");
    screen.until_prompt();
    screen.line("fg");
    screen
        .until("the first one", |shown| shown.lines().last().is_some_and(|last| last.contains("--name one")));
    screen.line("another");
    screen.until_line("one got another");
    screen.until_prompt();
}

#[test]
fn the_first_process_of_a_container_stays_until_the_end() {
    let fixture = Fixture::new();
    let tools = ["unshare", "setsid"];
    let Some(screen) = Screen::shell(&fixture).filter(|_| has(&tools)) else { return };
    screen.line("unshare -pf --mount-proc true && echo al''lowed; echo");
    screen.until_prompt();
    if !screen.shown().contains("allowed") {
        eprintln!("not run: this user may not create PID namespaces");
        return;
    }
    let run = "exec unshare -pf --mount-proc setsid --ctty sessionctl run -q --name";
    screen.line(&format!(
        "{run} stays -- sh -c 'echo up; until test -e go; do sleep 0.05; done; echo done >done'"
    ));
    screen.until_line("up");
    screen.close();
    std::fs::write(fixture.dir.path().join("go"), "").unwrap();
    eventually("its end", || fixture.dir.path().join("done").exists());
    fixture.wait_for("stays", "its end", |shown| shown["status"] == "completed");
}

#[test]
fn background_output_at_a_terminal_is_waited_for() {
    let fixture = Fixture::new();
    let Some(screen) = Screen::shell(&fixture) else { return };
    screen.line("sessionctl run -q -- sh -c '(sleep 1; echo late) & echo main'; echo c''ode $?");
    screen.until_line("code 0");
    let shown = screen.shown();
    assert!(shown.contains("main\nlate\ncode 0"), "{shown}");
    screen.clear();
    // Its keys end the wait.
    screen.line("sessionctl run -- sh -c 'sleep 600 & echo main; exit 3'; echo c''ode $?");
    screen.until("the wait", |shown| shown.contains("waiting for sleep"));
    screen.key("C-c");
    screen.until_line("code 3");
}

#[test]
fn a_slow_viewer_is_left_behind() {
    let fixture = Fixture::new();
    let Some(screen) = Screen::shell(&fixture) else { return };
    screen.line("sessionctl run --name fast -- sh -c 'echo begin; read x; seq 1 400000; echo the e''nd'");
    screen.until_line("begin");
    let viewer = viewer_of(&fixture, "fast");
    rustix::process::kill_process(viewer, rustix::process::Signal::STOP).unwrap();
    fixture.ctl(["input", "fast", "", "--enter"]).exits(0);
    // It does not wait for a viewer that is stopped.
    fixture.wait_for("fast", "its end", |shown| shown["status"] == "completed");
    let logs = fixture.ctl(["logs", "fast"]).exits(0).stdout;
    assert!(logs.ends_with("\n400000\nthe end\n"), "{}", logs.len());
    rustix::process::kill_process(viewer, rustix::process::Signal::CONT).unwrap();
    screen.line("wait; echo e''nd of it");
    screen.until_line("end of it");
    // Continued soon enough, it is shown the last lines; later, its owner is gone.
    let shown = screen.shown();
    let is_named = ["400000\nthe end", "too slow to show its end; next: sessionctl logs"];
    assert!(is_named.iter().any(|name| shown.contains(name)), "{shown}");
}

/// A shell changes the modes of its terminal while a job is stopped, by whatever stopped it.
#[test]
fn a_viewer_that_was_stopped_from_elsewhere_is_raw_again() {
    let fixture = Fixture::new();
    let Some(screen) = Screen::shell(&fixture) else { return };
    screen.line("sessionctl run -q --name raw -- sh -c 'stty raw -echo; echo begin; dd bs=1 count=3 2>/dev/null; stty sane'");
    screen.until_line("begin");
    let viewer = viewer_of(&fixture, "raw");
    rustix::process::kill_process(viewer, rustix::process::Signal::STOP).unwrap();
    screen.until_prompt();
    assert_eq!(fixture.show("raw")["status"], "running", "only its viewer is stopped");
    screen.line("clear; fg");
    screen.until("the job", |shown| shown.lines().last().is_some_and(|last| last.contains("--name raw")));
    eventually("raw modes", || screen.modes().contains("-opost"));
    screen.key("C-c");
    screen.key("x");
    screen.key("y");
    // After what the program printed.
    screen.until("the prompt", |shown| shown.ends_with("xy$"));
    let logs = fixture.ctl(["logs", "raw", "--raw"]).exits(0).stdout;
    assert!(logs.contains("\u{3}xy"), "the keys reach the program as they are: {logs:?}");
}

/// Returns the process that started the owner of a session.
fn viewer_of(fixture: &Fixture, name: &str) -> rustix::process::Pid {
    let owner = fixture.show(name)["owner"]["pid"].as_i64().unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{owner}/stat")).unwrap();
    let viewer = stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap().parse().unwrap();
    rustix::process::Pid::from_raw(viewer).unwrap()
}
