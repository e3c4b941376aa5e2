//! Input files and ages of steps: a recorded end holds only for them.

use crate::fixture::{Fixture, eventually, kill};

#[test]
fn a_changed_input_runs_the_step_again_and_says_why() {
    let fixture = Fixture::new();
    let script = "v=$(sessionctl step build --input a.md --input b.md -- sh -c 'cat a.md b.md; echo ran >>ran; echo $SESSIONCTL_STEP_KEY >>keys')
        echo $v; exit 1";
    fixture.write("a.md", "1");
    fixture.write("b.md", "2");
    let ran = fixture.run(script).exits(1).prints("12\n");
    assert!(!ran.stderr.contains("runs again"), "{ran:#?}");
    fixture.ctl(&["retry", "--quiet", "it"]).exits(1).prints("12\n").says("recorded by");
    fixture.write("b.md", "3");
    let ran = fixture.ctl(&["retry", "--quiet", "it"]).exits(1).prints("13\n");
    let ran = ran.says("step build: runs again: its input `b.md` has changed");
    assert!(!ran.stderr.contains("recorded by"), "{ran:#?}");
    let keys = fixture.read("keys");
    let keys: Vec<&str> = keys.lines().collect();
    assert!(keys.len() == 2 && keys[0] != keys[1], "another content has another key: {keys:?}");
    // A decision overrules it.
    fixture.write("b.md", "4");
    fixture.ctl(&["retry", "--quiet", "--changed", "build=keep", "it"]).exits(1).prints("13\n");
}

#[test]
fn several_inputs_may_follow_one_option() {
    let fixture = Fixture::new();
    fixture.write("a b", "1");
    fixture.write("-c", "2");
    let script = "sessionctl step build --input 'a b' ./-c -- sh -c 'echo ran >>ran'; exit 1";
    fixture.run(script).exits(1);
    fixture.write("-c", "3");
    fixture.ctl(&["retry", "--quiet", "it"]).exits(1).says("`./-c` has changed");
    assert_eq!(fixture.read("ran").lines().count(), 2);
}

#[test]
fn an_input_that_cannot_be_read_is_refused() {
    let fixture = Fixture::new();
    fixture.write("ok", "");
    let script = "mkfifo pipe; mkdir folder
        for input in missing pipe folder /dev/null; do
            sessionctl step build --input ok --input $input -- touch ran; echo $?
        done";
    let ran = fixture.run(script).exits(0).prints("125\n125\n125\n125\n");
    for input in ["missing", "pipe", "folder", "/dev/null"] {
        assert!(ran.stderr.contains(&format!("cannot read the input `{input}`")), "{ran:#?}");
    }
    assert!(!fixture.path("ran").exists());
    assert!(fixture.steps("it").is_empty(), "nothing is recorded");
}

#[test]
fn each_try_has_the_content_at_its_start() {
    let fixture = Fixture::new();
    fixture.write("in", "1");
    // The first try changes the input, and fails. The end of the second one is that of the new content.
    let script = "sessionctl step build --input in --retries 1 --backoff 1ms -- sh -c 'echo ran >>ran; [ $(cat in) = 2 ] || { echo 2 >in; exit 1; }'; exit 1";
    fixture.run(script).exits(1);
    assert_eq!(fixture.read("ran").lines().count(), 2);
    let ran = fixture.ctl(&["retry", "--quiet", "it"]).exits(1);
    assert!(!ran.stderr.contains("runs again"), "{ran:#?}");
    assert_eq!(fixture.read("ran").lines().count(), 2);
}

#[test]
fn an_old_end_runs_again_and_says_why() {
    let fixture = Fixture::new();
    let script = "sessionctl step fetch --max-age $(cat age) -- sh -c 'echo ran >>ran'; exit 1";
    fixture.write("age", "1h");
    fixture.run(script).exits(1);
    fixture.ctl(&["retry", "--quiet", "it"]).exits(1);
    assert_eq!(fixture.read("ran").lines().count(), 1);
    fixture.write("age", "1ms");
    fixture.ctl(&["retry", "--quiet", "it"]).exits(1).says("step fetch: runs again: its recorded end is");
    assert_eq!(fixture.read("ran").lines().count(), 2);
}

#[test]
fn an_unknown_step_asks_and_names_the_line_to_type() {
    for (decision, runs) in [("rerun", 2), ("skip", 1)] {
        let fixture = Fixture::new();
        let owner = fixture.spawn(
            "sessionctl step publish --if-unknown ask -- sh -c 'echo $$ >>publish; [ -e go ] || sleep 60'",
        );
        fixture.wait_for("publish");
        kill(owner);
        fixture.write("go", "");
        let mut owner = fixture.spawn_with_errors(&["resume", "--quiet", "it"]);
        eventually("the question", || fixture.read("errors").contains(" publish rerun|fail|skip\n"));
        let line = fixture.read("errors");
        assert!(
            line.contains("step publish: was started before") && line.contains("sessionctl answer "),
            "{line}"
        );
        fixture.answer("publish", decision).unwrap();
        assert_eq!(owner.wait().unwrap().code(), Some(0));
        assert_eq!(fixture.read("publish").lines().count(), runs, "{decision}");
    }
}
