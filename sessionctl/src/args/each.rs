//! Arguments of `each`.

use std::ffi::OsString;
use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

use clap::Args;
use sessionkit::workflow::{OnChange, OnUnknown};

use super::duration;
use super::step::{on_change, on_unknown};

#[derive(Debug, Args)]
#[command(after_help = "Examples (in a script that runs as a session):\n  \
    sessionctl each check --jobs 4 -- ./check-doc {} <files\n  \
    find . -name '*.png' -print0 | sessionctl each shrink -0 --keep-going -- optipng -q {}\n  \
    sums=$(sessionctl each sum --values -- sha256sum <files)\n\n\
    Reads items from standard input, one per line, and runs the command once for each: {} is replaced by the item in every \
    argument, and without any {} the item is the last argument. An item that is recorded as done is not run again by later \
    attempts and retries. Standard input of the commands is empty. Exits with 0 if all items are done, with 123 if some \
    failed or were not run, and with 125 for failures of sessionctl itself. SESSIONCTL_STEPS=off runs everything plainly. \
    docs/steps.md is a guide.")]
pub(crate) struct Each {
    /// Name of the each; the n-th use of a name in an attempt is an each of its own
    pub(crate) name: String,
    /// Run up to N items at a time
    #[arg(long, short, value_name = "N", default_value = "1")]
    pub(crate) jobs: NonZeroUsize,
    /// Read items that end with a zero byte instead of a line end
    #[arg(long, short = '0')]
    pub(crate) null: bool,
    /// Identify the each by this text instead of by the number of its use
    #[arg(long, value_name = "TEXT")]
    pub(crate) key: Option<String>,
    /// Run an item again after a failure, up to N times
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) retries: usize,
    /// Wait this long before the first retry of an item, and twice as long before each further one, up to 1m
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "1s")]
    pub(crate) backoff: Duration,
    /// Run all items, however many fail
    #[arg(long, conflicts_with = "max_failures")]
    pub(crate) keep_going: bool,
    /// Start no further item after N failed ones
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) max_failures: NonZeroU64,
    /// Record the standard output of each item, and print all of them at the end in the order of the input, up to 16 MiB
    #[arg(long)]
    pub(crate) values: bool,
    /// Treatment of an item that was started and may have happened: rerun, fail, skip, or ask a person
    #[arg(long, value_name = "WHAT", default_value = "rerun", value_parser = on_unknown)]
    pub(crate) if_unknown: OnUnknown,
    /// Treatment of recorded items if the command has changed: rerun or keep [default: refuse it]
    #[arg(long, value_name = "WHAT", value_parser = on_change)]
    pub(crate) on_change: Option<OnChange>,
    /// Command and its arguments
    #[arg(required = true, last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}
