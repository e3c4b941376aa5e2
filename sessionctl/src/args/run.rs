//! The grammar of the verbs that run programs.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::time::Duration;

use clap::Args;

use super::{Policy, duration, label};

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sessionctl run --name nightly --label team=data -- ./import.sh --all\n  \
    sessionctl run -- python3\n  id=$(sessionctl run --detach -- make -j8)\n\n\
    Exits as the program does; 126 and 127 if it cannot be run, 125 for failures of sessionctl itself.\n\n\
    Progress that the program reports (`sessionctl report`, or OSC 9;4 in its output) is shown on stderr: a bar on a\n\
    terminal, else a line at each 10 %.\n\n\
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
    /// Ends it, as failed, once it has run for so long; time that it is paused does not count
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
    /// How long it may take to end once it was asked to, before it is killed [default: 5s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) grace: Option<Duration>,
    /// Begins only if fewer than so many sessions of the store have not ended
    #[arg(long, value_name = "N")]
    pub(crate) max_sessions: Option<NonZeroUsize>,
    /// What `recover` does with it if its owner dies [default: what `recover` is told]
    #[arg(long, value_enum, value_name = "POLICY")]
    pub(crate) recovery: Option<Policy>,
    /// A variable of the program's environment; it stands in the log, so keep secrets out; may be given more than once
    #[arg(long = "env", value_name = "KEY=VALUE", value_parser = variable)]
    pub(crate) env: Vec<(String, String)>,
    /// Prints the id once the program has started, and does not wait for its end. It reads nothing, and outlives the
    /// terminal
    #[arg(long)]
    pub(crate) detach: bool,
    /// The program and its arguments
    #[arg(last = true, required = true, num_args = 1.., value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
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

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("a variable is KEY=VALUE".to_owned()),
    }
}
