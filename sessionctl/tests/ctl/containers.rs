//! Sessions in namespaces of their own, as containers have them.

use std::process::Command;

use crate::support::{Fixture, clean_command};

/// Returns a command that runs `sh` in new namespaces, to be given arguments; `None` where the system allows none.
fn unshare(flags: &[&str]) -> Option<Command> {
    let mut command = clean_command("unshare");
    if !rustix::process::getuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(flags);
    let mut probe = clean_command("unshare");
    probe.args(command.get_args()).arg("true");
    let allowed = probe.output().is_ok_and(|output| output.status.success());
    if !allowed {
        eprintln!("not run: no namespaces here");
    }
    allowed.then_some(command)
}

/// Under `docker exec`, the system gives 0 as the id of the session and of the process group.
///
/// Regression: the supervisor panicked.
#[test]
fn a_program_runs_where_its_session_leader_is_outside() {
    let fixture = Fixture::new();
    let Some(mut command) = unshare(&["--pid", "--fork", "--mount-proc"]) else { return };
    let ctl = fixture.command(["run", "--", "sh", "-c", "setsid sleep 60 & echo hi; exit 3"]);
    command.args(["sh", "-c", "\"$@\"; exit $?", "sh"]).arg(ctl.get_program()).args(ctl.get_args());
    command.envs(ctl.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let ran = crate::support::run(command).exits(3);
    assert_eq!(ran.stdout, "hi\n");
    assert!(ran.stderr.contains("left running: sleep"), "{ran:?}");
}
