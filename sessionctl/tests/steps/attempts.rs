//! Later attempts and retries: what was recorded is not run again, and what is unknown is decided.

use rustix::process::Signal;

use crate::fixture::{Fixture, eventually, kill, signal};

const RELEASE: &str = r#"set -e
v=$(sessionctl step version -- sh -c 'echo ran >>version; echo 1.4.0')
echo "$v" >>seen
sessionctl step build -- sh -c 'echo ran >>build; echo $SESSIONCTL_STEP_KEY >>keys'
sessionctl step publish -- sh -c 'echo $$ >>publish; echo $SESSIONCTL_STEP_KEY >>keys; while ! [ -e go ]; do sleep 0.01; done; exit $(cat go)'
echo done
"#;

#[test]
fn a_crashed_script_continues_at_its_open_step() {
    for scheme in ["file", "sqlite", "sled"] {
        let fixture = Fixture::on(scheme);
        let owner = fixture.spawn(RELEASE);
        fixture.wait_for("publish");
        kill(owner);
        fixture.write("go", "0");
        let resumed = fixture.ctl(&["resume", "--quiet", "it"]).exits(0);
        assert!(resumed.stdout.ends_with("done\n"), "{resumed:#?}");
        assert_eq!(
            (fixture.read("version"), fixture.read("build")),
            ("ran\n".to_owned(), "ran\n".to_owned())
        );
        assert_eq!(fixture.read("seen"), "1.4.0\n1.4.0\n");
        let keys = fixture.read("keys");
        let keys: Vec<&str> = keys.lines().collect();
        assert_eq!((keys.len(), keys[1]), (3, keys[2]), "{scheme}: the same key in each attempt");
        let steps = fixture.json(&["steps", "it"]);
        assert_eq!(steps["steps"][2]["starts"], 2, "{steps}");
        assert_eq!(fixture.status(), "completed");
    }
}

#[test]
fn a_retry_continues_at_the_failed_step() {
    let fixture = Fixture::new();
    fixture.write("go", "3");
    fixture.run(RELEASE).exits(3);
    fixture.write("go", "0");
    let retried =
        fixture.ctl(&["retry", "it"]).exits(0).says("takes over 2 recorded steps, continues at `publish`");
    assert!(retried.stdout.ends_with("done\n"), "{retried:#?}");
    assert_eq!((fixture.read("version"), fixture.read("build")), ("ran\n".to_owned(), "ran\n".to_owned()));
    let keys = fixture.read("keys");
    let keys: Vec<&str> = keys.lines().collect();
    assert_eq!((keys.len(), keys[1]), (3, keys[2]), "a retry has the same keys");
    let steps = fixture.json(&["steps", "it"]);
    assert_eq!(steps["steps"][0]["value"], "1.4.0", "{steps}");
    assert!(steps["steps"][0]["inherited_from"].is_string(), "{steps}");
}

#[test]
fn a_retry_takes_over_what_is_asked_for() {
    let fixture = Fixture::new();
    fixture.write("go", "0");
    fixture.run(RELEASE).exits(0);
    fixture.ctl(&["retry", "--quiet", "--from", "build", "it"]).exits(0);
    assert_eq!((fixture.read("version").len(), fixture.read("build").len()), (4, 8));
    fixture.ctl(&["retry", "--quiet", "--from", "no-step", "it"]).exits(2).says("no step `no-step`");
    fixture.ctl(&["retry", "--quiet", "--fresh", "it"]).exits(0);
    assert_eq!((fixture.read("version").len(), fixture.read("build").len()), (8, 12));
    let keys = fixture.read("keys");
    let keys: Vec<&str> = keys.lines().collect();
    assert_eq!(keys.len(), 6);
    assert_eq!(keys[0..2], keys[2..4], "the line of retries has the same keys");
    assert_ne!(keys[2], keys[4], "a fresh retry begins a new line");
}

#[test]
fn a_changed_step_stops_the_attempt() {
    let fixture = Fixture::new();
    // Without `set -e`, and with exit code 0 at the end.
    let script = "sessionctl step build -- sh -c \"echo ran >>build # $(cat flags)\"
        sessionctl step test -- sh -c 'echo ran >>test'; echo $? >>codes
        sessionctl step publish -- sh -c 'exit $(cat go)'; exit $(cat go)";
    fixture.write("flags", "-O1");
    fixture.write("go", "1");
    fixture.run(script).exits(1);
    fixture.write("flags", "-O2");
    fixture.write("go", "0");
    let refused = fixture.ctl(&["retry", "--quiet", "it"]);
    assert!(refused.stderr.contains("-O1") && refused.stderr.contains("-O2"), "{refused:#?}");
    let refused = refused.says("[STEP_CHANGED]").says("--changed build=rerun");
    assert_ne!(refused.code, Some(0));
    assert_eq!(fixture.status(), "failed");
    assert_eq!((fixture.read("build"), fixture.read("test")), ("ran\n".to_owned(), "ran\n".to_owned()));
    assert_eq!(fixture.read("codes"), "0\n125\n");
    assert_eq!(fixture.state("publish"), "none");

    fixture.ctl(&["retry", "--quiet", "--changed", "build=keep", "it"]).exits(0);
    assert_eq!(fixture.read("build"), "ran\n");
    fixture.ctl(&["retry", "--quiet", "--changed", "build=rerun", "it"]).exits(0);
    assert_eq!(fixture.read("build"), "ran\nran\n");
}

