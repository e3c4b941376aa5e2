//! Delays before retries.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};

/// Returns the delays before retries: each is twice the one before, up to a minute, and up to twice that by chance.
pub fn backoffs(first: Duration, retries: usize) -> impl Iterator<Item = Duration> + Send + use<> {
    ExponentialBuilder::default()
        .with_min_delay(first)
        .with_max_delay(Duration::from_secs(60))
        .with_max_times(retries)
        .with_jitter()
        .build()
}
