//! Arguments of the verbs about steps.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser};
use sessionkit::workflow::{Decisions, OnChange, OnUnknown};

use super::duration;

#[derive(Debug, Args)]
#[command(after_help = "Examples (in a script that runs as a session):\n  \
    v=$(sessionctl step version -- ./next-version)\n  sessionctl step build --retries 3 -- make -j8\n  \
    sessionctl step publish --if-unknown ask -- ./publish \"$v\"\n  \
    sessionctl step report --input data.csv --max-age 7d -- ./report data.csv\n\n\
    The command runs once: after its end is recorded, later attempts and retries print its recorded output, exit with its \
    recorded code, and run nothing. A failure is run again. Exits with the command's code, 124 after --timeout, and 125 for \
    failures of sessionctl itself. SESSIONCTL_STEPS=off runs commands plainly. docs/steps.md is a guide.")]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub(crate) struct Step {
    /// Name of the step; the n-th use of a name in an attempt is a step of its own
    pub(crate) name: String,
    /// Identify the step by this text instead of by the number of its use
    #[arg(long, value_name = "TEXT")]
    pub(crate) key: Option<String>,
    /// Run the command again after a failure, up to N times
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) retries: usize,
    /// Wait this long before the first retry, and twice as long before each further one, up to 1m
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "1s")]
    pub(crate) backoff: Duration,
    /// End the command after this time, which is a failure
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
    /// Record these exit codes like 0, so that the command is not run again: 1,3
    #[arg(long, value_name = "CODES", value_delimiter = ',')]
    pub(crate) ok: Vec<i32>,
    /// Record every failure, so that the command is not run again
    #[arg(long)]
    pub(crate) keep_failure: bool,
    /// Run the command again if the content of these files has changed; may be given more than once
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub(crate) input: Vec<PathBuf>,
    /// Run the command again if its recorded end is older than this
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) max_age: Option<Duration>,
    /// Treatment of a step that was started and may have happened: rerun, fail, skip, or ask a person
    #[arg(long, value_name = "WHAT", default_value = "rerun", value_parser = on_unknown)]
    pub(crate) if_unknown: OnUnknown,
    /// Treatment of a recorded step whose command has changed: rerun or keep [default: refuse it]
    #[arg(long, value_name = "WHAT", value_parser = on_change)]
    pub(crate) on_change: Option<OnChange>,
    /// Record the standard output, up to 16 MiB, even if it is that of the session
    #[arg(long, conflicts_with = "no_value")]
    pub(crate) value: bool,
    /// Do not record the standard output
    #[arg(long)]
    pub(crate) no_value: bool,
    /// Pass standard input to the command; a change of it is a change of the command
    #[arg(long)]
    pub(crate) stdin: bool,
    /// Pass the output on immediately, before it is recorded
    #[arg(long)]
    pub(crate) stream: bool,
    /// Command and its arguments
    #[arg(required = true, last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

pub(super) fn on_unknown(text: &str) -> Result<OnUnknown, String> {
    text.parse().map_err(|error: sessionkit::workflow::InvalidDecision| error.to_string())
}

pub(super) fn on_change(text: &str) -> Result<OnChange, String> {
    text.parse().map_err(|error: sessionkit::workflow::InvalidDecision| error.to_string())
}

/// The command line of a step, without the definitions of all other verbs.
#[derive(Debug, Parser)]
#[command(name = "sessionctl step", disable_help_flag = true)]
pub(crate) struct StepCli {
    #[command(flatten)]
    step: Step,
}

impl StepCli {
    /// Parses a command line that begins with `step`. `None` for all others, for those with options of every verb, and for
    /// invalid ones: the full definition has their errors and help.
    pub(crate) fn find(args: &[OsString]) -> Option<Step> {
        if args.get(1)? != "step" {
            return None;
        }
        Self::try_parse_from(args.iter().skip(1)).ok().map(|cli| cli.step)
    }
}

/// Decisions about steps, for one attempt.
#[derive(Debug, Args)]
pub(crate) struct StepDecisions {
    /// Run a changed step again, or use its recorded end: STEP=rerun or STEP=keep; may be given more than once
    #[arg(long, value_name = "STEP=WHAT", value_parser = changed)]
    changed: Vec<(String, OnChange)>,
    /// Decide about a step that may have happened: STEP=rerun, STEP=skip or STEP=fail; may be given more than once
    #[arg(long, value_name = "STEP=WHAT", value_parser = unknown)]
    unknown: Vec<(String, OnUnknown)>,
}

impl StepDecisions {
    /// Returns the decisions for the owner of the session.
    pub(crate) fn decisions(&self) -> Decisions {
        let decisions =
            self.changed.iter().fold(Decisions::new(), |all, (step, what)| all.changed(step, *what));
        self.unknown.iter().fold(decisions, |all, (step, what)| all.unknown(step, *what))
    }
}

fn changed(text: &str) -> Result<(String, OnChange), String> {
    decision(text, on_change)
}

fn unknown(text: &str) -> Result<(String, OnUnknown), String> {
    decision(text, on_unknown)
}

/// Splits a decision. A name may contain `=`.
fn decision<T>(text: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<(String, T), String> {
    let (step, what) = text.rsplit_once('=').ok_or("expected STEP=WHAT")?;
    Ok((step.to_owned(), parse(what)?))
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sessionctl steps @last\n\n\
    Lists the steps of a session in the order of their first start: recorded, failed, running, and those that were started and \
    may have happened (unknown). Below them, its eaches with their items, its questions with their answers, and its sleeps.")]
pub(crate) struct Steps {
    /// Session: @last, @failed, @running, an id, a name, or the beginning of either
    pub(crate) id: String,
}
