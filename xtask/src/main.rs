//! The workshop's commands: `cargo xtask <command>`. Each command is a module with one `run`; what they share is in
//! `args`, `steps` and `workspace`.
//!
//! A new command is a module and one line in [`COMMANDS`]. Nothing is listed before it works.

mod args;
mod bench;
mod ci;
mod codegen;
mod coverage;
mod crash;
mod damage;
mod fuzz;
mod guarantees;
mod kill;
mod msrv;
mod seeded_bugs;
mod signals;
mod soak;
mod steps;
mod test;
mod tidy;
mod workspace;

use std::error::Error;
use std::fmt::Write as _;
use std::process::ExitCode;

use crate::args::{Args, Usage};

/// What a command answers. Any error ends `xtask` with exit code 1, a [`Usage`] error with 2; `main` prints it with
/// its causes.
pub(crate) type Outcome = Result<(), Box<dyn Error>>;

/// Name and arguments, what it does, and the function that does it.
type Command = (&'static str, &'static str, fn(Args) -> Outcome);

const COMMANDS: &[Command] = &[
    ("test", "everything that shows that the product works", test::run),
    ("ci [--keep-going] [--from STEP]", "all that CI runs: format, tidy, lints, docs, test", ci::run),
    (
        "bench [--json] [--quick] [--drop-caches] [--flush-delay MICROS] [PART…]",
        "how fast sessions are, beside what one would use instead",
        bench::run,
    ),
    (
        "codegen [--check]",
        "the docs that are made from the code, or whether they are up to date",
        codegen::run,
    ),
    ("coverage", "which lines of the core and of the file storage no test runs", coverage::run),
    (
        "crash [--images N | --plays N] [--minutes M] [--seed S]",
        "power cuts on the fault disk, at every call and in every way",
        crash::run,
    ),
    (
        "damage [--cases N] [--minutes M] [--seed S]",
        "damage in every file of random stores, none of it silent",
        damage::run,
    ),
    (
        "fuzz [TARGET…] [--cases N] [--minutes M] [--seed S]",
        "inputs that nobody should send: records, logs, slots, exports, names, reports, older stores",
        fuzz::run,
    ),
    (
        "guarantees [--check]",
        "the page that says what each backend promises, from a run of its laws, or whether it is up to date",
        guarantees::run,
    ),
    (
        "kill [--cycles N] [--trees N] [--minutes M] [--seed S]",
        "real processes: writers on one store, and trees of programs, killed, stopped and raced",
        kill::run,
    ),
    (
        "seeded-bugs [NAME…] [--list]",
        "whether the tests notice seeded bugs; builds once for each: for nights, or for the bug that one works on",
        seeded_bugs::run,
    ),
    ("msrv", "whether a dependency needs a newer Rust than the crates promise", msrv::run),
    ("tidy", "the rules of the house that neither rustc nor clippy knows", tidy::run),
];

fn main() -> ExitCode {
    signals::reset_signal_mask();
    let mut arguments = std::env::args().skip(1);
    let outcome = match arguments.next() {
        None => Err(Usage::error("no command was given")),
        Some(name) => match COMMANDS.iter().find(|(usage, ..)| name_of(usage) == name) {
            None => Err(Usage::error(format!("there is no command `{name}`"))),
            Some((_, _, run)) => run(Args::new(arguments)),
        },
    };
    let Err(error) = outcome else { return ExitCode::SUCCESS };
    let mut message = format!("xtask: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(message, "\n  because: {error}");
        cause = error.source();
    }
    eprintln!("{message}");
    if error.is::<Usage>() {
        eprint!("{}", help(COMMANDS));
        return ExitCode::from(2);
    }
    ExitCode::FAILURE
}

fn name_of(usage: &str) -> &str {
    usage.split_whitespace().next().unwrap_or_default()
}

fn help(commands: &[Command]) -> String {
    let width = commands.iter().map(|(usage, ..)| usage.len()).max().unwrap_or_default();
    let mut text = String::from("\nusage: cargo xtask <command>\n\n");
    for (usage, about, _) in commands {
        let _ = writeln!(text, "  {usage:width$}  {about}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_name_of_its_own() {
        let mut names: Vec<_> = COMMANDS.iter().map(|(usage, ..)| name_of(usage)).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), COMMANDS.len());
        assert!(names.iter().all(|name| !name.is_empty()));
    }

    #[test]
    fn the_help_names_every_command() {
        let commands: &[Command] =
            &[("one [--n N]", "does one", |_| Ok(())), ("two", "does two", |_| Ok(()))];
        let text = help(commands);
        assert!(text.contains("  one [--n N]  does one\n"), "{text}");
        assert!(text.contains("  two          does two\n"), "{text}");
    }
}
