//! The place of a client: inside a session, and not inside a step.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use sessionkit::runner::SOCKET_VARIABLE;
use sessionkit::workflow::protocol::KEY_VARIABLE;

use super::messages::{Named, STEPS_VARIABLE, shown};
use crate::error::{Failure, Result};

/// Programs that run scripts: with a script, they are the line to type.
const INTERPRETERS: [&str; 12] =
    ["sh", "bash", "dash", "zsh", "ksh", "fish", "busybox", "python", "python3", "perl", "ruby", "node"];

/// Returns the socket of the owner of the session around this process. `line` is the command line of this process, for the
/// one to type, and `plainly` its effect without a record.
///
/// # Errors
/// If there is no session, or if this process is inside a step or item.
pub(in crate::verb) fn socket(named: Named<'_>, line: Vec<OsString>, plainly: &str) -> Result<PathBuf> {
    let socket = std::env::var_os(SOCKET_VARIABLE).filter(|socket| !socket.is_empty()).map(PathBuf::from);
    let Some(socket) = socket else {
        let line = script_around().unwrap_or(line);
        let line: Vec<String> = ["run", "--"]
            .map(str::to_owned)
            .into_iter()
            .chain(line.iter().map(|word| shown(std::slice::from_ref(word))))
            .collect();
        let words: Vec<&str> = line.iter().map(String::as_str).collect();
        return Err(Failure::invalid(format!("{named} is not inside a session")).next(&words));
    };
    if std::env::var_os(KEY_VARIABLE).is_some_and(|key| !key.is_empty()) {
        return Err(Failure::invalid(format!(
            "{named} is inside a step or item: set {STEPS_VARIABLE}=off there to {plainly}"
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
