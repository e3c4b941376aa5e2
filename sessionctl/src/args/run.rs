//! Arguments of the verbs that run programs.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStringExt as _;
use std::time::Duration;

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser as _};
use sessionkit::ManagerOptions;
use sessionkit::runner::Command;

use super::{Policy, StepDecisions, WorktreeOptions, bytes, duration, label};
use crate::config::{Config, OnHangup, TtyWhen};
use crate::detach_keys::DetachKeys;

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sessionctl run --name nightly --label team=data -- ./import.sh --all\n  \
    sessionctl run -- python3\n  id=$(sessionctl run --detach -- make -j8)\n\n\
    Exits with the program's exit code, or 128 + N if signal N ended it; 124 on --timeout, 126 or 127 if the program \
    cannot be run, 125 for failures of sessionctl itself.\n\n\
    At a terminal, the program has a terminal of its own, and the session outlives the one it was started at: Ctrl-] \
    and then d leave it running and exit with 125, closing the terminal leaves it running, `attach` returns to it. \
    Ctrl-Z pauses the session and stops the job; `fg` and `bg` resume both. With CI set, the session does not outlive \
    its terminal.\n\n\
    With --no-tty, or where neither standard output nor error is a terminal, both are pipes, stored and passed on. \
    Progress that the program reports (`sessionctl report`, or OSC 9;4 in its output) is then shown on stderr: as a bar \
    on a terminal, else as one line per 10 %.\n\n\
    Output is read until no process holds it: background jobs and process substitutions finish what they print. \
    Background processes that print nothing for the time of --linger (after 10 minutes in all cases) are ended and \
    named; Ctrl-C ends the wait. Those with a session of their own (setsid, tmux, ssh-agent) or that ignore HUP \
    (nohup) are left running and named."
)]
pub(crate) struct Run {
    /// Name of the session; need not be unique [default: the program's name and a number, such as make-3]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Label to filter sessions by; may be given more than once
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub(crate) labels: Vec<(String, String)>,
    /// Fail the session if it runs longer than this, not counting paused time
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
    /// Time between TERM and KILL when the session is cancelled or times out [default: 5s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) grace: Option<Duration>,
    #[command(flatten)]
    pub(crate) places: Places,
    /// Policy of `recover` for this session if it crashes [default: that of `recover`]
    #[arg(long, value_enum, value_name = "POLICY")]
    pub(crate) recovery: Option<Policy>,
    /// Set an environment variable for the program. Its value is stored in the log in plain text: pass no secrets. May be
    /// given more than once
    #[arg(long = "env", value_name = "KEY=VALUE", value_parser = OsStringValueParser::new().try_map(variable))]
    pub(crate) env: Vec<(String, OsString)>,
    /// Run this command with `sh -c` for each question that the program asks, with the question as JSON on standard input;
    /// recorded in plain text; an empty one is none [default: the setting `on_ask`]
    #[arg(long, value_name = "CMD")]
    pub(crate) on_ask: Option<String>,
    #[command(flatten)]
    pub(crate) worktree: WorktreeOptions,
    #[command(flatten)]
    pub(crate) ends: Ends,
    #[command(flatten)]
    pub(crate) terminals: Terminals,
    /// Set PYTHONUNBUFFERED=1 for the program, unless it is set: what Python prints into a pipe is then stored and shown
    /// immediately [default: the setting `unbuffered`]
    #[arg(long)]
    pub(crate) unbuffered: bool,
    /// Print nothing but the output of the program, and errors of sessionctl
    #[arg(long, short)]
    pub(crate) quiet: bool,
    /// Print the id once the program has started, and return. The program outlives the terminal and has no input, except
    /// that of a terminal of its own (--tty)
    #[arg(long)]
    pub(crate) detach: bool,
    /// Program and its arguments
    #[arg(last = true, required = true, num_args = 1.., value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

/// The limit of sessions at a time.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Places {
    /// Run only if the store has fewer than N other sessions with an owner or a start to come
    #[arg(long, value_name = "N")]
    max_sessions: Option<NonZeroUsize>,
}

