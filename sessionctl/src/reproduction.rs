//! A recorded command as it runs again: what of its first run is missing now.

use std::io;
use std::os::unix::fs::FileTypeExt as _;

use rustix::fs::FileType;
use sessionkit::log::{Input, Origin};
use sessionkit::runner::{Command, Stdin};
use sessionkit::text::{escape_bytes, visible};

use crate::context::Context;
use crate::{foreground, plain_file};

/// Names of missing variables that are shown.
const SHOWN_NAMES: usize = 10;
/// Variables that differ from shell to shell, and say nothing about the command.
const OF_THE_SHELL: [&str; 6] = ["_", "OLDPWD", "PWD", "SHLVL", "WINDOWID", "COLUMNS"];

/// A recorded command, and the ways in which this run cannot be like the first one.
#[derive(Debug)]
pub(crate) struct Reproduction {
    pub(crate) command: Command,
    /// A sentence each.
    pub(crate) differences: Vec<String>,
}

impl Reproduction {
    /// Prepares the command of a session to run again in the foreground or with a detached owner. `None` if it runs no
    /// program.
    pub(crate) fn new(origin: &Origin, context: &Context) -> Option<Self> {
        let recorded = Command::from_origin(origin)?;
        let given = context.caller.is_none() && is_input(&io::stdin());
        let command = foreground::command(recorded, context);
        if given {
            return Some(Self { command, differences: missing_variables(origin).into_iter().collect() });
        }
        let (stdin, lost) = input_of(origin);
        let command = if origin.input.is_some() { command.stdin(stdin) } else { command };
        Some(Self { command, differences: missing_variables(origin).into_iter().chain(lost).collect() })
    }
}

/// Returns the ways in which a run of this command, in a process without input of its own, cannot be like the first one.
pub(crate) fn differences(origin: &Origin) -> Vec<String> {
    missing_variables(origin).into_iter().chain(input_of(origin).1).collect()
}

/// Returns the source of the input, and a sentence if it is not that of the first run.
fn input_of(origin: &Origin) -> (Stdin, Option<String>) {
    match &origin.input {
        None => (Stdin::Null, None),
        Some(Input::File(path)) => {
            let why = match plain_file::open(path) {
                Ok((_, metadata)) if metadata.file_type().is_fifo() => "is a named pipe now".to_owned(),
                Ok(_) => return (Stdin::File(path.clone()), None),
                Err(error) => format!("cannot be opened ({error})"),
            };
            let path = escape_bytes(path.as_os_str()).into_owned();
            (Stdin::Null, Some(format!("the first input, {}, {why}: it gets none", visible(&path))))
        }
        Some(_) => (Stdin::Null, Some("the first input was a pipe, which is gone: it gets none".to_owned())),
    }
}

fn missing_variables(origin: &Origin) -> Option<String> {
    let is_missing = |name: &&String| {
        std::env::var_os(name).is_none()
            && !OF_THE_SHELL.contains(&name.as_str())
            && !name.starts_with("SESSIONCTL_")
    };
    let missing: Vec<String> =
        origin.inherited.iter().filter(is_missing).map(|name| visible(name).into()).collect();
    let (shown, more) = missing.split_at(missing.len().min(SHOWN_NAMES));
    let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
    (!shown.is_empty())
        .then(|| format!("variables of the first run are not set now: {}{more}", shown.join(", ")))
}

/// Returns `true` if a program would read something that was given to it: a pipe or a file, not a terminal or a device.
fn is_input(stdin: &impl std::os::fd::AsFd) -> bool {
    rustix::fs::fstat(stdin).is_ok_and(|stat| {
        matches!(
            FileType::from_raw_mode(stat.st_mode),
            FileType::Fifo | FileType::Socket | FileType::RegularFile
        )
    })
}
