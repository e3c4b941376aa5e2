//! Command-line arguments as typed. The verbs interpret them.

mod answer;
mod ask;
mod config;
mod each;
mod global;
mod manage;
mod run;
mod step;
mod terminal;
mod worktree;

use std::num::NonZeroUsize;
use std::time::{Duration, SystemTime};

use bytesize::ByteSize;
use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use sessionkit::log::Timestamp;

pub(crate) use self::answer::{Answer, Answers};
pub(crate) use self::ask::{Ask, Sleep, SleepEnd};
pub(crate) use self::config::{ConfigAction, ShowConfig};
pub(crate) use self::each::Each;
pub(crate) use self::global::{ColorWhen, Global};
pub(crate) use self::manage::{
    Completions, Export, Gc, Import, Man, Migrate, Pause, Retry, Rm, Signal, Wait, Why,
};
pub(crate) use self::run::{Places, Resume, Run, TerminalOptions, Terminals};
pub(crate) use self::step::{Step, StepCli, StepDecisions, Steps};
pub(crate) use self::terminal::{Attach, Input};
pub(crate) use self::worktree::{
    Diff, Merge, One, Purge, Repo, Restore, RmWorktree, Snapshots, WorktreeAction, WorktreeOptions,
};

use crate::error::ExitCodes;
use crate::status::Status;

/// The examples of `worktree`, which is a verb with verbs of its own.
const WORKTREE_EXAMPLES: &str = "Examples:\n  sessionctl worktree ls\n  sessionctl worktree rm fix-login\n  \
    sessionctl worktree restore fix-login\n\nNothing is lost with `rm`: docs/worktrees.md says what is kept, and where.";

/// Run programs as durable sessions: visible, stoppable and resumable after a crash.
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
  sessionctl show @last             show the newest session
  sessionctl logs @last --follow    follow its output, from any terminal

ID is @last, @failed, @running, a full id, a name, or the beginning of an id or of a name. A name that several sessions\nhave means the newest that has an owner or waits for one, else the newest.";

/// Returns the definition of the command line, with the stores that this program can open.
pub(crate) fn command() -> clap::Command {
    let schemes = ["file", "sled", "sqlite"]
        .map(str::to_owned)
        .into_iter()
        .chain(sessionkit::backend::registered_schemes());
    let mut urls: Vec<String> = schemes.map(|scheme| format!("{scheme}:PATH")).collect();
    let last = urls.pop().unwrap_or_default();
    let help = format!(
        "Use this store: {} or {last} [default: $SESSIONCTL_STORE, else under the user's state directory]",
        urls.join(", ")
    );
    Cli::command()
        .mut_arg("store", |store| store.help(help))
        .mut_subcommand("config", |config| {
            config.after_help(config::after_help()).arg_required_else_help(false)
        })
        .mut_subcommand("worktree", |worktree| worktree.after_help(WORKTREE_EXAMPLES))
}

/// A verb with its arguments.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run a program as a session
    Run(Box<Run>),
    /// List active sessions, or all
    Ls(Ls),
    /// Show one session
    Show(Show),
    /// Explain the state of a session and suggest the next command
    Why(Why),
    /// Wait for sessions to end
    Wait(Wait),
    /// Print the log of a session
    Events(Events),
    /// Print the output of a session's program; its log is printed by `events`
    Logs(Logs),
    /// Return to the terminal of a running session
    Attach(Attach),
    /// Type at the terminal of a running session
    Input(Input),
    /// Send a signal to the program of a session
    Signal(Signal),
    /// Pause a running session
    Pause(Pause),
    /// Resume a paused or crashed session
    Resume(Resume),
    /// Cancel a session
    Cancel(Cancel),
    /// Run the command of an ended session as a new session
    Retry(Retry),
    /// Fail, pause or resume crashed sessions
    Recover(Recover),
    /// Check the stored data of sessions, and repair it
    Verify(Verify),
    /// Cancel sessions without an owner, and remove those that ended long ago and files of dead processes
    Gc(Gc),
    /// Remove sessions
    Rm(Rm),
    /// Export sessions as a stream
    Export(Export),
    /// Import exported sessions, or those of an older tool
    Import(Import),
    /// Copy all sessions into another store
    Migrate(Migrate),
    /// Report progress from inside a session
    Report(Report),
    /// Run a command of a session's script once, and never again in a later attempt
    Step(Box<Step>),
    /// Run a command once for each line of the input, and never again in a later attempt
    Each(Box<Each>),
    /// Ask a question in a session's script, and wait for the answer
    Ask(Ask),
    /// Wait in a session's script for a time that is recorded once
    Sleep(Sleep),
    /// List the steps of a session
    Steps(Steps),
    /// Answer a question of a session
    Answer(Answer),
    /// List the questions that wait for an answer
    Answers(Answers),
    /// List, remove and restore the git worktrees of sessions
    #[command(subcommand)]
    Worktree(WorktreeAction),
    /// Print the configuration
    #[command(subcommand)]
    Config(ConfigAction),
    /// Print a completion script for a shell
    Completions(Completions),
    /// Write the manual pages
    Man(Man),
}

