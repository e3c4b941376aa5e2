//! How a manager behaves: limits, intervals, what it does at `open`.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use super::names::NameCounter;
use super::recovery::WorkHandler;
use crate::config::RecoveryPolicy;
use crate::time::{Clock, SystemClock};

/// How a manager behaves. The defaults are safe.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ManagerOptions {
    pub(crate) max_sessions: Option<NonZeroUsize>,
    pub(crate) poll_interval: Duration,
    pub(crate) progress_interval: Duration,
    pub(crate) autosave: Duration,
    pub(crate) conflict_timeout: Duration,
    pub(crate) max_attempts: u32,
    pub(crate) recovery: Option<RecoveryPolicy>,
    pub(crate) handlers: Vec<Arc<dyn WorkHandler>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) names: Option<Arc<dyn NameCounter>>,
}

impl Default for ManagerOptions {
    fn default() -> Self {
        Self {
            max_sessions: None,
            poll_interval: Duration::from_millis(250),
            progress_interval: Duration::from_millis(200),
            autosave: Duration::from_secs(5),
            conflict_timeout: Duration::from_secs(5),
            max_attempts: 3,
            recovery: Some(RecoveryPolicy::Pause),
            handlers: Vec::new(),
            clock: Arc::new(SystemClock),
            names: None,
        }
    }
}

impl ManagerOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many sessions of the storage may be unended at once. No limit by default.
    #[must_use]
    pub fn max_sessions(mut self, limit: NonZeroUsize) -> Self {
        self.max_sessions = Some(limit);
        self
    }

    /// How often the log of an owned session is looked at for what others appended, where the storage cannot tell.
    /// 250 ms by default.
    #[must_use]
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.poll_interval = interval;
        self
    }

    /// The least time between two progress records of a session; what is reported in between becomes one record.
    /// 200 ms by default.
    #[must_use]
    pub fn progress_interval(mut self, interval: Duration) -> Self {
        self.progress_interval = interval;
        self
    }

    /// The longest time until a buffered record is flushed. 5 s by default.
    #[must_use]
    pub fn autosave(mut self, interval: Duration) -> Self {
        self.autosave = interval;
        self
    }

    /// How many proven deaths since the last checkpoint or completed iteration automatic recovery accepts before it
    /// fails a session. 3 by default; 0 accepts any number.
    #[must_use]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts;
        self
    }

    /// What is done with orphans when the manager opens: [`RecoveryPolicy::Pause`] by default, `None` for nothing.
    #[must_use]
    pub fn recovery(mut self, policy: Option<RecoveryPolicy>) -> Self {
        self.recovery = policy;
        self
    }

    /// Makes the work of some sessions again, for [`RecoveryPolicy::Resume`].
    #[must_use]
    pub fn handler(mut self, handler: Arc<dyn WorkHandler>) -> Self {
        self.handlers.push(handler);
        self
    }

    /// Where the times of the log come from.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// What remembers how far automatic names have come. Without it, all sessions of the day are looked at for each.
    #[must_use]
    pub fn names(mut self, names: Arc<dyn NameCounter>) -> Self {
        self.names = Some(names);
        self
    }
}
