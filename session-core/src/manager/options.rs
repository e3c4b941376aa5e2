//! Options of a manager: limits, intervals, recovery at `open`.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use super::engine::Intervals;
use super::names::{NameCounter, prefix_of};
use super::recovery::WorkHandler;
use crate::config::RecoveryPolicy;
use crate::leftovers::Leftovers;
use crate::log_writer::CONFLICT_TIMEOUT;
use crate::time::{Clock, SystemClock};

/// Options of a manager. The defaults are safe.
///
/// ```
/// use std::{num::NonZeroUsize, time::Duration};
/// use session_core::{InMemorySessionManager, ManagerOptions, RecoveryPolicy};
///
/// let options = ManagerOptions::new()
///     .max_sessions(NonZeroUsize::new(4).unwrap())
///     .recovery(Some(RecoveryPolicy::Fail)) // what opening does with orphans; `None` leaves them
///     .max_attempts(5)
///     .poll_interval(Duration::from_millis(100))  // for changes by other processes
///     .progress_interval(Duration::from_secs(1))
///     .autosave(Duration::from_secs(2));
/// let manager = InMemorySessionManager::with_options(options);
/// # drop(manager);
/// ```
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
    pub(crate) leftovers: Option<Arc<dyn Leftovers>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) names: Option<Arc<dyn NameCounter>>,
    pub(crate) program: Option<String>,
}

impl Default for ManagerOptions {
    fn default() -> Self {
        Self {
            max_sessions: None,
            poll_interval: Duration::from_millis(250),
            progress_interval: Duration::from_millis(200),
            autosave: Duration::from_secs(5),
            conflict_timeout: CONFLICT_TIMEOUT,
            max_attempts: 3,
            recovery: Some(RecoveryPolicy::Pause),
            handlers: Vec::new(),
            leftovers: None,
            clock: Arc::new(SystemClock),
            names: None,
            program: None,
        }
    }
}

impl ManagerOptions {
    pub(crate) const fn intervals(&self) -> Intervals {
        Intervals { poll: self.poll_interval, progress: self.progress_interval, autosave: self.autosave }
    }

    /// Creates the default options.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Limits the number of sessions in the storage that have an owner or a start to come, for creations and resumes by
    /// this manager. A session without an owner is not counted until it is resumed; one whose owner died is, until
    /// [`recover`](crate::SessionManager::recover), a resume or a cancel records the death. No limit by default.
    #[must_use]
    pub fn max_sessions(mut self, limit: NonZeroUsize) -> Self {
        self.max_sessions = Some(limit);
        self
    }

    /// Sets the interval at which logs are read for changes by other processes, in addition to the storage's change
    /// notifications. 250 ms by default.
    #[must_use]
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.poll_interval = interval;
        self
    }

    /// Sets the minimum time between two progress records of a session; reports in between are merged into one record.
    /// 200 ms by default.
    #[must_use]
    pub fn progress_interval(mut self, interval: Duration) -> Self {
        self.progress_interval = interval;
        self
    }

    /// Sets the maximum time until a buffered record is flushed. 5 s by default.
    #[must_use]
    pub fn autosave(mut self, interval: Duration) -> Self {
        self.autosave = interval;
        self
    }

    /// Sets the number of proven deaths since the last checkpoint or completed iteration at which recovery fails a
    /// session. 3 by default; 0 means no limit.
    #[must_use]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts;
        self
    }

    /// Sets the recovery policy for orphans when the manager opens: [`RecoveryPolicy::Pause`] by default, `None` for no
    /// recovery.
    #[must_use]
    pub fn recovery(mut self, policy: Option<RecoveryPolicy>) -> Self {
        self.recovery = policy;
        self
    }

    /// Registers a handler that restarts the work of sessions, for [`RecoveryPolicy::Resume`].
    #[must_use]
    pub fn handler(mut self, handler: Arc<dyn WorkHandler>) -> Self {
        self.handlers.push(handler);
        self
    }

    /// Sets what ends the processes of sessions that have lost their owner, before their end is recorded and before they
    /// are deleted. By default nothing does; the stores of `sessionkit` end the programs of its runner.
    #[must_use]
    pub fn leftovers(mut self, leftovers: Arc<dyn Leftovers>) -> Self {
        self.leftovers = Some(leftovers);
        self
    }

    /// Sets the clock for the timestamps of records.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Names sessions that have no name after this program, with a number: `make-3`. By default, they are named after the
    /// day: `feature-2026-11-21-003`.
    #[must_use]
    pub fn name_after(mut self, program: impl AsRef<std::ffi::OsStr>) -> Self {
        self.program = Some(prefix_of(program.as_ref()));
        self
    }

    /// Sets the cache of automatic names. Without it, each new name lists the sessions of the day, or all of them if they
    /// are named after a program.
    #[must_use]
    pub fn names(mut self, names: Arc<dyn NameCounter>) -> Self {
        self.names = Some(names);
        self
    }
}
