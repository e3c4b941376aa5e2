//! Jobs of a shell that a stop key and a request from elsewhere pause at the same time.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::support::{Fixture, block_on, eventually};
use crate::tmux::Screen;

fn pause(fixture: &Fixture, name: &str) {
    block_on(async {
        let store = fixture.open().await;
        let id = fixture.show(name)["id"].as_str().unwrap().parse().unwrap();
        store.manager().pause_session(id, "lunch".to_owned()).await.unwrap();
    });
}

fn owner(fixture: &Fixture, name: &str) -> Pid {
    let pid = fixture.show(name)["owner"]["pid"].as_i64().unwrap();
    Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()
}

fn child(of: Pid) -> Pid {
    let path = format!("/proc/{0}/task/{0}/children", of.as_raw_nonzero());
    let children = std::fs::read_to_string(path).unwrap();
    Pid::from_raw(children.split_whitespace().next().unwrap().parse().unwrap()).unwrap()
}

fn is_stopped(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap();
    stat.contains(") T ")
}

/// Asserts that `fg` continues the job, and neither its session nor its program; then resumes both, and ends them.
fn stays_paused_at_fg(fixture: &Fixture, screen: &Screen<'_>, name: &str, program: Pid) {
    let assert_paused = || {
        let shown = fixture.show(name);
        assert_eq!((&shown["status"], &shown["reason"]), (&json!("paused"), &json!("requested: lunch")));
    };
    assert_paused();
    screen.line("clear; fg");
    screen.until_begun("sessionctl run");
    // The job stops again once it has handled its continuation.
    screen.key("C-z");
    screen.until_prompt();
    assert_paused();
    assert!(is_stopped(program), "`fg` continued the program of a paused session");
    block_on(async {
        let store = fixture.open().await;
        let id = fixture.show(name)["id"].as_str().unwrap().parse().unwrap();
        store.manager().request_resume(id).await.unwrap();
    });
    screen.line("clear; fg");
    fixture.wait_for(name, "the resume", |shown| shown["status"] == "running");
    screen.key("C-c");
    screen.until_prompt();
}

/// `fg` continued the session: the owner took the pause for its own.
#[test]
fn fg_leaves_a_pause_that_was_requested_during_the_stop() {
    let fixture = Fixture::new();
    let Some(screen) = Screen::shell(&fixture) else { return };
    screen.line("sessionctl run --no-tty --name j -- sh -c 'echo ready; exec sleep 600'");
    screen.until_line("ready");
    let owner = owner(&fixture, "j");
    let supervisor = child(owner);
    let program = child(supervisor);
    // The stop is not complete before the supervisor runs again.
    kill_process(supervisor, Signal::STOP).unwrap();
    kill_process(owner, Signal::TSTP).unwrap();
    pause(&fixture, "j");
    kill_process(supervisor, Signal::CONT).unwrap();
    screen.until_prompt();
    stays_paused_at_fg(&fixture, &screen, "j", program);
}

#[test]
fn a_viewers_fg_leaves_a_pause_requested_during_the_stop() {
    let fixture = Fixture::new();
    let Some(screen) = Screen::shell(&fixture) else { return };
    screen.line("sessionctl run --name t -- sh -c 'echo ready; exec sleep 600'");
    screen.until_line("ready");
    let owner = owner(&fixture, "t");
    let program = child(child(owner));
    // The owner finds both when it runs again.
    kill_process(owner, Signal::STOP).unwrap();
    kill_process(program, Signal::TSTP).unwrap();
    eventually("the stop", || is_stopped(program));
    pause(&fixture, "t");
    kill_process(owner, Signal::CONT).unwrap();
    fixture.wait_for("t", "the pause", |shown| shown["status"] == "paused");
    // Stops the job if the owner found the request first.
    screen.key("C-z");
    screen.until_prompt();
    stays_paused_at_fg(&fixture, &screen, "t", program);
}
