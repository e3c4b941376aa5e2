//! Arguments of the verbs about questions of sessions.

use std::ffi::OsString;

use clap::Args;

#[derive(Debug, Args)]
#[command(
    override_usage = "sessionctl answer [OPTIONS] <ID> [NAME] <VALUE>",
    after_help = "Examples:\n  sessionctl answer release yes\n  sessionctl answer release deploy yes\n  \
    sessionctl answer release notes - < NOTES.md\n\n\
    Works from any process, whether the session runs or not, and before the question is asked. The first answer holds: \
    a second one fails with CONFLICT (exit 4) and prints the one that holds. A question with choices allows only those."
)]
pub(crate) struct Answer {
    /// Session: @last, @failed, @running, an id, a name, or the beginning of either
    pub(crate) id: String,
    /// Name of the question, which may be left out if only one is open, and the answer; `-` reads the answer from standard
    /// input, without its last line end
    #[arg(required = true, value_name = "VALUE")]
    pub(crate) name_and_value: Vec<OsString>,
    /// Answer the N-th question with this name [default: the oldest open one, else the next]
    #[arg(long, value_name = "N", conflicts_with = "key", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) number: Option<u64>,
    /// Answer the question with this key
    #[arg(long, value_name = "TEXT")]
    pub(crate) key: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  sessionctl answers\n  sessionctl answers release --json\n\n\
    Prints the questions that wait for an answer, the oldest first, each with the command that answers it.")]
pub(crate) struct Answers {
    /// Only those of this session [default: all sessions]
    pub(crate) id: Option<String>,
}
