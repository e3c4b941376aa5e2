//! Names and keys of steps.

use crate::fixture::Fixture;

#[test]
fn each_use_of_a_name_is_a_step_of_its_own() {
    let fixture = Fixture::new();
    let script = "for f in a b c; do sessionctl step file -- sh -c \"echo $f >>files\"; done; exit 1";
    fixture.run(script).exits(1);
    fixture.ctl(&["retry", "--quiet", "it"]).exits(1);
    assert_eq!(fixture.read("files"), "a\nb\nc\n");
    let names: Vec<_> = fixture.steps("it").into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["file", "file#2", "file#3"]);
}

#[test]
fn keys_identify_steps_in_another_order() {
    let fixture = Fixture::new();
    fixture.write("order", "a b c");
    let script =
        "for f in $(cat order); do sessionctl step file --key $f -- sh -c \"echo $f >>files\"; done; exit 1";
    fixture.run(script).exits(1);
    fixture.write("order", "c a d b");
    fixture.ctl(&["retry", "--quiet", "it"]).exits(1);
    assert_eq!(fixture.read("files"), "a\nb\nc\nd\n");
}

#[test]
fn concurrent_steps_need_names_or_keys_of_their_own() {
    let fixture = Fixture::new();
    let script =
        "for f in a b c; do sessionctl step file --key $f -- sh -c 'sleep 0.2; echo ran >>ran' & done; wait
        sessionctl step one -- sh -c 'echo >one; while ! [ -e end ]; do sleep 0.01; done' &
        while ! [ -s one ]; do sleep 0.01; done
        sessionctl step one -- sh -c 'echo second >>one'; echo $?
        sessionctl step two -- true; echo $?; : >end; wait";
    let ran = fixture.run(script).prints("125\n125\n").says("[STEP_OPEN]").says("no step starts any more");
    assert_ne!(ran.code, Some(0), "the session has failed, whatever the exit code of its script");
    assert_eq!(fixture.read("ran").lines().count(), 3);
    assert_eq!((fixture.status().as_str(), fixture.read("one").as_str()), ("failed", "\n"));
}

#[test]
fn invalid_names_are_refused_without_failing_the_session() {
    let fixture = Fixture::new();
    let script = "sessionctl step '' -- true; echo $?; sessionctl step \"$(printf 'a\\nb')\" -- true; echo $?
        sessionctl step \"$(printf 'x%.0s' $(seq 129))\" -- true; echo $?; sessionctl step fine -- echo fine";
    fixture.run(script).exits(0).prints("125\n125\n125\nfine\n");
}

#[test]
fn more_steps_than_descriptors_are_a_typed_error() {
    let fixture = Fixture::new();
    let script = "ulimit -n 1024; i=0; while [ $i -lt 60 ]; do i=$((i+1))
        (sessionctl step many --key $i -- sh -c 'while ! [ -e go ]; do sleep 0.05; done' 2>>errors; echo $? >>codes) & done
        while [ $(cat codes 2>/dev/null | wc -l) -lt 10 ]; do sleep 0.05; done; : >go; wait
        # The owner closes its ends of the connections a little later.
        until sessionctl step after -- true 2>/dev/null; do sleep 0.05; done";
    fixture.write("script", script);
    // Enough for the owner and its first steps.
    fixture.write("run", "ulimit -Sn 64; exec sessionctl run --quiet --name it -- sh ./script");
    let mut command = std::process::Command::new("sh");
    let path =
        fixture.command(&[]).get_envs().find(|(name, _)| *name == "PATH").unwrap().1.unwrap().to_owned();
    command.arg("./run").current_dir(fixture.path("")).env("PATH", path).env("SESSIONCTL_CONFIG", "");
    command.env("SESSIONCTL_STORE", fixture.url()).stdin(std::process::Stdio::null());
    crate::fixture::ran(&mut command).exits(0);
    let codes = fixture.read("codes");
    let refused = codes.lines().filter(|code| *code == "125").count();
    assert!(codes.lines().count() == 60 && (10..60).contains(&refused), "{codes}");
    assert_eq!(
        fixture.read("errors").matches("[SYSTEM_LIMIT]").count(),
        refused,
        "{}",
        fixture.read("errors")
    );
}