impl Verb {
    /// Returns the verb as it is typed.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Run(_) => "run",
            Self::Ls(_) => "ls",
            Self::Show(_) => "show",
            Self::Why(_) => "why",
            Self::Wait(_) => "wait",
            Self::Pause(_) => "pause",
            Self::Signal(_) => "signal",
            Self::Attach(_) => "attach",
            Self::Input(_) => "input",
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
            Self::Step(_) => "step",
            Self::Each(_) => "each",
            Self::Ask(_) => "ask",
            Self::Sleep(_) => "sleep",
            Self::Steps(_) => "steps",
            Self::Answer(_) => "answer",
            Self::Answers(_) => "answers",
            Self::Worktree(_) => "worktree",
            Self::Config(_) => "config",
        }
    }
}

impl Verb {
    /// Returns `true` if the verb may run or view a program in the foreground, as a job of a shell.
    pub(crate) const fn runs_here(&self) -> bool {
        if let Self::Run(run) = self {
            return !run.detach;
        }
        matches!(self, Self::Resume(Resume { detach: false, .. }) | Self::Retry(_) | Self::Attach(_))
    }

    /// Returns `true` if the verb reads or writes whole logs.
    pub(crate) const fn moves_logs(&self) -> bool {
        matches!(
            self,
            Self::Import(_) | Self::Migrate(_) | Self::Export(_) | Self::Verify(_) | Self::Events(_)
        )
    }

    /// Returns `true` if only the output of a program and errors are to be printed.
    pub(crate) const fn is_quiet(&self) -> bool {
        if let Self::Run(run) = self {
            return run.quiet;
        }
        matches!(self, Self::Resume(Resume { quiet: true, .. }) | Self::Retry(Retry { quiet: true, .. }))
    }

    /// Returns the meaning of its exit codes: a verb that runs or awaits a program exits with the program's code.
    pub(crate) const fn exit_codes(&self) -> ExitCodes {
        match self {
            Self::Run(_)
            | Self::Resume(_)
            | Self::Retry(_)
            | Self::Wait(_)
            | Self::Attach(_)
            | Self::Step(_)
            | Self::Each(_)
            | Self::Ask(_)
            | Self::Sleep(_) => ExitCodes::Child,
            Self::Ls(_)
            | Self::Show(_)
            | Self::Why(_)
            | Self::Pause(_)
            | Self::Signal(_)
            | Self::Input(_)
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
            | Self::Report(_)
            | Self::Steps(_)
            | Self::Answer(_)
            | Self::Answers(_)
            | Self::Worktree(_)
            | Self::Config(_) => ExitCodes::Own,
        }
    }
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sessionctl ls --all\n  sessionctl ls --state failed --label team=data --limit 10"
)]
pub(crate) struct Ls {
    /// List ended sessions too, and those that a person stopped
    #[arg(long)]
    pub(crate) all: bool,
    /// List only sessions with this status; may be given more than once
    #[arg(long = "state", value_name = "STATUS", value_parser = status)]
    pub(crate) statuses: Vec<Status>,
    /// List only sessions with this label; may be given more than once
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub(crate) labels: Vec<(String, String)>,
    /// List only the newest N sessions
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<NonZeroUsize>,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sessionctl show @last")]
pub(crate) struct Show {
    /// Session: @last, @failed, @running, an id, a name, or the beginning of either
    pub(crate) id: String,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sessionctl events @last --after 3\n  sessionctl events nightly --follow --json\n\n\
    With --follow, exits with 0 once the session has ended and its whole log is printed."
)]
pub(crate) struct Events {
    /// Session: @last, @failed, @running, an id, a name, or the beginning of either
    pub(crate) id: String,
    /// Keep printing until the session has ended; a crash is not an end
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// Print only records after this revision
    #[arg(long, value_name = "REV", default_value_t = 0)]
    pub(crate) after: u64,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sessionctl logs @last --stderr --tail 20\n  sessionctl logs nightly --follow\n\n\
    With --follow, exits with 0 once the session has ended and all of its output is printed. On a terminal, colors and \
    links are shown, and lines that were overwritten, such as a progress bar, as they were last; other control \
    characters are escaped. Into a pipe or file, all bytes are printed as they are, except that the line ends of a \
    terminal lose their carriage return, and that --tail prints its overwritten lines as they were last.\n\n\
    Of long output, both ends are kept. A line names what is missing: in its place on a terminal, else on stderr."
)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub(crate) struct Logs {
    /// Session: @last, @failed, @running, an id, a name, or the beginning of either
    pub(crate) id: String,
    /// Keep printing until the session has ended; a crash is not an end
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// Print only standard output, or what the program printed to a terminal of its own
    #[arg(long, conflicts_with = "stderr")]
    pub(crate) stdout: bool,
    /// Print only standard error
    #[arg(long)]
    pub(crate) stderr: bool,
    /// Print only the last N lines
    #[arg(long, value_name = "N")]
    pub(crate) tail: Option<u64>,
    /// Print only what arrived since a time (2026-03-01T12:00:00Z, in UTC), or within a duration (10m)
    #[arg(long, value_name = "TIME", value_parser = since)]
    pub(crate) since: Option<Timestamp>,
    /// Print only the output of attempt N
    #[arg(long, value_name = "N")]
    pub(crate) attempt: Option<u32>,
    /// Print all bytes as they are, carriage returns included, also on a terminal, which they may control
    #[arg(long)]
    pub(crate) raw: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sessionctl cancel nightly --reason \"wrong input\"\n\n\
    Works from any process. The program gets TERM and a grace period (5s by default), then KILL. Sessions that were started \
    inside it with `run --detach` are left running, except with --children.")]
