//! The command line as typed. What the words mean is decided by the verbs.

use std::ffi::OsString;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::fail::ExitCodes;

/// Runs programs as durable sessions: visible, stoppable, crash-proof, resumable.
#[derive(Debug, Parser)]
#[command(name = "sessionctl", version, disable_help_subcommand = true, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

const EXAMPLES: &str = "\
Examples:
  sessionctl run -- make -j8        run a program as a session
  sessionctl ls --all               list all sessions
  sessionctl show @last             look at the one made last

ID is @last, a full id, an exact name, or the beginning of an id.";

const STORE_HELP: &str =
    "Where the sessions are: file:PATH [default: $SESSIONCTL_STORE, else under the user's state directory]";

/// What every verb takes.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Where the sessions are
    #[arg(long, global = true, value_name = "URL", help = STORE_HELP)]
    pub(crate) store: Option<OsString>,
    /// Prints JSON, in the documented schema
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Whether to use colours
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t = ColorWhen::Auto)]
    pub(crate) color: ColorWhen,
}

/// Whether to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorWhen {
    /// On a terminal, unless `NO_COLOR` is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Runs a program as a session
    Run(Run),
    /// Lists sessions
    Ls(Ls),
    /// Shows one session
    Show(Show),
    /// Prints the log of a session
    Events(Events),
    /// Prints what a session's program has printed
    Logs(Logs),
    /// Ends a session
    Cancel(Cancel),
    /// Makes a paused or crashed session go on
    Resume(Resume),
    /// Deals with sessions whose owner died
    Recover(Recover),
    /// Checks the files of sessions, and repairs them
    Verify(Verify),
    /// Says from inside a session how far it is
    Report(Report),
}

impl Verb {
    /// As it is typed.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Run(_) => "run",
            Self::Ls(_) => "ls",
            Self::Show(_) => "show",
            Self::Events(_) => "events",
            Self::Logs(_) => "logs",
            Self::Cancel(_) => "cancel",
            Self::Resume(_) => "resume",
            Self::Recover(_) => "recover",
            Self::Verify(_) => "verify",
            Self::Report(_) => "report",
        }
    }
}

impl Verb {
    /// Whether it may run a program in the foreground, as a job of a shell.
    pub(crate) const fn runs_here(&self) -> bool {
        match self {
            Self::Run(args) => !args.detach,
            Self::Resume(args) => !args.detach,
            Self::Ls(_)
            | Self::Show(_)
            | Self::Events(_)
            | Self::Logs(_)
            | Self::Cancel(_)
            | Self::Recover(_)
            | Self::Verify(_)
            | Self::Report(_) => false,
        }
    }
}

impl Verb {
    /// How its exit codes are to be understood: a verb that runs a program passes on the program's.
    pub(crate) const fn exit_codes(&self) -> ExitCodes {
        match self {
            Self::Run(_) | Self::Resume(_) => ExitCodes::Childs,
            Self::Ls(_)
            | Self::Show(_)
            | Self::Events(_)
            | Self::Logs(_)
            | Self::Cancel(_)
            | Self::Recover(_)
            | Self::Verify(_)
            | Self::Report(_) => ExitCodes::Own,
        }
    }
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sessionctl run --name nightly --label team=data -- ./import.sh --all\n  \
    sessionctl run -- python3\n  id=$(sessionctl run --detach -- make -j8)\n\n\
    Exits as the program does; 126 and 127 if it cannot be run, 125 for failures of sessionctl itself.\n\n\
    A terminal is handed to the program: it reads from there, and the keys mean it. Ctrl-Z pauses the session and\n\
    stops the job; `fg` and `bg` make both go on. Its output is captured on its way to the terminal."
)]
pub(crate) struct Run {
    /// The session's name; names need not be unique
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// A label to find it by; may be given more than once
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub(crate) labels: Vec<(String, String)>,
    /// Prints the id once the program has started, and does not wait for its end. It reads nothing, and outlives the
    /// terminal
    #[arg(long)]
    pub(crate) detach: bool,
    /// The program and its arguments
    #[arg(last = true, required = true, num_args = 1.., value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sessionctl ls --all")]
pub(crate) struct Ls {
    /// Lists the ended ones too
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sessionctl show @last")]
pub(crate) struct Show {
    /// Which session
    pub(crate) id: String,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sessionctl events @last --after 3")]
pub(crate) struct Events {
    /// Which session
    pub(crate) id: String,
    /// Only what came after this revision
    #[arg(long, value_name = "REV", default_value_t = 0)]
    pub(crate) after: u64,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sessionctl logs @last --stderr --tail 20")]
pub(crate) struct Logs {
    /// Which session
    pub(crate) id: String,
    /// Only what went to the standard output
    #[arg(long, conflicts_with = "stderr")]
    pub(crate) stdout: bool,
    /// Only what went to the standard error output
    #[arg(long)]
    pub(crate) stderr: bool,
    /// Only the last lines, this many
    #[arg(long, value_name = "N")]
    pub(crate) tail: Option<u64>,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sessionctl cancel nightly --reason \"wrong input\"")]
pub(crate) struct Cancel {
    /// Which session
    pub(crate) id: String,
    /// Why; it stands in the log
    #[arg(long, value_name = "TEXT", default_value = "cancelled by hand")]
    pub(crate) reason: String,
    /// Kills the program at once instead of asking it first
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sessionctl resume nightly\n\n\
    If its owner is dead, the command is run again here, in the foreground, and this exits as it does; a terminal is\n\
    handed to it, as by `run`. If its owner lives, that one is asked to go on.")]
pub(crate) struct Resume {
    /// Which session
    pub(crate) id: String,
    /// Prints the id once the program has started, and does not wait for its end. It reads nothing, and outlives the
    /// terminal
    #[arg(long)]
    pub(crate) detach: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sessionctl recover --dry-run")]
pub(crate) struct Recover {
    /// What becomes of a session whose owner died
    #[arg(long, value_enum, value_name = "POLICY", default_value_t = Policy::Pause)]
    pub(crate) policy: Policy,
    /// Says what would be done, and changes nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Counts owners as dead of whom nothing can be known; make sure that they are
    #[arg(long)]
    pub(crate) force: bool,
}

/// What becomes of a session whose owner died.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Policy {
    /// It fails
    Fail,
    /// It is paused, to be resumed by hand
    Pause,
    /// Its command is run again; what is no command is paused
    Resume,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sessionctl verify\n\n\
    Exits with 0 if all is well or torn (mended by the next write), with 7 otherwise.")]
pub(crate) struct Verify {
    /// Which sessions [default: all]
    pub(crate) ids: Vec<String>,
    /// Mends what can be mended without loss of anything acknowledged as flushed
    #[arg(long)]
    pub(crate) repair: bool,
    /// Mends also what lost flushed records; they stay lost
    #[arg(long, requires = "repair")]
    pub(crate) accept_loss: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example (in a script that a session runs):\n  sessionctl report --progress 40 --step compiling"
)]
#[group(required = true, multiple = true, args = ["progress", "step", "phase"])]
pub(crate) struct Report {
    /// How much is done, 0 to 100
    #[arg(long, value_name = "PERCENT")]
    pub(crate) progress: Option<f64>,
    /// What is being done
    #[arg(long, value_name = "TEXT")]
    pub(crate) step: Option<String>,
    /// The part of the work that this is
    #[arg(long, value_name = "TEXT")]
    pub(crate) phase: Option<String>,
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("a label is KEY=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_holds_together() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }
}
