//! The state shared by all clones of a manager and by the handles of its sessions.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::identity::Identity;
use super::registry::SessionRegistry;
use super::sinks::Sinks;
use super::trackers::Trackers;
use crate::error::{Result, SessionError};
use crate::leftovers::Leftovers;
use crate::log_writer::LogWriter;
use crate::storage::SessionStorage;

/// The parts of a manager. Each owns its data; this type only keeps them together.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) writer: LogWriter,
    pub(crate) identity: Identity,
    pub(crate) registry: SessionRegistry,
    pub(crate) sinks: Sinks,
    pub(crate) trackers: Trackers,
    pub(crate) intervals: Intervals,
    pub(crate) leftovers: Option<Arc<dyn Leftovers>>,
    closed: AtomicBool,
}

/// The intervals at which owned sessions are synchronized with their logs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Intervals {
    /// The interval at which logs are read for changes by other processes.
    pub(crate) poll: Duration,
    /// The minimum time between two progress records of a session.
    pub(crate) progress: Duration,
    /// The maximum time until a buffered record is flushed.
    pub(crate) autosave: Duration,
}

impl Engine {
    pub(crate) fn new(
        writer: LogWriter,
        identity: Identity,
        intervals: Intervals,
        leftovers: Option<Arc<dyn Leftovers>>,
    ) -> Self {
        Self {
            writer,
            identity,
            registry: SessionRegistry::default(),
            sinks: Sinks::default(),
            trackers: Trackers::default(),
            intervals,
            leftovers,
            closed: AtomicBool::new(false),
        }
    }

    pub(crate) fn storage(&self) -> &Arc<dyn SessionStorage> {
        self.writer.storage()
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    /// # Errors
    /// `CLOSED` after a shutdown.
    pub(crate) fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::SeqCst) { Err(SessionError::ShutDown) } else { Ok(()) }
    }
}