pub(crate) struct Cancel {
    /// Session: @last, @failed, @running, an id, a name, or the beginning of either
    pub(crate) id: String,
    /// Reason, recorded in the log
    #[arg(long, value_name = "TEXT", default_value = "cancelled by hand")]
    pub(crate) reason: String,
    /// Kill the program immediately instead of sending TERM first
    #[arg(long)]
    pub(crate) force: bool,
    /// Also cancel the sessions that were started inside it with --detach, and those started inside these
    #[arg(long)]
    pub(crate) children: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sessionctl recover --dry-run")]
pub(crate) struct Recover {
    /// Apply this policy to every crashed session [default: the session's own policy, else pause]
    #[arg(long, value_enum, value_name = "POLICY")]
    pub(crate) policy: Option<Policy>,
    /// Print what would be done, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Treat owners of unknown liveness as dead; make sure that they are
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) places: Places,
    /// Run recorded commands though other users can have written them: the store is theirs, or they can write to it
    #[arg(long)]
    pub(crate) trust_store: bool,
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

/// Treatment of a session whose owner died.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Policy {
    /// Mark the session as failed
    Fail,
    /// Pause the session until it is resumed by hand
    Pause,
    /// Run its command again; pause a session without a command
    Resume,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sessionctl verify\n\n\
    Exits with 0 if every session is healthy or torn (the next write repairs it), or its loss was accepted, and with 7 \
    otherwise (5 if this user may not read it). Opens a store that is itself damaged, too.")]
pub(crate) struct Verify {
    /// Sessions to check [default: all]
    pub(crate) ids: Vec<String>,
    /// Repair the store and its sessions, as far as that loses no flushed records
    #[arg(long)]
    pub(crate) repair: bool,
    /// Also repair sessions that have lost flushed records; these stay lost
    #[arg(long, requires = "repair")]
    pub(crate) accept_loss: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example (in a script that runs as a session):\n  sessionctl report --progress 40 --step compiling"
)]
#[group(required = true, multiple = true, args = ["progress", "step", "phase"])]
pub(crate) struct Report {
    /// Progress from 0 to 100
    #[arg(long, value_name = "PERCENT")]
    pub(crate) progress: Option<f64>,
    /// Name of the current step
    #[arg(long, value_name = "TEXT")]
    pub(crate) step: Option<String>,
    /// Name of the current phase
    #[arg(long, value_name = "TEXT")]
    pub(crate) phase: Option<String>,
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| "expected a duration such as 90s, 10m, 2h 30m or 7d".to_owned())
}

/// Parses a moment, or the duration since then.
fn since(text: &str) -> Result<Timestamp, String> {
    let at = match humantime::parse_duration(text) {
        Ok(duration) => SystemTime::now().checked_sub(duration),
        Err(_) => system_time(text),
    };
    at.and_then(timestamp).ok_or_else(|| {
        "expected a time such as 2026-03-01 or 2026-03-01T12:00:00Z, or a duration such as 10m".to_owned()
    })
}

/// Parses a moment.
fn moment(text: &str) -> Result<Timestamp, String> {
    let error = || "expected a time such as 2026-03-01 or 2026-03-01T12:00:00Z".to_owned();
    system_time(text).and_then(timestamp).ok_or_else(error)
}

fn system_time(text: &str) -> Option<SystemTime> {
    humantime::parse_rfc3339_weak(text)
        .or_else(|_| humantime::parse_rfc3339_weak(&format!("{text} 00:00:00")))
        .ok()
}

fn timestamp(at: SystemTime) -> Option<Timestamp> {
    let millis = at.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_millis();
    i64::try_from(millis).ok().and_then(Timestamp::from_millis)
}

fn bytes(text: &str) -> Result<u64, String> {
    text.parse::<ByteSize>().map(|size| size.as_u64()).map_err(|_| "expected a size such as 64MiB".to_owned())
}

fn status(text: &str) -> Result<Status, String> {
    Status::parse(text).ok_or_else(|| format!("expected one of {}", Status::ALL.map(Status::name).join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_definition_is_consistent() {
        command().debug_assert();
    }
}
