//! Steps in what people see of a session: `show`, `why`, `ls`, the progress, and the hints after a run.

use rustix::process::Signal;

use crate::fixture::{Fixture, kill, signal};

const RELEASE: &str = r"set -e
sessionctl step version -- true
sessionctl step publish -- sh -c 'echo $$ >>pids; while ! [ -e go ]; do sleep 0.01; done; exit $(cat go)'
";

fn verdict(fixture: &Fixture) -> String {
    fixture.json(&["why", "it"])["verdict"].as_str().unwrap().to_owned()
}

#[test]
fn show_has_the_steps_of_a_session() {
    let fixture = Fixture::new();
    let mut owner = fixture.spawn(RELEASE);
    fixture.wait_for("pids");
    let shown = fixture.ctl(&["show", "it"]).exits(0).stdout;
    assert!(shown.contains("steps       1 completed, 1 running, newest publish\n"), "{shown}");
    assert!(!shown.contains("progress  "), "the steps are on a line of their own: {shown}");
    let json = fixture.json(&["show", "it"]);
    let steps = serde_json::json!({ "completed": 1, "failed": 0, "open": 1, "newest": "publish" });
    assert_eq!(json["steps"], steps);
    assert_eq!(
        (&json["progress"]["step"], &json["progress"]["completed_steps"]),
        (&"publish".into(), &1.into())
    );
    let listed = fixture.ctl(&["ls"]).exits(0).stdout;
    assert!(listed.contains("1/?"), "{listed}");
    assert!(verdict(&fixture).contains("It is inside step `publish`."));

    fixture.write("go", "3");
    owner.wait().unwrap();
    let shown = fixture.ctl(&["show", "it"]).exits(0).stdout;
    assert!(shown.contains("steps       1 completed, 1 failed, newest publish\n"), "{shown}");
    fixture.ctl(&["run", "--name", "none", "--", "true"]).exits(0);
    assert!(fixture.json(&["show", "none"])["steps"].is_null());
    assert!(!fixture.ctl(&["show", "none"]).stdout.contains("steps"));
}

#[test]
fn why_names_the_step_inside_which_a_session_crashed() {
    for resumed in [false, true] {
        let fixture = Fixture::new();
        let owner = fixture.spawn(RELEASE);
        fixture.wait_for("pids");
        kill(owner);
        if resumed {
            // The death is in the log then.
            fixture.ctl(&["recover", "--policy", "pause"]);
        }
        let inside = "It has crashed inside step `publish`, which may have happened";
        let verdict = verdict(&fixture);
        assert!(verdict.contains(inside), "{verdict}");
        assert!(verdict.ends_with("A resume continues at step `publish`."), "{verdict}");
        let shown = fixture.ctl(&["show", "it"]).stdout;
        assert!(shown.contains("1 completed, 1 may have happened, newest publish"), "{shown}");
    }
}

#[test]
fn why_names_a_step_that_a_stop_has_ended() {
    let fixture = Fixture::new();
    let mut owner = fixture.spawn(RELEASE);
    fixture.wait_for("pids");
    signal(&owner.id().to_string(), Signal::TERM);
    owner.wait().unwrap();
    let verdict = verdict(&fixture);
    assert!(verdict.contains("step `publish`") && verdict.contains("may have happened"), "{verdict}");
    assert!(verdict.ends_with("A resume continues at step `publish`."), "{verdict}");
}

#[test]
fn a_failed_run_says_at_which_step_a_retry_continues() {
    let fixture = Fixture::new();
    fixture.write("go", "3");
    fixture.write("script", RELEASE);
    let ran = fixture.ctl(&["run", "--name", "it", "--", "sh", "./script"]).exits(3);
    let ran = ran.says("a retry continues at step `publish`; next: ");
    assert!(ran.stderr.lines().last().unwrap().contains(" retry "), "{ran:#?}");
    let verdict = verdict(&fixture);
    assert!(verdict.contains("Step `publish` failed with exit code 3."), "{verdict}");
    assert!(verdict.ends_with("A retry continues at step `publish`."), "{verdict}");
    let next = fixture.json(&["why", "it"])["next"].as_str().unwrap().to_owned();
    assert!(next.contains(" retry "), "{next}");
}

#[test]
fn a_failure_after_the_last_step_says_so() {
    let fixture = Fixture::new();
    fixture.write("script", "sessionctl step build -- true; exit 4");
    let ran = fixture.ctl(&["run", "--name", "it", "--", "sh", "./script"]).exits(4);
    ran.says("a retry continues after step `build`");
    assert!(verdict(&fixture).ends_with("A retry continues after step `build`."));
}

#[test]
fn why_names_a_refused_step_and_the_decision() {
    let fixture = Fixture::new();
    fixture.write("flags", "-O1");
    let script = "sessionctl step build -- echo \"$(cat flags)\"; exit $(cat go)";
    fixture.write("go", "1");
    fixture.run(script).exits(1);
    fixture.write("flags", "-O2");
    fixture.write("go", "0");
    fixture.ctl(&["retry", "it"]).says("needs a decision").says(" why ");
    let why = fixture.json(&["why", "it"]);
    let verdict = why["verdict"].as_str().unwrap();
    assert!(
        verdict.contains("Step `build` was refused: ") && verdict.contains("[STEP_CHANGED]"),
        "{verdict}"
    );
    assert!(
        verdict.ends_with("A retry needs a decision, `rerun` or `keep`: `--changed build=…`."),
        "{verdict}"
    );
    assert!(why["next"].as_str().unwrap().ends_with(" --changed build=rerun"), "{why}");
    // The next attempt was not refused.
    fixture.write("go", "1");
    fixture.ctl(&["retry", "--quiet", "--changed", "build=keep", "it"]).exits(1);
    let why = fixture.json(&["why", "it"]);
    assert!(!why["verdict"].as_str().unwrap().contains("refused"), "{why}");
}

#[test]
fn steps_are_the_progress_of_a_session_that_reports_none() {
    let fixture = Fixture::new();
    fixture.write("script", "sessionctl step build -- true; sessionctl step test -- true");
    fixture.ctl(&["run", "--name", "it", "--", "sh", "./script"]).exits(0).says("2/? test completed");
    fixture.write("script", "sessionctl report --progress 50 --step half; sessionctl step build -- true");
    let ran = fixture.ctl(&["run", "--name", "reporting", "--", "sh", "./script"]).exits(0);
    let ran = ran.says("half");
    assert!(!ran.stderr.contains("build"), "{ran:#?}");
}
