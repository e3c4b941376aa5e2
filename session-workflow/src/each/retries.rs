//! The items that failed and are run again after a delay.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::backoffs;

/// The retries of the items of an `each`.
#[derive(Debug)]
pub(super) struct Retries {
    limit: usize,
    backoff: Duration,
    tries: HashMap<u64, usize>,
    delayed: Vec<(Instant, u64)>,
}

impl Retries {
    pub(super) fn new(limit: usize, backoff: Duration) -> Self {
        Self { limit, backoff, tries: HashMap::new(), delayed: Vec::new() }
    }

    /// Takes note of a failure. Returns `true` if the item is run again.
    pub(super) fn failed(&mut self, number: u64, may_retry: bool) -> bool {
        let tries = self.tries.entry(number).or_insert(0);
        *tries += 1;
        let delay = backoffs(self.backoff, self.limit).nth(*tries - 1).filter(|_| may_retry);
        self.delayed.extend(delay.map(|delay| (Instant::now() + delay, number)));
        delay.is_some()
    }

    /// Returns the number of items that wait.
    pub(super) fn waiting(&self) -> usize {
        self.delayed.len()
    }

    /// Waits until an item may be run again; for ever if none waits. The future can be dropped without loss.
    pub(super) async fn due(&self) {
        match self.delayed.iter().map(|(at, _)| *at).min() {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    /// Takes the items that may be run again now.
    pub(super) fn take_due(&mut self) -> Vec<u64> {
        let now = Instant::now();
        self.delayed.extract_if(.., |(at, _)| *at <= now).map(|(_, number)| number).collect()
    }
}
