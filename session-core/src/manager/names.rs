//! Names for sessions that were given none: `feature-YYYY-MM-DD-NNN`, one more than the highest of the day.

use async_trait::async_trait;

use super::engine::Engine;
use crate::error::Result;
use crate::storage::{SessionFilter, SessionStorageExt as _};
use crate::time::Timestamp;

const PREFIX: &str = "feature-";

/// Remembers how far the automatic names of a day have come, so that not every new session has to look at all others.
///
/// A cache and nothing more: whoever forgets answers `None`, and the sessions are counted. Names need not be unique.
#[async_trait]
pub trait NameCounter: Send + Sync + std::fmt::Debug {
    /// The next number behind a prefix, given to nobody else; `None` where that has to be counted.
    async fn next(&self, prefix: &str) -> Option<u64>;

    /// Somebody counted, and found this number to be the next one. Returns it, or a higher one where others counted at
    /// the same time and were given it.
    async fn counted(&self, prefix: &str, number: u64) -> u64;

    /// Somebody chose a name that begins like automatic ones: what is known is not true any more.
    async fn forget(&self);
}

impl Engine {
    /// Two processes that count at the same time get the same, unless something remembers.
    pub(super) async fn next_name(&self) -> Result<String> {
        let now = self.options.clock.now();
        let prefix = format!("{PREFIX}{}-", now.to_utc().format("%Y-%m-%d"));
        let known = match &self.options.names {
            Some(names) => names.next(&prefix).await,
            None => None,
        };
        let number = match known {
            Some(number) => number,
            None => self.count_today(&prefix, now).await?,
        };
        Ok(format!("{prefix}{number:03}"))
    }

    async fn count_today(&self, prefix: &str, now: Timestamp) -> Result<u64> {
        let midnight = now.to_utc().date_naive().and_time(chrono::NaiveTime::MIN).and_utc();
        let filter = SessionFilter::all().updated_since(Timestamp::new(midnight));
        let heads = self.storage.list_all(&filter).await?.heads;
        let numbers = heads.iter().filter_map(|head| head.name.strip_prefix(prefix)?.parse::<u64>().ok());
        let number = numbers.max().unwrap_or(0) + 1;
        Ok(match &self.options.names {
            Some(names) => names.counted(prefix, number).await,
            None => number,
        })
    }

    /// A name that somebody chose, once the session is there to be counted.
    pub(super) async fn name_chosen(&self, name: &str) {
        if let Some(names) = &self.options.names
            && name.starts_with(PREFIX)
        {
            names.forget().await;
        }
    }
}
