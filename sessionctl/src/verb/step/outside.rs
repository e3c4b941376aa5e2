//! The place of a step: inside a session, and not inside another step.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use sessionkit::runner::SOCKET_VARIABLE;
use sessionkit::workflow::protocol::KEY_VARIABLE;

use super::messages::{STEPS_VARIABLE, shown};
use crate::args::Step;
use crate::error::{Failure, Result};

/// Programs that run scripts: with a script, they are the line to type.
const INTERPRETERS: [&str; 12] =
    ["sh", "bash", "dash", "zsh", "ksh", "fish", "busybox", "python", "python3", "perl", "ruby", "node"];

/// Returns the socket of the owner of the session around this process.
///
/// # Errors
/// If there is none, or if this process is inside a step.
pub(super) fn socket(args: &Step) -> Result<PathBuf> {
    let socket = std::env::var_os(SOCKET_VARIABLE).filter(|socket| !socket.is_empty()).map(PathBuf::from);
    let Some(socket) = socket else {
        let line = script_around().unwrap_or_else(|| {
            let words = ["sessionctl", "step", &args.name, "--"].map(OsString::from);
            words.into_iter().chain(args.command.iter().cloned()).collect()
        });
        let line: Vec<String> = ["run", "--"]
            .map(str::to_owned)
            .into_iter()
            .chain(line.iter().map(|word| shown(std::slice::from_ref(word))))
            .collect();
        let words: Vec<&str> = line.iter().map(String::as_str).collect();
        return Err(Failure::invalid(format!("step `{}` is not inside a session", args.name)).next(&words));
    };
    if std::env::var_os(KEY_VARIABLE).is_some_and(|key| !key.is_empty()) {
        return Err(Failure::invalid(format!(
            "step `{}` is inside another step: set {STEPS_VARIABLE}=off there to run its command plainly",
            args.name
        )));
    }
    Ok(socket)
}

/// Returns the command line of the script that runs this command, if it is one.
fn script_around() -> Option<Vec<OsString>> {
    let parent = rustix::process::getppid()?;
    let line = std::fs::read(format!("/proc/{}/cmdline", parent.as_raw_nonzero())).ok()?;
    let words: Vec<OsString> = line
        .strip_suffix(b"\0")
        .unwrap_or(&line)
        .split(|byte| *byte == 0)
        .map(|word| OsString::from_vec(word.to_vec()))
        .collect();
    let program = Path::new(words.first()?).file_name()?.to_str()?;
    let is_script =
        INTERPRETERS.contains(&program) && words.get(1).is_some_and(|word| Path::new(word).is_file());
    is_script.then_some(words)
}
