//! Ends of steps: failures, retries, time limits, signals.

use crate::fixture::Fixture;

#[test]
fn exit_codes_are_those_of_the_command() {
    let fixture = Fixture::new();
    let script = "step() { sessionctl step \"$@\"; echo $?; }
        step ok -- true; step three -- sh -c 'exit 3'; step missing -- no-such-command; step file -- ./script
        step killed -- sh -c 'kill -KILL $$'; step usage --no-such-option -- true; step late --timeout 100ms -- sleep 60";
    fixture.run(script).exits(0).prints("0\n3\n127\n126\n137\n125\n124\n");
    let steps: Vec<_> = fixture.steps("it").into_iter().map(|(_, state)| state).collect();
    assert_eq!(steps, ["completed", "failed", "failed", "failed", "unknown", "timed-out"]);
}

#[test]
fn a_failure_is_retried_with_the_same_key() {
    let fixture = Fixture::new();
    let script = "sessionctl step flaky --retries 5 --backoff 1ms -- sh -c 'echo $SESSIONCTL_STEP_KEY >>keys; [ $(wc -l <keys) = 3 ]'";
    fixture.run(script).exits(0).says("retry 2 of 5");
    let keys = fixture.read("keys");
    assert_eq!(keys.lines().count(), 3);
    assert!(keys.lines().all(|key| key == keys.lines().next().unwrap()), "{keys}");
}

#[test]
fn retries_end_and_the_last_code_counts() {
    let fixture = Fixture::new();
    let script = "sessionctl step flaky --retries 2 --backoff 1ms -- sh -c 'echo ran >>runs; exit 6'";
    fixture.run(script).exits(6);
    assert_eq!(fixture.read("runs").lines().count(), 3);
}

#[test]
fn failures_are_kept_only_on_request() {
    let fixture = Fixture::new();
    let script = "sessionctl step a --ok 1,4 -- sh -c 'echo ran >>a; exit 4'; echo $?
        sessionctl step b --keep-failure -- sh -c 'echo ran >>b; exit 9'; echo $?
        sessionctl step c -- sh -c 'echo ran >>c; exit 5'; echo $?; exit 1";
    for _ in 0..2 {
        let args: &[&str] = if fixture.read("a").is_empty() { &[] } else { &["retry", "--quiet", "it"] };
        let ran = if args.is_empty() { fixture.run(script) } else { fixture.ctl(args) };
        ran.exits(1).prints("4\n9\n5\n");
    }
    assert_eq!([fixture.read("a"), fixture.read("b"), fixture.read("c")], ["ran\n", "ran\n", "ran\nran\n"]);
}

#[test]
fn a_time_limit_ends_the_whole_command() {
    let fixture = Fixture::new();
    let script = "sessionctl step late --timeout 200ms -- sh -c 'trap \"\" TERM; setsid sh -c \"echo \\$\\$ >>pids; sleep 60\" & echo $$ >>pids; wait; sleep 60'; echo $?";
    fixture.run(script).exits(0).prints("124\n");
    for pid in fixture.read("pids").lines() {
        assert!(!std::path::Path::new("/proc").join(pid).exists(), "process {pid} of the step still runs");
    }
}

#[test]
fn a_paused_session_starts_no_step_and_stops_its_time_limits() {
    let fixture = Fixture::new();
    let script = "sessionctl step a --timeout 2s -- sh -c 'echo $$ >pid; sleep 0.5'; echo $? >>codes
        sessionctl step b -- true; echo $? >>codes";
    let mut owner = fixture.spawn(script);
    fixture.wait_for("pid");
    fixture.ctl(&["pause", "it"]).exits(0);
    // Longer than the limit: while it is paused, the time does not count.
    std::thread::sleep(std::time::Duration::from_millis(2_500));
    assert_eq!(fixture.state("b"), "none");
    fixture.ctl(&["resume", "it"]).exits(0);
    assert_eq!(owner.wait().unwrap().code(), Some(0));
    assert_eq!(fixture.read("codes"), "0\n0\n");
}

#[test]
fn a_time_limit_leaves_a_detached_session_inside() {
    let fixture = Fixture::new();
    let inner = "echo $$ >inner; while ! [ -e go ]; do sleep 0.01; done; echo done >>inner";
    fixture.write("inner.sh", inner);
    // The limit passes when the detached session runs.
    let script = "sessionctl step late --timeout 2s -- sh -c 'sessionctl run --detach --name inner -- sh ./inner.sh; sleep 60'
        echo $?; : >go";
    let ran = fixture.run(script).exits(0);
    assert!(ran.stdout.ends_with("124\n"), "{ran:#?}");
    fixture.ctl(&["wait", "inner"]).exits(0);
    assert!(fixture.read("inner").ends_with("done\n"));
}
