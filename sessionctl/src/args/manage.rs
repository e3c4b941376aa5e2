//! The grammar of the verbs that look after sessions once they are there.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use sessionkit::StateName;
use sessionkit::legacy::Format;

use super::{duration, state};

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sessionctl why nightly")]
pub(crate) struct Why {
    /// Which session
    pub(crate) id: String,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sessionctl wait nightly\n  sessionctl wait --for paused --timeout 10m nightly\n\n\
    Exits as the program did; of several sessions as the first one, as they are named, that did not exit with 0.\n\
    124 if the time is up, 0 once a state that was asked for is reached, 125 for failures of sessionctl itself."
)]
pub(crate) struct Wait {
    /// Which sessions
    #[arg(required = true)]
    pub(crate) ids: Vec<String>,
    /// Waits for this state instead of the end
    #[arg(long = "for", value_name = "STATE", value_parser = state)]
    pub(crate) state: Option<StateName>,
    /// Gives up after this time
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sessionctl pause nightly --reason \"the disk is needed\"\n\n\
    Returns once the session is paused. Its program stands still until `resume`; `cancel` ends it all the same.")]
pub(crate) struct Pause {
    /// Which session
    pub(crate) id: String,
    /// Why; it stands in the log
    #[arg(long, value_name = "TEXT", default_value = "paused by hand")]
    pub(crate) reason: String,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sessionctl retry nightly\n\n\
    A new session with the same command, directory, name and labels. The ended one stays as it is.")]
pub(crate) struct Retry {
    /// Which session; it has ended
    pub(crate) id: String,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sessionctl gc --older-than 30d --dry-run\n\n\
    Removes sessions that ended longer ago, with their output, and what processes that are gone left behind.")]
pub(crate) struct Gc {
    /// How long ago a session has to have ended
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) older_than: Duration,
    /// Says what would be removed, and changes nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sessionctl rm nightly\n\n\
    Removes ended sessions, and those that nobody runs, with their logs and output.")]
pub(crate) struct Rm {
    /// Which sessions
    #[arg(required = true)]
    pub(crate) ids: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sessionctl export nightly > nightly.jsonl\n\n\
    Prints a stream of JSON lines that `import` reads; docs/export.md describes it.")]
pub(crate) struct Export {
    /// Which sessions [default: all]
    pub(crate) ids: Vec<String>,
    /// Leaves out what their programs printed
    #[arg(long)]
    pub(crate) no_output: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  sessionctl --store file:/srv/sessions import nightly.jsonl\n  \
    sessionctl import --format msw --dry-run .msw/sessions\n\n\
    All of an exported file is checked before anything is stored. Sessions that are there already, with the same log,\n\
    are skipped, so that an import which was cut off can be done again. Stores of older tools are only read: what had\n\
    to be mapped and what cannot be read is told for each session, and the rest is imported; docs/legacy.md has the\n\
    tables. Exits with 7 if something could not be read, else with 4 if a session is there with another log.")]
pub(crate) struct Import {
    /// The file, `-` is the standard input; of an older tool the folder or file of its sessions
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Reads the store of an older tool instead of what `export` prints
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub(crate) format: Option<LegacyFormat>,
    /// Says what would be imported from an older tool, and changes nothing
    #[arg(long, requires = "format")]
    pub(crate) dry_run: bool,
}

/// An older tool whose sessions can be imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LegacyFormat {
    /// `.msw/sessions`, one file for each session
    Msw,
    /// `.claude-container-sessions.json`, else the git worktrees beside it
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
    Each session is copied byte for byte, with its output, and read back. The store it comes from is left as it is.\n\
    A migration that was cut off goes on when it is started again. Sessions whose owner lives are not copied: they\n\
    would go on here while a copy of them stood still there.")]
pub(crate) struct Migrate {
    /// The store to copy all sessions to
    #[arg(long, value_name = "URL")]
    pub(crate) to: OsString,
    /// Leaves out what the programs printed
    #[arg(long)]
    pub(crate) no_output: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  sessionctl completions bash > ~/.local/share/bash-completion/completions/sessionctl"
)]
pub(crate) struct Completions {
    /// For which shell
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sessionctl man ~/.local/share/man/man1")]
pub(crate) struct Man {
    /// The folder to write them to, one file for each verb
    pub(crate) folder: PathBuf,
}
