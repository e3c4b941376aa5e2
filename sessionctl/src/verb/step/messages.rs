//! Texts about a step, and what they name.

use std::ffi::OsString;
use std::io::{self, Write as _};

use sessionkit::text::{escape_bytes, visible};

use crate::args::Step;

/// The exit code for failures of the command itself.
pub(crate) const TROUBLE: u8 = 125;

/// The variable that makes steps run their commands plainly.
pub(super) const STEPS_VARIABLE: &str = "SESSIONCTL_STEPS";

/// Prints a line about the step.
pub(super) fn note(args: &Step, text: &str) {
    let name = match &args.key {
        Some(key) => format!("{}[{key}]", args.name),
        None => args.name.clone(),
    };
    let line = format!("step {}: {}\n", visible(&name), visible(text));
    // In one call, so that output of others does not come in between. Standard error may be closed.
    let _ = io::stderr().write_all(line.as_bytes());
}

/// Returns a command as a person would type it, for messages.
pub(super) fn shown(words: &[OsString]) -> String {
    words.iter().map(|word| escape_bytes(word)).collect::<Vec<_>>().join(" ")
}
