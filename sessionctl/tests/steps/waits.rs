//! `ask` and `sleep` in scripts.

use std::time::{Duration, Instant, SystemTime};

use rustix::process::Signal;

use crate::fixture::{Fixture, eventually, kill, ran, signal};

const DEPLOY: &str = r#"a=$(sessionctl ask deploy "Deploy 1.4.0?" --choices yes,no)
echo "$? $a" >>answers
"#;

#[test]
fn an_answer_from_elsewhere_is_the_output_of_ask() {
    let fixture = Fixture::new();
    fixture.write("script", DEPLOY);
    let mut owner = fixture.spawn_with_errors(&["run", "--quiet", "--name", "it", "--", "sh", "./script"]);
    eventually("the question", || fixture.read("errors").contains("Deploy 1.4.0?"));
    let line = fixture.read("errors");
    assert!(line.starts_with("ask deploy: Deploy 1.4.0? Answer: sessionctl answer "), "{line}");
    assert!(line.ends_with(" deploy yes|no\n"), "{line}");
    assert!(fixture.answer("deploy", "perhaps").is_err());
    fixture.answer("deploy", "yes").unwrap();
    assert_eq!(owner.wait().unwrap().code(), Some(0));
    assert_eq!(fixture.read("answers"), "0 yes\n");
}

#[test]
fn an_answer_is_recorded_once() {
    let fixture = Fixture::new();
    let script = format!("{DEPLOY}exit 1");
    let mut owner = fixture.spawn(&script);
    fixture.answer("deploy", "no").unwrap();
    owner.wait().unwrap();
    let retried = fixture.ctl(&["retry", "--quiet", "it"]).exits(1);
    retried.says("ask deploy: recorded before: `no`, by ");
    assert_eq!(fixture.read("answers"), "0 no\n0 no\n");
}

#[test]
fn an_answer_given_while_the_owner_is_dead_is_found() {
    let fixture = Fixture::new();
    fixture.write("script", DEPLOY);
    let owner = fixture.spawn_with_errors(&["run", "--quiet", "--name", "it", "--", "sh", "./script"]);
    eventually("the question", || fixture.read("errors").contains("Deploy"));
    kill(owner);
    fixture.answer("deploy", "yes").unwrap();
    fixture.ctl(&["resume", "--quiet", "it"]).exits(0).says("recorded before: `yes`");
    // The client of the killed owner may have failed before it was ended itself.
    assert!(fixture.read("answers").ends_with("0 yes\n"), "{}", fixture.read("answers"));
}

#[test]
fn a_default_holds_after_its_time() {
    let fixture = Fixture::new();
    let script = "sessionctl ask window 'Start?' --choices yes,no --default no --after 100ms; exit 1";
    let ran = fixture.run(script).exits(1).prints("no\n");
    let ran = ran.says("; without an answer it is `no` at ");
    ran.says("ask window: nobody answered in time: the default `no` is used");
    fixture.ctl(&["retry", "--quiet", "it"]).exits(1).prints("no\n").says("recorded before: `no`");
}

#[test]
fn questions_that_cannot_be_asked_exit_with_125() {
    let fixture = Fixture::new();
    let script = "ask() { sessionctl ask \"$@\"; echo $?; }
        ask a 'A?' --default x; ask a 'A?' --choices x,y --default z --after 1s; ask - 'A?'; ask a";
    fixture.run(script).exits(0).prints("125\n125\n125\n125\n");
    // Nobody else can open a sled store.
    let fixture = Fixture::on("sled");
    let ran = fixture.run("sessionctl ask a 'A?'; echo $?; sessionctl ask b 'B?' --default no --after 10ms");
    ran.exits(0).prints("125\nno\n").says("no other process can open a sled store");
}

#[test]
fn a_killed_ask_withdraws_its_question() {
    let fixture = Fixture::new();
    let script = "sessionctl ask a 'A?' & echo $! >pid; wait; while ! [ -e go ]; do sleep 0.01; done
        sessionctl ask b 'B?' --default no --after 10ms";
    let mut owner = fixture.spawn(script);
    let pid = fixture.wait_for("pid");
    eventually("the question", || {
        !fixture.json(&["steps", "it"])["questions"].as_array().unwrap().is_empty()
    });
    signal(&pid, Signal::KILL);
    eventually("the withdrawal", || fixture.json(&["steps", "it"])["questions"][0]["state"] == "withdrawn");
    fixture.write("go", "");
    assert_eq!(owner.wait().unwrap().code(), Some(0));
    let steps = fixture.json(&["steps", "it"]);
    let states: Vec<_> =
        steps["questions"].as_array().unwrap().iter().map(|question| &question["state"]).collect();
    assert_eq!(states, ["withdrawn", "answered"], "{steps}");
}

#[test]
fn a_sleep_wakes_up_once_and_never_early() {
    let fixture = Fixture::new();
    let script = "sessionctl sleep 400ms cool-down; exit 1";
    let before = Instant::now();
    let ran = fixture.run(script).exits(1);
    assert!(before.elapsed() >= Duration::from_millis(400));
    ran.says("sleep cool-down: sleeps until 2");
    let ran = fixture.ctl(&["retry", "--quiet", "it"]).exits(1).says("has passed, as recorded before");
    assert!(!ran.stderr.contains("sleeps until"), "{ran:#?}");
}

