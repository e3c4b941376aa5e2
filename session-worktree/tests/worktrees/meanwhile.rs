//! Another process that comes in between two calls of git.

use std::fs;
use std::path::PathBuf;

use crate::fixture::{Fixture, write};

/// Installs a git that runs a script once, before the first call of this kind.
pub(crate) fn git_after(fixture: &Fixture, call: &str, script: &str) -> PathBuf {
    let (program, done) = (fixture.folder.path().join("git"), fixture.folder.path().join("done"));
    let script = format!(
        "#!/bin/sh\ncase \" $* \" in *' {call} '*) [ -e {done} ] || {{ : >{done}; (unset GIT_DIR; cd {repo} && {script}) >/dev/null; }};; esac\nexec git \"$@\"\n",
        done = done.display(),
        repo = fixture.repo().display(),
    );
    write(&program, script);
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    program
}
