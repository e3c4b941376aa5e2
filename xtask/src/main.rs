//! Project tasks: `cargo xtask COMMAND`. Each command is a module with a `COMMAND`; `args`, `steps`, `subcommand` and
//! `workspace` hold the parts that they share.
//!
//! A new command is a module and one line in [`COMMANDS`].

mod args;
mod bench;
mod ci;
mod codegen;
mod console;
mod coverage;
mod crash;
mod damage;
mod fuzz;
mod guarantees;
mod kill;
mod msrv;
mod proofs;
mod quick;
mod seeded_bugs;
mod signals;
mod soak;
mod steps;
mod stress;
mod subcommand;
mod test;
mod tidy;
mod workspace;

use std::error::Error;
use std::fmt::Write as _;
use std::process::ExitCode;

use crate::args::{Args, Usage};
use crate::subcommand::{Subcommand, overview};

const COMMANDS: &[Subcommand] = &[
    quick::COMMAND,
    test::COMMAND,
    proofs::COMMAND,
    ci::COMMAND,
    tidy::COMMAND,
    codegen::COMMAND,
    guarantees::COMMAND,
    crash::COMMAND,
    damage::COMMAND,
    kill::COMMAND,
    fuzz::COMMAND,
    stress::COMMAND,
    seeded_bugs::COMMAND,
    coverage::COMMAND,
    bench::COMMAND,
    msrv::COMMAND,
];

/// A parsed command line.
#[derive(Debug)]
enum Request {
    /// A text for stdout.
    Help(String),
    Run(&'static Subcommand, Args),
}

fn main() -> ExitCode {
    signals::reset_signal_mask();
    let (outcome, usage) = match parse(std::env::args().skip(1).collect()) {
        Ok(Request::Help(text)) => (console::print(&text), String::new()),
        Ok(Request::Run(command, args)) => {
            let help =
                format!("\n{}\n`cargo xtask help {}` explains it\n", command.usage_line(), command.name);
            ((command.run)(args), help)
        }
        Err(error) => (Err(error), format!("\n{}", overview(COMMANDS))),
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
        eprint!("{usage}");
        return ExitCode::from(2);
    }
    ExitCode::FAILURE
}

fn parse(mut arguments: Vec<String>) -> Result<Request, Box<dyn Error>> {
    if arguments.is_empty() {
        return Err(Usage::error("no command was given"));
    }
    let name = arguments.remove(0);
    let asks_for_help = |argument: &String| argument == "--help" || argument == "-h";
    if asks_for_help(&name) || name == "help" {
        return match arguments.iter().find(|argument| !asks_for_help(argument)) {
            None => Ok(Request::Help(overview(COMMANDS))),
            Some(name) => find(name).map(|command| Request::Help(command.help())),
        };
    }
    let command = find(&name)?;
    if arguments.iter().any(asks_for_help) {
        return Ok(Request::Help(command.help()));
    }
    Ok(Request::Run(command, Args::new(arguments)))
}

fn find(name: &str) -> Result<&'static Subcommand, Box<dyn Error>> {
    let command = COMMANDS.iter().find(|command| command.name == name);
    command.ok_or_else(|| Usage::error(format!("there is no command `{name}`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn help(line: &str) -> Option<String> {
        match parse(line.split_whitespace().map(str::to_owned).collect()).unwrap() {
            Request::Help(text) => Some(text),
            Request::Run(..) => None,
        }
    }

    /// The options and placeholders of a usage line or of an option's name: `--seed`, `NAME…`.
    fn parameters(text: &str) -> Vec<String> {
        let words = text.split(|c: char| "[]| =".contains(c)).map(|word| word.trim_end_matches('…'));
        let mut words: Vec<_> = words.filter(|word| !word.is_empty()).map(str::to_owned).collect();
        words.sort_unstable();
        words.dedup();
        words
    }

    #[test]
    fn command_names_are_unique() {
        let mut names: Vec<_> = COMMANDS.iter().map(|command| command.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), COMMANDS.len());
        assert!(names.iter().all(|name| !name.is_empty() && *name != "help"));
    }

    #[test]
    fn every_command_has_a_long_help() {
        for command in COMMANDS {
            let help = help(&format!("help {}", command.name)).unwrap();
            assert!(help.contains(&command.usage_line()), "{help}");
            assert!(command.about.len() > 100, "{}: explain it in a paragraph", command.name);
            assert!(!command.examples.is_empty(), "{}: give an example", command.name);
            let prefix = format!("cargo xtask {}", command.name);
            assert!(command.examples.iter().all(|(line, _)| line.starts_with(&prefix)), "{help}");
            let first = command.summary.chars().next().unwrap();
            assert!(first.is_uppercase() && !command.summary.ends_with('.'), "{}", command.summary);
            assert!(help.lines().all(|line| line.chars().count() <= 120), "{help}");
        }
    }

    #[test]
    fn every_option_of_a_usage_line_is_explained() {
        for command in COMMANDS {
            let explained = command.options.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" ");
            assert_eq!(parameters(command.usage), parameters(&explained), "{}", command.name);
            assert!(command.options.iter().all(|(_, text)| !text.is_empty()), "{}", command.name);
        }
    }

    #[test]
    fn help_is_found_under_every_spelling() {
        for line in ["help", "--help", "-h", "help --help"] {
            assert!(help(line).unwrap().contains("\nCommands:\n"), "{line}");
        }
        for line in ["help tidy", "--help tidy", "tidy --help", "tidy -h", "tidy --words --help"] {
            assert!(help(line).unwrap().contains("usage: cargo xtask tidy "), "{line}");
        }
        assert_eq!(help("tidy --words"), None);
    }

    #[test]
    fn an_unknown_command_is_a_usage_error() {
        for line in ["", "tidyy", "help tidyy"] {
            let error = parse(line.split_whitespace().map(str::to_owned).collect()).unwrap_err();
            assert!(error.is::<Usage>(), "{line}");
        }
    }
}
