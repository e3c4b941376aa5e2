//! The place of a step: inside a session, not inside another step.

use crate::fixture::{Fixture, ran};

#[test]
fn outside_a_session_a_step_names_the_line_to_type() {
    let fixture = Fixture::new();
    fixture.write("script", "sessionctl step build -- touch built");
    let mut command = fixture.command(&[]);
    let path = command.get_envs().find(|(name, _)| *name == "PATH").unwrap().1.unwrap().to_owned();
    let mut sh = std::process::Command::new("sh");
    sh.arg("./script").current_dir(fixture.path("")).env("PATH", path).env_remove("SESSIONCTL_SOCKET");
    ran(&mut sh).exits(125).says("not inside a session").says("run -- sh ./script");
    assert!(!fixture.path("built").exists());
    command.args(["step", "build", "--", "touch", "built"]);
    ran(&mut command).exits(125).says("run -- sessionctl step build -- touch built");
}

#[test]
fn steps_can_be_switched_off() {
    let fixture = Fixture::new();
    let mut command =
        fixture.command(&["step", "build", "--retries", "3", "--", "sh", "-c", "echo plain; exit 4"]);
    ran(command.env("SESSIONCTL_STEPS", "off")).exits(4).prints("plain\n");
    let mut command = fixture.command(&["step", "build", "--", "cat"]);
    command.env("SESSIONCTL_STEPS", "off").stdin(std::fs::File::open("/proc/self/cmdline").unwrap());
    assert!(!ran(&mut command).exits(0).stdout.is_empty(), "its standard input is that of the command");
}

#[test]
fn a_step_inside_a_step_is_refused() {
    let fixture = Fixture::new();
    fixture.write("inner", "sessionctl step inner -- sh -c 'echo $SESSIONCTL_STEPS >>inner-ran'");
    fixture.run("sessionctl step outer -- sh ./inner").exits(125).says("SESSIONCTL_STEPS=off");
    assert!(!fixture.path("inner-ran").exists());
    fixture.run("sessionctl step outer -- env SESSIONCTL_STEPS=off sh ./inner").exits(0);
    assert_eq!(fixture.read("inner-ran"), "off\n");
}

#[test]
fn a_session_inside_a_step_has_steps_of_its_own() {
    let fixture = Fixture::new();
    fixture.write("inner", "sessionctl step inner -- sh -c 'echo ran >>inner-ran'");
    fixture.run("sessionctl step outer -- sessionctl run --name inner -- sh ./inner").exits(0);
    assert_eq!(fixture.read("inner-ran"), "ran\n");
    assert_eq!(fixture.steps("inner"), [("inner".to_owned(), "completed".to_owned())]);
}

#[test]
fn a_step_after_the_end_of_its_session_does_not_run() {
    let fixture = Fixture::new();
    fixture.run("nohup sh -c 'while ! [ -e go ]; do sleep 0.01; done; sessionctl step late -- touch late; echo $? >code' >/dev/null 2>&1 &").exits(0);
    fixture.write("go", "");
    assert_eq!(fixture.wait_for("code"), "125\n");
    assert!(!fixture.path("late").exists());
}
