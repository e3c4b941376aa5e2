//! Measured processes.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

/// Returns a command without the settings of the user who measures, and without inputs and outputs.
pub(crate) fn quiet(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SESSIONCTL_"))
    {
        command.env_remove(name);
    }
    command.env("SESSIONCTL_CONFIG", "");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}
