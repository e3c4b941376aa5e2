//! The time limit of a connection's statements: a schema that another program changes while the database is open could
//! make one of them run forever.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::Connection;

/// Instructions of `SQLite`'s virtual machine between two checks of the clock: less than a millisecond.
const INSTRUCTIONS: i32 = 10_000;

/// The limit, shared with the connection's progress handler.
#[derive(Debug, Clone)]
pub(crate) struct StatementLimit {
    timeout: Duration,
    deadline: Arc<Mutex<Option<Instant>>>,
}

impl StatementLimit {
    /// Limits the statements of a connection, starting now.
    pub(crate) fn new(connection: &mut Connection, timeout: Duration) -> rusqlite::Result<Self> {
        let limit = Self { timeout, deadline: Arc::default() };
        limit.restart();
        let handler = limit.clone();
        connection.progress_handler(INSTRUCTIONS, Some(move || handler.is_exceeded()))?;
        Ok(limit)
    }

    /// Gives the statements from now on the whole time.
    pub(crate) fn restart(&self) {
        *self.lock() = Instant::now().checked_add(self.timeout);
    }

    /// Removes the limit until the next [`restart`](Self::restart): for statements that read the whole database.
    pub(crate) fn suspend(&self) {
        *self.lock() = None;
    }

    /// Returns `true` if statements are interrupted.
    pub(crate) fn is_exceeded(&self) -> bool {
        self.lock().is_some_and(|deadline| Instant::now() > deadline)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.deadline.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
