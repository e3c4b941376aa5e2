//! Stores of other users: they can be read, and what is recorded in them is not run.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::plain::LimitedUser;
use crate::support::{self, BINARY, Fixture};

/// The verbs that run a recorded command, and those that only read.
const RUNNING: [&[&str]; 3] = [&["resume", "lost"], &["retry", "failed"], &["recover", "--policy", "resume"]];
const READING: [&[&str]; 6] = [
    &["ls", "--all"],
    &["show", "lost"],
    &["why", "failed"],
    &["events", "lost"],
    &["logs", "failed"],
    &["recover", "--policy", "resume", "--dry-run"],
];

/// Creates a session whose owner is killed, and one whose program fails. Each run of a program adds a line.
fn script(ctl: &str) -> String {
    format!(
        "{ctl} run -q --name failed -- sh -c 'echo ran >>ran; exit 1'\n\
         {ctl} run -q --name lost --recovery resume -- sh -c 'echo ran >>ran; kill -9 $(ps -o ppid= $PPID); sleep 0.2'\n\
         :"
    )
}

fn runs(dir: &Path) -> usize {
    std::fs::read_to_string(dir.join("ran")).unwrap().lines().count()
}

/// Checks what this user may do with a store that others can have written.
fn check(url: &str, dir: &Path, why: &str) {
    let ctl = |args: &[&str]| {
        let mut command = support::clean_command(BINARY);
        command.args(args).env("SESSIONCTL_STORE", url).current_dir(dir);
        support::run(command)
    };
    let before = runs(dir);
    for args in READING {
        let ran = ctl(args).exits(0);
        assert_eq!(ran.stderr.matches(why).count(), 1, "{args:?}: {ran:#?}");
    }
    for args in RUNNING {
        let ran = ctl(args);
        assert!(ran.stderr.contains("[STORE_NOT_YOURS]") && ran.stderr.contains(why), "{args:?}: {ran:#?}");
        assert!([Some(5), Some(125)].contains(&ran.code), "{args:?}: {ran:#?}");
    }
    // By the policy of the session itself, which others can have chosen.
    ctl(&["recover"]).exits(0);
    assert_eq!(runs(dir), before, "nothing was run");
    assert_eq!(ctl(&["retry", "failed", "--trust-store"]).code, Some(1));
    assert_eq!(runs(dir), before + 1);
}

#[test]
fn a_command_from_a_store_of_another_user_is_not_run() {
    let Some(user) = LimitedUser::new() else { return };
    let dir = user.fixture.dir.path();
    for scheme in ["file", "sqlite"] {
        std::fs::write(dir.join("script"), script("./sessionctl")).unwrap();
        let mut command = support::clean_command("setpriv");
        command.args(["--reuid", &user.user, "--regid", &user.user, "--clear-groups", "sh", "script"]);
        let url = format!("{scheme}:{}", dir.join(scheme).display());
        command.env("SESSIONCTL_STORE", &url).env("HOME", dir).current_dir(dir);
        support::run(command).exits(0);
        check(&url, dir, &format!("belongs to user {}", user.user));
    }
}

#[test]
fn a_command_from_a_store_that_others_write_is_not_run() {
    let fixture = Fixture::new();
    let mut command = support::clean_command("sh");
    command.args(["-c", &script(BINARY)]).env("SESSIONCTL_STORE", fixture.url());
    command.current_dir(fixture.dir.path());
    support::run(command).exits(0);
    for mode in [0o770, 0o702] {
        std::fs::set_permissions(fixture.store(), std::fs::Permissions::from_mode(mode)).unwrap();
        check(&fixture.url(), fixture.dir.path(), "can be written to by other users");
    }
    std::fs::set_permissions(fixture.store(), std::fs::Permissions::from_mode(0o755)).unwrap();
    assert!(!fixture.ctl(["ls"]).exits(0).stderr.contains("other users"));
    let mut retry = fixture.command(["retry", "failed"]);
    retry.current_dir(fixture.dir.path());
    support::run(retry).exits(1);
}