const UNKNOWN: &str =
    "sessionctl step publish --if-unknown fail -- sh -c 'echo $$ >>publish; [ -e go ] || sleep 60'
    echo $? >>codes; sessionctl step after -- sh -c 'echo ran >>after'";

#[test]
fn an_unknown_step_fails_until_a_person_decides() {
    let fixture = Fixture::new();
    let owner = fixture.spawn(UNKNOWN);
    fixture.wait_for("publish");
    kill(owner);
    fixture.write("go", "");
    let refused = fixture.ctl(&["resume", "--quiet", "it"]).says("[STEP_UNKNOWN]").says("may have happened");
    assert_ne!(refused.code, Some(0));
    assert_eq!((fixture.status().as_str(), fixture.read("after").as_str()), ("failed", ""));
    // A retry takes the unknown step over.
    let refused = fixture.ctl(&["retry", "--quiet", "it"]).says("[STEP_UNKNOWN]");
    assert_ne!(refused.code, Some(0));
    fixture.ctl(&["retry", "--quiet", "--unknown", "publish=skip", "it"]).exits(0).says("recorded as done");
    assert_eq!(fixture.state("publish"), "skipped");
    assert_eq!((fixture.read("publish").lines().count(), fixture.read("after").as_str()), (1, "ran\n"));
    fixture.ctl(&["retry", "--quiet", "--fresh", "it"]).exits(0);
    assert_eq!(fixture.read("publish").lines().count(), 2);
}

#[test]
fn a_step_that_a_stop_ended_is_unknown() {
    let fixture = Fixture::new();
    // An exit code of its own, but after TERM.
    let script = "sessionctl step save -- sh -c 'trap \"echo saved >>saved; exit 7\" TERM; echo $$ >>pid; while :; do sleep 0.01; done'";
    let mut owner = fixture.spawn(script);
    fixture.wait_for("pid");
    signal(&owner.id().to_string(), Signal::TERM);
    owner.wait().unwrap();
    assert_eq!(fixture.read("saved"), "saved\n");
    assert_eq!((fixture.status().as_str(), fixture.state("save").as_str()), ("interrupted", "unknown"));
}

#[test]
fn the_command_of_a_client_that_is_gone_is_ended_first() {
    let fixture = Fixture::new();
    // Both runs of the step write the times at which they begin and end. The first ignores TERM.
    let script = r#"
        one='trap "" TERM; echo begin >>times; echo $PPID >client; i=0; while [ $i -lt 500 ]; do i=$((i+1)); sleep 0.01; echo tick >>times; done'
        sessionctl step publish -- sh -c "[ -e second ] && { echo second >>times; exit 0; }; $one"
        echo client $? >>codes
        : >second
        sessionctl step publish -- sh -c "[ -e second ] && { echo second >>times; exit 0; }; $one"
    "#;
    let mut owner = fixture.spawn(script);
    let client = fixture.wait_for("client");
    signal(&client, Signal::KILL);
    assert_eq!(owner.wait().unwrap().code(), Some(0));
    let times = fixture.read("times");
    let second = times.lines().position(|line| line == "second").unwrap();
    assert_eq!(second + 1, times.lines().count(), "both ran at the same time: {times}");
    assert_eq!(fixture.read("codes"), "client 137\n");
    let steps = fixture.json(&["steps", "it"]);
    assert_eq!((&steps["steps"][0]["starts"], &steps["steps"][0]["state"]), (&2.into(), &"completed".into()));
}

/// Kills the owner three times while the step runs. Then nothing would hold it up.
fn three_deaths(scheme: &'static str) -> Fixture {
    let fixture = Fixture::on(scheme);
    let script = "sessionctl step crash -- sh -c 'echo $$ >>crash; [ -e go ] || sleep 60'";
    let mut owner = fixture.spawn(script);
    for death in 1..=3 {
        eventually("the command", || fixture.read("crash").lines().count() == death);
        kill(owner);
        if death == 3 {
            break;
        }
        owner = fixture.spawn_with_errors(&["resume", "--quiet", "it"]);
    }
    fixture.write("go", "");
    fixture
}

#[test]
fn a_step_open_at_three_deaths_asks_a_person() {
    let fixture = three_deaths("file");
    let mut owner = fixture.spawn_with_errors(&["resume", "--quiet", "it"]);
    eventually("the question", || fixture.read("errors").contains(" crash rerun|fail|skip\n"));
    assert_eq!(fixture.read("crash").lines().count(), 3);
    fixture.answer("crash", "rerun").unwrap();
    assert_eq!(owner.wait().unwrap().code(), Some(0));
    assert_eq!(fixture.read("crash").lines().count(), 4);
}

#[test]
fn a_step_open_at_three_deaths_is_refused_if_nobody_can_answer() {
    // No other process opens a sled store meanwhile.
    let fixture = three_deaths("sled");
    fixture.ctl(&["resume", "--quiet", "it"]).says("[STEP_UNKNOWN]").says("3 deaths");
    fixture.ctl(&["retry", "--quiet", "--unknown", "crash=rerun", "it"]).exits(0);
}
