//! Steps in what people see of a session: `show`, `why`, `ls`, the progress, and the hints after a run.

use rustix::process::Signal;

use crate::fixture::{Fixture, eventually, kill, signal};

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

const CHECK: &str = "printf 'a\\nb\\nc\\n' | sessionctl each check --keep-going --jobs 2 -- sh -c '
    [ $1 = c ] || echo $$ >>pids; while ! [ -e go ]; do sleep 0.01; done; [ $1 != b ]' x
";

#[test]
fn show_has_the_items_of_the_newest_each() {
    let fixture = Fixture::new();
    let mut owner = fixture.spawn(CHECK);
    eventually("two items", || fixture.read("pids").lines().count() == 2);
    let shown = fixture.ctl(&["show", "it"]).exits(0).stdout;
    assert!(
        shown.contains(" of 3 done, 2 running, newest check\n")
            || shown.contains(" of ? done, 2 running, newest check\n"),
        "{shown}"
    );
    assert!(
        verdict(&fixture).contains("It is inside each `check` (2 items: a, b)."),
        "{}",
        verdict(&fixture)
    );
    fixture.write("go", "");
    owner.wait().unwrap();
    let json = fixture.json(&["show", "it"]);
    let items = serde_json::json!({ "done": 2, "failed": 1, "open": 0, "total": 3, "newest": "check" });
    assert_eq!(json["items"], items);
    assert_eq!(
        (&json["progress"]["step"], &json["progress"]["completed_steps"], &json["progress"]["total_steps"]),
        (&"check".into(), &2.into(), &3.into())
    );
    assert!(fixture.ctl(&["ls", "--all"]).exits(0).stdout.contains("2/3"));
    let listed = fixture.ctl(&["steps", "it"]).exits(0).stdout;
    assert!(listed.contains("2 of 3  1 failed: b\n"), "{listed}");
}

#[test]
fn a_failed_run_names_the_items_that_failed() {
    let fixture = Fixture::new();
    fixture.write("script", CHECK);
    fixture.write("go", "");
    let ran = fixture.ctl(&["run", "--name", "it", "--", "sh", "./script"]).exits(123);
    ran.says("; each `check`: 1 of 3 items failed: b; a retry continues at each `check`; next: ");
    let verdict = verdict(&fixture);
    assert!(verdict.contains("Each `check`: 1 of 3 items failed: b."), "{verdict}");
    assert!(verdict.ends_with("A retry continues at each `check`."), "{verdict}");
}

#[test]
fn why_names_the_items_inside_which_a_session_crashed() {
    let fixture = Fixture::new();
    let owner = fixture.spawn(CHECK);
    eventually("two items", || fixture.read("pids").lines().count() == 2);
    kill(owner);
    let crashed = verdict(&fixture);
    assert!(
        crashed.contains("It has crashed inside each `check` (2 items: a, b), which may have happened"),
        "{crashed}"
    );
    assert!(crashed.ends_with("A resume continues at each `check`."), "{crashed}");
    // Once the death is recorded, too.
    fixture.ctl(&["recover", "--policy", "pause"]);
    let paused = verdict(&fixture);
    assert!(paused.contains("Each `check`: 2 of 3 items may have happened: a, b."), "{paused}");
}

#[test]
fn items_are_the_progress_until_they_are_done() {
    let fixture = Fixture::new();
    fixture.write("script", "seq 3 | sessionctl each check -- true; sessionctl step publish -- true");
    fixture.ctl(&["run", "--name", "it", "--", "sh", "./script"]).exits(0).says("1/? publish completed");
    fixture.write(
        "script",
        "sessionctl step build -- true; seq 3 | sessionctl each check -- sh -c '[ $1 != 3 ]' x",
    );
    fixture.ctl(&["run", "--name", "it", "--", "sh", "./script"]).exits(123).says("2/3 check");
}
