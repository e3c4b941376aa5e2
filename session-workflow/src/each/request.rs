//! What an `each` is asked for, and what comes out of it.

use std::time::Duration;

use session_core::{ItemFailure, StepIdentity, StepReason};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::decisions::{OnChange, OnUnknown};
use crate::fingerprint::Fingerprint;

/// An `each` that is about to begin.
#[derive(Debug, Clone)]
pub(crate) struct EachRequest {
    pub(crate) name: String,
    pub(crate) key: Option<String>,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) command: Option<String>,
    pub(crate) on_unknown: OnUnknown,
    pub(crate) on_change: OnChange,
    pub(crate) can_ask: bool,
    /// Items that run at a time.
    pub(crate) jobs: usize,
    /// Failed items after which no further item begins.
    pub(crate) max_failures: u64,
    pub(crate) retries: usize,
    pub(crate) backoff: Duration,
    /// Receives the questions about items whose end is unknown.
    pub(crate) questions: Option<mpsc::UnboundedSender<StepIdentity>>,
}

/// An item that begins: its start is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BegunItem {
    pub(crate) number: u64,
    pub(crate) arg: Vec<u8>,
    /// The idempotency key for the outside world.
    pub(crate) key: Uuid,
    pub(crate) because: StepReason,
}

/// The end of an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ItemEnd {
    /// Done, with its value.
    Done(Vec<u8>),
    /// Failed, or ended in an unknown way.
    Failed(ItemFailure),
}

/// The result of an `each` so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct EachReport {
    /// Items in the input.
    pub(crate) total: u64,
    /// Items that were recorded as done before.
    pub(crate) before: u64,
    /// Items that were done now.
    pub(crate) done: u64,
    /// Items that failed, and were not run again, or whose end is unknown.
    pub(crate) failed: u64,
    /// Items that an earlier run, which has started all of its items, did not have.
    pub(crate) new: u64,
    /// Items of earlier runs that the input does not have.
    pub(crate) vanished: u64,
    /// The first ones of these, for people.
    pub(crate) vanished_names: Vec<String>,
    /// Items that were not run, because others failed.
    pub(crate) not_run: u64,
    /// `true` if the values together are longer than 16 MiB: there is none then.
    pub(crate) too_long: bool,
}
