//! Arguments of the verbs for the terminal of a session.

use std::ffi::OsString;

use clap::Args;

use crate::detach_keys::DetachKeys;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  sessionctl attach nightly\n  sessionctl attach @last --read-only\n\n\
    Shows what the program prints, and types what is typed. Ctrl-] and then d leave the session running, and exit with \
    125; Ctrl-] twice types it once. Exits with the program's exit code if the session ends first.\n\n\
    Several terminals may be attached. The program has the size of the one that typed last. Keys such as Ctrl-C reach \
    the program; signals to this command, and its end, do not.")]
pub(crate) struct Attach {
    /// Session: @last, @failed, @running, an id, a name, or the beginning of either
    pub(crate) id: String,
    /// Only show, and type nothing
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Keys that leave the session running and return to the shell
    #[arg(long, value_name = "KEYS", default_value = "ctrl-],d")]
    pub(crate) detach_keys: DetachKeys,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sessionctl input release yes --enter\n  sessionctl input @last $'\\x03'\n\n\
    Types at the terminal of a running session, as a person would: the whole text, or nothing and an error. A program \
    that reads whole lines, as most do, takes at most 4095 bytes of each. A text on the command line is visible to other \
    users of the machine: type passwords with `attach`."
)]
pub(crate) struct Input {
    /// Session: @last, @failed, @running, an id, a name, or the beginning of either
    pub(crate) id: String,
    /// Text to type
    #[arg(value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) text: OsString,
    /// Type the Enter key after it
    #[arg(long)]
    pub(crate) enter: bool,
}
