//! Subcommands of `cargo xtask`: their names, usage lines and help texts.

use std::fmt::Write as _;

use crate::args::Args;
use crate::console::Outcome;

/// A subcommand: the texts of its help, and the function that runs it.
#[derive(Debug)]
pub(crate) struct Subcommand {
    pub(crate) name: &'static str,
    /// Arguments and options, without the name.
    pub(crate) usage: &'static str,
    /// One line, imperative, without a full stop.
    pub(crate) summary: &'static str,
    /// Paragraphs of at most 100 columns.
    pub(crate) about: &'static str,
    /// Each argument and option of the usage line with its explanation, its default included.
    pub(crate) options: &'static [(&'static str, &'static str)],
    /// Commands to type, each with a comment.
    pub(crate) examples: &'static [(&'static str, &'static str)],
    pub(crate) run: fn(Args) -> Outcome,
}

impl Subcommand {
    /// Returns the usage line.
    pub(crate) fn usage_line(&self) -> String {
        format!("usage: cargo xtask {} {}", self.name, self.usage).trim_end().to_owned()
    }

    /// Returns the long help.
    pub(crate) fn help(&self) -> String {
        let mut text = format!("{}\n\n{}\n\n{}\n", self.summary, self.usage_line(), self.about);
        section(&mut text, "Options", self.options);
        section(&mut text, "Examples", self.examples);
        text
    }
}

/// Appends a section of two columns. Continuation lines of the second are indented like its first.
fn section(text: &mut String, title: &str, rows: &[(&str, &str)]) {
    if rows.is_empty() {
        return;
    }
    let width = rows.iter().map(|(left, _)| left.chars().count()).max().unwrap_or_default();
    let _ = write!(text, "\n{title}:\n");
    for (left, right) in rows {
        let right = right.replace('\n', &format!("\n{}", " ".repeat(width + 4)));
        let _ = writeln!(text, "{}", format!("  {left:width$}  {right}").trim_end());
    }
}

/// Returns the list of all subcommands, for `cargo xtask --help`.
pub(crate) fn overview(subcommands: &[Subcommand]) -> String {
    let width = subcommands.iter().map(|command| command.name.len()).max().unwrap_or_default();
    let mut text = String::from("Project tasks: tests, lints, generated pages and measurements\n\n");
    text += "usage: cargo xtask COMMAND [ARGUMENTS]\n\nCommands:\n";
    for command in subcommands {
        let _ = writeln!(text, "  {:width$}  {}", command.name, command.summary);
    }
    let _ = writeln!(text, "  {:width$}  Explain a command and its options", "help");
    text + "\n`cargo xtask help COMMAND` or `cargo xtask COMMAND --help` explains a command.\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Subcommand {
        Subcommand {
            name: "one",
            usage: "[--n N]",
            summary: "Do one",
            about: "Does one thing.",
            options: &[("--n N", "times\n(default: 1)"), ("--all", "all")],
            examples: &[("cargo xtask one", "once")],
            run: |_| Ok(()),
        }
    }

    #[test]
    fn help_has_usage_options_and_examples() {
        assert_eq!(
            example().help(),
            "Do one\n\nusage: cargo xtask one [--n N]\n\nDoes one thing.\n\n\
             Options:\n  --n N  times\n         (default: 1)\n  --all  all\n\n\
             Examples:\n  cargo xtask one  once\n"
        );
    }

    #[test]
    fn overview_lists_every_subcommand() {
        let text = overview(&[example(), Subcommand { name: "three", summary: "Do three", ..example() }]);
        assert!(text.contains("  one    Do one\n  three  Do three\n  help   "), "{text}");
    }
}