impl Places {
    /// Returns the options of a manager with this limit.
    pub(crate) fn options(self) -> ManagerOptions {
        let options = ManagerOptions::new();
        match self.max_sessions {
            Some(limit) => options.max_sessions(limit),
            None => options,
        }
    }
}

/// Options of what happens when the program, or the reader of its output, ends before the other processes.
#[derive(Debug, Args)]
pub(crate) struct Ends {
    /// After the program has ended, end its background processes once they have printed nothing for this time
    /// [default: 10s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) linger: Option<Duration>,
    /// Leave background processes running when the program has ended
    #[arg(long)]
    pub(crate) keep_background: bool,
    /// Let the program run on, with its output stored, when the reader of its output is gone
    #[arg(long)]
    pub(crate) keep_running: bool,
    /// Give the program one pipe for both outputs: their order is exact, and all of it is standard output
    #[arg(long)]
    pub(crate) merge: bool,
    /// Keep this much of the end of standard output [default: 64MiB]
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    pub(crate) keep: Option<u64>,
    /// Meaning of exit code 0 after TERM or HUP [default: interrupt]
    #[arg(long, value_enum, value_name = "MEANING")]
    pub(crate) on_term: Option<OnTerm>,
}

/// The meaning of exit code 0 after a stop signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum OnTerm {
    /// The program was stopped before its work was done: the session is interrupted
    Interrupt,
    /// The program had done its work: the session is completed
    Complete,
}

impl Ends {
    /// Returns a command with these options.
    pub(crate) fn apply(&self, command: Command) -> Command {
        let command = self.linger.into_iter().fold(command, Command::linger);
        let command = self.keep.into_iter().fold(command, Command::keep_bytes);
        let command = if self.merge { command.merge() } else { command };
        let command = if self.keep_background { command.keep_background() } else { command };
        let command = if self.keep_running { command.keep_running() } else { command };
        if self.on_term == Some(OnTerm::Complete) { command.complete_on_term() } else { command }
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sessionctl resume nightly\n\n\
    If the owner is alive, it is asked to resume the session; `attach` returns to its terminal. If it is dead, the \
    command runs again from its beginning in the foreground, as with `run`, as the next attempt; the exit code is the \
    program's. The program has a terminal of its own if it had one before, unless --tty or --no-tty changes that.")]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of the command line")]
pub(crate) struct Resume {
    /// Session: @last, @failed, @running, an id, a name, or the beginning of either
    pub(crate) id: String,
    /// Print nothing but the output of the program, and errors of sessionctl
    #[arg(long, short)]
    pub(crate) quiet: bool,
    /// Print the id once the program has started, and return. The program outlives the terminal and has no input, except
    /// that of a terminal of its own (--tty)
    #[arg(long)]
    pub(crate) detach: bool,
    /// Refuse if variables or the input of the first run are missing
    #[arg(long)]
    pub(crate) strict_env: bool,
    /// Run the recorded command though other users can have written it: the store is theirs, or they can write to it
    #[arg(long)]
    pub(crate) trust_store: bool,
    #[command(flatten)]
    pub(crate) steps: StepDecisions,
    #[command(flatten)]
    pub(crate) places: Places,
    #[command(flatten)]
    pub(crate) terminals: Terminals,
}

/// Options of the terminal that a program gets.
#[derive(Debug, Args)]
pub(crate) struct Terminals {
    /// Give the program a terminal of its own, for all three standard descriptors [default: as recorded, else the setting
    /// `tty`]
    #[arg(long, conflicts_with = "no_tty")]
    tty: bool,
    /// Give the program no terminal of its own: pass the three standard descriptors on as they are
    #[arg(long)]
    no_tty: bool,
    /// Reaction to HUP, when the terminal is closed [default: the setting `on_hangup`]
    #[arg(long, value_enum, value_name = "REACTION")]
    on_hangup: Option<OnHangup>,
    /// Keys that leave the session running and return to the shell
    #[arg(long, value_name = "KEYS", default_value = "ctrl-],d")]
    detach_keys: DetachKeys,
}

/// The terminal that a program gets, by the command line and the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TerminalOptions {
    pub(crate) tty: TtyWhen,
    pub(crate) on_hangup: OnHangup,
    /// The keys that leave the session.
    pub(crate) detach_keys: DetachKeys,
}

impl Terminals {
    /// Returns the options that apply: those of the command line, else those of the configuration.
    pub(crate) fn resolve(&self, config: &Config) -> TerminalOptions {
        TerminalOptions {
            tty: self.typed_tty().unwrap_or(config.tty.value),
            on_hangup: self.on_hangup.unwrap_or(config.on_hangup.value),
            detach_keys: self.detach_keys.clone(),
        }
    }

