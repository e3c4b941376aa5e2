//! Automatic names for sessions: `feature-YYYY-MM-DD-NNN`, one more than the highest of the day.

use std::sync::Arc;

use async_trait::async_trait;

use crate::error::Result;
use crate::storage::{SessionFilter, SessionStorage, SessionStorageExt as _};
use crate::time::Timestamp;

const PREFIX: &str = "feature-";

/// Cache of the next automatic name of a day, so that creating a session does not have to list all others.
///
/// A cache may lose its content at any time: it then returns `None`, and the sessions are counted. Names need not be
/// unique.
#[async_trait]
pub trait NameCounter: Send + Sync + std::fmt::Debug {
    /// Returns the next number for a prefix, each number once; `None` if the sessions have to be counted.
    async fn next(&self, prefix: &str) -> Option<u64>;

    /// Stores the next number found by counting. Returns it, or a higher one if concurrent callers counted the same.
    async fn counted(&self, prefix: &str, number: u64) -> u64;

    /// Gives a number back whose session was not created. The next caller gets it, if it is still the last one.
    async fn unused(&self, prefix: &str, number: u64);

    /// Invalidates the cache, because a user chose a name that begins like automatic ones.
    async fn forget(&self);
}

/// The source of automatic names. Without a counter, each name lists all sessions of the day.
#[derive(Debug)]
pub(crate) struct Names(pub(crate) Option<Arc<dyn NameCounter>>);

impl Names {
    /// Returns the next automatic name. Without a cache, two processes that count concurrently get the same name.
    pub(crate) async fn next(&self, storage: &dyn SessionStorage, now: Timestamp) -> Result<String> {
        let prefix = format!("{PREFIX}{}-", now.to_utc().format("%Y-%m-%d"));
        let known = match &self.0 {
            Some(names) => names.next(&prefix).await,
            None => None,
        };
        let number = match known {
            Some(number) => number,
            None => self.count_today(storage, &prefix, now).await?,
        };
        Ok(format!("{prefix}{number:03}"))
    }

    async fn count_today(&self, storage: &dyn SessionStorage, prefix: &str, now: Timestamp) -> Result<u64> {
        let midnight = now.to_utc().date_naive().and_time(chrono::NaiveTime::MIN).and_utc();
        let filter = SessionFilter::all().updated_since(Timestamp::new(midnight));
        let heads = storage.list_all(&filter).await?.heads;
        let numbers = heads.iter().filter_map(|head| head.name.strip_prefix(prefix)?.parse::<u64>().ok());
        let number = numbers.max().unwrap_or(0) + 1;
        Ok(match &self.0 {
            Some(names) => names.counted(prefix, number).await,
            None => number,
        })
    }

    /// Gives an automatic name back whose session was not created.
    pub(crate) async fn unused(&self, name: &str) {
        if let (Some(names), Some((day, number))) = (&self.0, name.rsplit_once('-'))
            && let Ok(number) = number.parse()
        {
            names.unused(&format!("{day}-"), number).await;
        }
    }

    /// Invalidates the cache if a chosen name looks automatic. Called once the session exists.
    pub(crate) async fn chosen(&self, name: &str) {
        if let Some(names) = &self.0
            && name.starts_with(PREFIX)
        {
            names.forget().await;
        }
    }
}
