//! Arguments of the verbs that manage existing sessions.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use sessionkit::legacy::Format;

use super::{Places, StepDecisions, Terminals, duration, status};
use crate::status::Status;

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sessionctl why nightly")]
pub(crate) struct Why {
    /// Session: @last, @failed, @running, an id, a name, or the beginning of either
    pub(crate) id: String,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sessionctl wait nightly\n  sessionctl wait --for paused --timeout 10m nightly\n\n\
    Exits with the program's exit code; for several sessions, with the first non-zero one in the order given. \
    124 on timeout, 0 once the status of --for is reached, 125 if a session has lost its owner (CRASHED, INTERRUPTED, \
    STOPPED) and for failures of sessionctl itself. Sessions that have not started are waited for."
)]
pub(crate) struct Wait {
    /// Sessions to wait for
    #[arg(required = true)]
    pub(crate) ids: Vec<String>,
    /// Wait for this status, as shown by `ls`, instead of the end
    #[arg(long = "for", value_name = "STATUS", value_parser = status)]
    pub(crate) status: Option<Status>,
    /// Give up after this time
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sessionctl signal server HUP\n\n\
    It is no request to stop: if the program ends, its session ends as the program did. Use `cancel` to end a session.")]
pub(crate) struct Signal {
    /// Session: @last, @failed, @running, an id, a name, or the beginning of either
    pub(crate) id: String,
    /// Name or number: USR1, SIGUSR1, 10
    #[arg(value_name = "SIGNAL", value_parser = signal)]
    pub(crate) number: nix::sys::signal::Signal,
    /// Send it to the program's whole process group instead of its first process
    #[arg(long)]
    pub(crate) group: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sessionctl pause nightly --reason \"the disk is needed\"\n\n\
    Returns once the session is paused. Its program is stopped until `resume`; `cancel` ends a paused session, too.")]
pub(crate) struct Pause {
    /// Session: @last, @failed, @running, an id, a name, or the beginning of either
    pub(crate) id: String,
    /// Reason, recorded in the log
    #[arg(long, value_name = "TEXT", default_value = "paused by hand")]
    pub(crate) reason: String,
}

#[expect(clippy::struct_excessive_bools, reason = "independent options of the command line")]
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sessionctl retry nightly\n\n\
    Creates a new session with the same command, directory, name and labels, and runs it in the foreground, as with \
    `run`. The ended session is not changed. Its recorded steps are taken over, so that the script continues at the step \
    that failed. The program has a terminal of its own if it had one before, unless --tty or \
    --no-tty changes that.")]
pub(crate) struct Retry {
    /// Ended session: @last, an id, a name, or the beginning of an id
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) places: Places,
    /// Run the recorded command though other users can have written it: the store is theirs, or they can write to it
    #[arg(long)]
    pub(crate) trust_store: bool,
    /// Take over only the steps that ended before STEP first started
    #[arg(long, value_name = "STEP", conflicts_with = "fresh")]
    pub(crate) from: Option<String>,
    /// Take over no steps, and give all of them new idempotency keys
    #[arg(long)]
    pub(crate) fresh: bool,
    /// Run in a new worktree instead of that of the ended session
    #[arg(long)]
    pub(crate) new_worktree: bool,
    #[command(flatten)]
    pub(crate) steps: StepDecisions,
    #[command(flatten)]
    pub(crate) terminals: Terminals,
    /// Print nothing but the output of the program, and errors of sessionctl
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sessionctl gc --older-than 30d --dry-run\n\n\
    Cancels sessions that have lost their owner (crashed, interrupted, stopped) and whose last event is at least that \
    long ago, and prints them. Then removes sessions that ended at least that long ago, with their output, and locks, \
    sockets and temporary files of dead processes. A session that is cancelled now is removed by a later gc; a paused \
    session stays.")]
pub(crate) struct Gc {
    /// Minimum time since the session ended or, without an owner, got its last event
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) older_than: Duration,
    /// Move clean worktrees of sessions that ended that long ago into the trash, delete their branches if these are proven to be
    /// merged, and remove these sessions, too
    #[arg(long)]
    pub(crate) worktrees: bool,
    /// Print what would be cancelled and removed, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sessionctl rm nightly\n\n\
    Removes sessions with their logs and output. A session with a live owner is not removed: cancel it first.")]
pub(crate) struct Rm {
    /// Sessions to remove
    #[arg(required = true)]
    pub(crate) ids: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sessionctl export nightly > nightly.jsonl\n\n\
    Prints a stream of JSON lines for `import`. The format is described in docs/export.md.")]
pub(crate) struct Export {
    /// Sessions to export [default: all]
    pub(crate) ids: Vec<String>,
    /// Leave out the output of their programs
    #[arg(long)]
    pub(crate) no_output: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  sessionctl --store file:/srv/sessions import nightly.jsonl\n  \
    sessionctl import --format msw --dry-run .msw/sessions\n\n\
    An exported file is checked completely before anything is stored. Sessions that exist with the same log are \
    skipped, so an interrupted import can be repeated.\n\n\
    The store of an older tool is only read. For each session, the values that had to be mapped are printed, and \
    unreadable entries do not prevent the import of the rest; docs/legacy.md has the tables. Exits with 7 if an entry \
    could not be read, otherwise with 4 if a session exists with a different log.")]
pub(crate) struct Import {
    /// File to import, `-` for standard input; with --format, the directory or file of the older tool's sessions
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Import the store of an older tool instead of an exported file
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub(crate) format: Option<LegacyFormat>,
    /// Print what would be imported from an older tool, and change nothing
    #[arg(long, requires = "format")]
    pub(crate) dry_run: bool,
}

/// An older tool whose sessions can be imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LegacyFormat {
    /// `.msw/sessions`, one file for each session
    Msw,
    /// `.claude-container-sessions.json`, else the git worktrees next to it
    Container,
    /// `.prodigy/sessions`, one file for each session
    Prodigy,
}

impl From<LegacyFormat> for Format {
    fn from(format: LegacyFormat) -> Self {
        match format {
            LegacyFormat::Msw => Self::Msw,
            LegacyFormat::Container => Self::Container,
            LegacyFormat::Prodigy => Self::Prodigy,
        }
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sessionctl --store file:old migrate --to sqlite:sessions.db\n\n\
    Each session is copied byte for byte, with its output, and read back. The source store is not changed. \
    An interrupted migration continues when the command is repeated. Sessions with a live owner are not copied: \
    they would change here while their copies would not.")]
pub(crate) struct Migrate {
    /// Store to copy all sessions to
    #[arg(long, value_name = "URL")]
    pub(crate) to: OsString,
    /// Leave out the output of the programs
    #[arg(long)]
    pub(crate) no_output: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  sessionctl completions bash > ~/.local/share/bash-completion/completions/sessionctl"
)]
pub(crate) struct Completions {
    /// Shell to print the script for
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sessionctl man ~/.local/share/man/man1")]
pub(crate) struct Man {
    /// Directory to write to, one file for each verb
    pub(crate) folder: PathBuf,
}

fn signal(text: &str) -> Result<nix::sys::signal::Signal, &'static str> {
    use nix::sys::signal::Signal;
    let named = || {
        let name = text.to_ascii_uppercase();
        format!("SIG{}", name.strip_prefix("SIG").unwrap_or(&name)).parse().ok()
    };
    let numbered = text.parse::<i32>().ok().and_then(|number| Signal::try_from(number).ok());
    numbered.or_else(named).ok_or("expected a signal such as USR1, SIGUSR1 or 10")
}