    /// Returns the choice of the command line, which also overrides that of a recorded command.
    pub(crate) const fn typed_tty(&self) -> Option<TtyWhen> {
        match (self.tty, self.no_tty) {
            (true, _) => Some(TtyWhen::Always),
            (false, true) => Some(TtyWhen::Never),
            (false, false) => None,
        }
    }
}

/// Splits a variable. Its value may be any bytes.
fn variable(text: OsString) -> Result<(String, OsString), &'static str> {
    let bytes = text.into_vec();
    let at = bytes.iter().position(|byte| *byte == b'=').filter(|at| *at > 0);
    let (name, value) = at.and_then(|at| bytes.split_at_checked(at)).ok_or("expected KEY=VALUE")?;
    let name = std::str::from_utf8(name).map_err(|_| "the name is not UTF-8")?;
    Ok((name.to_owned(), OsString::from_vec(value.get(1..).unwrap_or_default().to_vec())))
}

#[cfg(test)]
mod tests {
    use clap::FromArgMatches as _;

    use super::*;
    use crate::args::{Cli, Verb, command};
    use crate::config::{Effective, SettingOrigin};

    /// Returns the terminal options of a verb with these options, where the configuration has neither default.
    fn resolved(verb: &str, options: &[&str]) -> TerminalOptions {
        let origin = SettingOrigin::Default;
        let config = Config {
            path: None,
            tty: Effective { value: TtyWhen::Never, origin: origin.clone() },
            on_hangup: Effective { value: OnHangup::Interrupt, origin: origin.clone() },
            unbuffered: Effective { value: false, origin: origin.clone() },
            on_ask: Effective { value: String::new(), origin },
        };
        let rest = if verb == "run" { ["--", "true"].as_slice() } else { &["it"] };
        let words =
            ["sessionctl", verb].into_iter().chain(options.iter().copied()).chain(rest.iter().copied());
        let parsed =
            command().try_get_matches_from(words).and_then(|matches| Cli::from_arg_matches(&matches));
        #[expect(clippy::wildcard_enum_match_arm, reason = "a caller that names another verb is wrong")]
        match parsed.unwrap().verb {
            Verb::Run(run) => run.terminals.resolve(&config),
            Verb::Resume(Resume { terminals, .. }) | Verb::Retry(crate::args::Retry { terminals, .. }) => {
                terminals.resolve(&config)
            }
            other => panic!("not a verb that runs a program: {other:?}"),
        }
    }

    #[test]
    fn options_of_the_command_line_override_the_configuration() {
        for verb in ["run", "resume", "retry"] {
            let options = resolved(verb, &[]);
            assert_eq!((options.tty, options.on_hangup), (TtyWhen::Never, OnHangup::Interrupt));
            assert_eq!(resolved(verb, &["--tty"]).tty, TtyWhen::Always);
            assert_eq!(resolved(verb, &["--no-tty"]).tty, TtyWhen::Never);
            let options = resolved(verb, &["--on-hangup", "leave", "--detach-keys", "ctrl-a,d"]);
            assert_eq!(options.on_hangup, OnHangup::Leave);
            assert_eq!(options.detach_keys, "ctrl-a,d".parse().unwrap());
        }
    }
}