#[test]
fn a_stopped_owner_wakes_its_program_when_it_continues() {
    let fixture = Fixture::new();
    let before = Instant::now();
    fixture.write("script", "sessionctl sleep 400ms && echo woken >>woken");
    let mut owner = fixture.spawn_with_errors(&["run", "--quiet", "--name", "it", "--", "sh", "./script"]);
    eventually("the sleep", || fixture.read("errors").contains("sleeps until"));
    signal(&owner.id().to_string(), Signal::STOP);
    eventually("the wake-up time", || before.elapsed() > Duration::from_millis(900));
    assert_eq!(fixture.read("woken"), "", "only its owner wakes it");
    signal(&owner.id().to_string(), Signal::CONT);
    assert_eq!(owner.wait().unwrap().code(), Some(0));
    assert_eq!(fixture.read("woken"), "woken\n");
}

#[test]
fn a_resumed_sleep_has_the_first_wake_up_time() {
    for stop in [Signal::KILL, Signal::TERM] {
        let fixture = Fixture::new();
        let script = "echo began >>began; sessionctl sleep 1500ms && date +%s%3N >>woken";
        fixture.write("script", script);
        let mut owner =
            fixture.spawn_with_errors(&["run", "--quiet", "--name", "it", "--", "sh", "./script"]);
        eventually("the sleep", || fixture.read("errors").contains("sleeps until"));
        let sleeps = fixture.json(&["steps", "it"]);
        let until = sleeps["sleeps"][0]["until"].as_str().unwrap().to_owned();
        signal(&owner.id().to_string(), stop);
        owner.wait().unwrap();
        fixture.ctl(&["resume", "--quiet", "it"]).exits(0);
        let sleeps = fixture.json(&["steps", "it"]);
        assert_eq!(
            (&sleeps["sleeps"][0]["until"], &sleeps["sleeps"][0]["state"]),
            (&until.into(), &"passed".into())
        );
        let until = humantime::parse_rfc3339(sleeps["sleeps"][0]["until"].as_str().unwrap()).unwrap();
        let until = until.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
        let woken: u128 = fixture.read("woken").trim().parse().unwrap();
        assert!(woken >= until, "{stop:?}: woken at {woken}, before {until}");
    }
}

#[test]
fn a_time_in_the_past_is_not_waited_for() {
    let fixture = Fixture::new();
    let script = "sessionctl sleep --until 2020-01-01; echo $?; sessionctl sleep --until 2020-01-01T12:00:00Z named; echo $?
        sessionctl sleep 0s; echo $?; sessionctl sleep; echo $?; sessionctl sleep soon; echo $?; sessionctl sleep --until 10m; echo $?";
    let ran = fixture.run(script).exits(0).prints("0\n0\n0\n125\n125\n125\n");
    assert!(!ran.stderr.contains("sleeps until"), "{ran:#?}");
    let steps = fixture.json(&["steps", "it"]);
    let names: Vec<_> = steps["sleeps"].as_array().unwrap().iter().map(|sleep| &sleep["sleep"]).collect();
    assert_eq!(names, ["sleep", "named", "sleep#2"], "{steps}");
}

#[test]
fn outside_a_session_these_verbs_name_the_line_to_type() {
    let fixture = Fixture::new();
    for args in [&["ask", "a", "A?"][..], &["sleep", "1ms"], &["each", "a", "--", "touch", "ran"]] {
        let refused = fixture.ctl(args).exits(125).says("is not inside a session");
        assert!(refused.stderr.contains(" run -- "), "{refused:#?}");
    }
    assert!(!fixture.path("ran").exists());
}

#[test]
fn inside_a_step_these_verbs_are_refused() {
    let fixture = Fixture::new();
    fixture.write(
        "inner",
        "sessionctl ask a 'A?'; echo $?; sessionctl sleep 1ms; echo $?; sessionctl each a -- touch ran <inner; echo $?",
    );
    let ran =
        fixture.run("sessionctl step outer -- sh ./inner; echo it | sessionctl each outer -- sh ./inner");
    let ran = ran.exits(0).prints(&"125\n".repeat(6));
    assert_eq!(ran.stderr.matches("SESSIONCTL_STEPS=off").count(), 6, "{ran:#?}");
    assert!(!fixture.path("ran").exists());
}

#[test]
fn without_steps_a_question_needs_a_default() {
    let fixture = Fixture::new();
    let off = |args: &[&str]| ran(fixture.command(args).env("SESSIONCTL_STEPS", "off"));
    off(&["ask", "a", "A?"]).exits(125).says("has no default").prints("");
    off(&["ask", "a", "A?", "--default", "no", "--after", "1h"]).exits(0).prints("no\n").says("switched off");
    let before = Instant::now();
    off(&["sleep", "200ms"]).exits(0);
    assert!(before.elapsed() >= Duration::from_millis(200));
    off(&["sleep", "--until", "2020-01-01"]).exits(0);
}
