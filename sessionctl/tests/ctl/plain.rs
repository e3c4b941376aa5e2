//! Programs under `run` behave as under a plain shell: their arguments, and what can be executed.

use std::os::unix::fs::PermissionsExt as _;

use crate::support::{self, Fixture};

/// Shells run a script without a first line `#!`; execve does not.
#[test]
fn a_script_without_an_interpreter_runs_under_sh() {
    let fixture = Fixture::new();
    let script = |name: &str, content: &[u8]| {
        let path = fixture.dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    };
    let path = script("-plain", b"echo \"$1 from $0\"; exit 3\n");
    let ran = fixture.ctl(["run", "--", path.to_str().unwrap(), "hello"]).exits(3);
    assert_eq!(ran.stdout, format!("hello from {}\n", path.display()));
    for args in [["./-plain", "hello"], ["-plain", "hello"]] {
        let mut command = fixture.command(["run", "--"].iter().chain(&args));
        let folders = format!("{}:{}", fixture.dir.path().display(), std::env::var("PATH").unwrap());
        command.current_dir(fixture.dir.path()).env("PATH", folders);
        assert!(support::run(command).exits(3).stdout.starts_with("hello from "), "{args:?}");
    }
    let binary = script("binary", b"\x01\x00\x02\n");
    fixture.ctl(["run", "--", binary.to_str().unwrap()]).fails(126, "SPAWN_FAILED");
}
