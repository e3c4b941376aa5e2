//! The command line as typed. What the words mean is decided by the verbs.

mod manage;
mod run;

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use sessionkit::StateName;

pub(crate) use self::manage::{Completions, Export, Gc, Import, Man, Migrate, Pause, Retry, Rm, Wait, Why};
pub(crate) use self::run::{Resume, Run};

use crate::error::ExitCodes;

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
  sessionctl logs @last --follow    read along, from anywhere

ID is @last, a full id, an exact name, or the beginning of an id.";

const STORE_HELP: &str = "Where the sessions are: file:PATH, sled:PATH or sqlite:PATH [default: $SESSIONCTL_STORE, else under the user's state directory]";

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
    /// Says on stderr what is going on; -vv says more
    #[arg(long, short, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

impl Global {
    /// What is known of a command line that makes no sense, except that a program typed it.
    pub(crate) const fn of_json() -> Self {
        Self { store: None, json: true, color: ColorWhen::Never, verbose: 0 }
    }
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
    /// Says why a session is as it is, and what to do about it
    Why(Why),
    /// Waits for the end of sessions
    Wait(Wait),
    /// Prints the log of a session
    Events(Events),
    /// Prints what a session's program has printed
    Logs(Logs),
    /// Makes a session stand still
    Pause(Pause),
    /// Makes a paused or crashed session go on
    Resume(Resume),
    /// Ends a session
    Cancel(Cancel),
    /// Runs the command of an ended session as a new session
    Retry(Retry),
    /// Deals with sessions whose owner died
    Recover(Recover),
    /// Checks the files of sessions, and repairs them
    Verify(Verify),
    /// Removes sessions that ended long ago, and what dead processes left behind
    Gc(Gc),
    /// Removes sessions
    Rm(Rm),
    /// Prints sessions as a stream, to take them elsewhere
    Export(Export),
    /// Stores sessions that were exported
    Import(Import),
    /// Copies all sessions into another store
    Migrate(Migrate),
    /// Says from inside a session how far it is
    Report(Report),
    /// Prints the completions of a shell
    Completions(Completions),
    /// Writes the manual pages
    Man(Man),
}

impl Verb {
    /// As it is typed.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Run(_) => "run",
            Self::Ls(_) => "ls",
            Self::Show(_) => "show",
            Self::Why(_) => "why",
            Self::Wait(_) => "wait",
            Self::Pause(_) => "pause",
            Self::Retry(_) => "retry",
            Self::Gc(_) => "gc",
            Self::Rm(_) => "rm",
            Self::Export(_) => "export",
            Self::Import(_) => "import",
            Self::Migrate(_) => "migrate",
            Self::Completions(_) => "completions",
            Self::Man(_) => "man",
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
        matches!(
            self,
            Self::Run(Run { detach: false, .. })
                | Self::Resume(Resume { detach: false, .. })
                | Self::Retry(_)
        )
    }

    /// How its exit codes are to be understood: a verb that runs a program passes on the program's.
    pub(crate) const fn exit_codes(&self) -> ExitCodes {
        match self {
            Self::Run(_) | Self::Resume(_) | Self::Retry(_) | Self::Wait(_) => ExitCodes::Child,
            Self::Ls(_)
            | Self::Show(_)
            | Self::Why(_)
            | Self::Pause(_)
            | Self::Gc(_)
            | Self::Rm(_)
            | Self::Export(_)
            | Self::Import(_)
            | Self::Migrate(_)
            | Self::Completions(_)
            | Self::Man(_)
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
    after_help = "Examples:\n  sessionctl ls --all\n  sessionctl ls --state failed --label team=data --limit 10"
)]
pub(crate) struct Ls {
    /// Lists the ended ones too
    #[arg(long)]
    pub(crate) all: bool,
    /// Only those in this state; may be given more than once
    #[arg(long = "state", value_name = "STATE", value_parser = state)]
    pub(crate) states: Vec<StateName>,
    /// Only those with this label; may be given more than once
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub(crate) labels: Vec<(String, String)>,
    /// Only the newest, this many
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<NonZeroUsize>,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sessionctl show @last")]
pub(crate) struct Show {
    /// Which session
    pub(crate) id: String,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sessionctl events @last --after 3\n  sessionctl events nightly --follow --json\n\n\
    With --follow it ends with 0 once the session has ended, for good, and all of its log was printed."
)]
pub(crate) struct Events {
    /// Which session
    pub(crate) id: String,
    /// Goes on with what comes, until the session has ended; a crash is no end
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// Only what came after this revision
    #[arg(long, value_name = "REV", default_value_t = 0)]
    pub(crate) after: u64,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sessionctl logs @last --stderr --tail 20\n  sessionctl logs nightly --follow\n\n\
    With --follow it ends with 0 once the session has ended, for good, and all of its output was printed."
)]
pub(crate) struct Logs {
    /// Which session
    pub(crate) id: String,
    /// Goes on with what comes, until the session has ended; a crash is no end
    #[arg(long, short)]
    pub(crate) follow: bool,
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
#[command(after_help = "Example:\n  sessionctl recover --dry-run")]
pub(crate) struct Recover {
    /// What becomes of every session whose owner died [default: what the session was made with, else pause]
    #[arg(long, value_enum, value_name = "POLICY")]
    pub(crate) policy: Option<Policy>,
    /// Says what would be done, and changes nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Counts owners as dead of whom nothing can be known; make sure that they are
    #[arg(long)]
    pub(crate) force: bool,
}

impl From<Policy> for sessionkit::RecoveryPolicy {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::Fail => Self::Fail,
            Policy::Pause => Self::Pause,
            Policy::Resume => Self::Resume,
        }
    }
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

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "a duration is like 90s, 10m, 2h 30m or 7d".to_owned())
}

fn state(text: &str) -> Result<StateName, String> {
    StateName::ALL.iter().copied().find(|state| state.name() == text).ok_or_else(|| {
        let names: Vec<&str> = StateName::ALL.iter().map(|state| state.name()).collect();
        format!("a state is one of {}", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_definition_is_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }
}
