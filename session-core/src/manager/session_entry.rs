//! The entry of a session in this process: the lock that serializes its changes, and the known end of its log.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::time::Instant;

use super::engine::Engine;
use super::owned_session::OwnedSession;
use crate::event::SessionEvent;
use crate::head::Head;
use crate::id::SessionId;
use crate::observer::EventContext;

/// The entry of one session, whose lock serializes its changes. It exists while a call uses the session or this manager
/// owns it, so that other sessions use no memory.
#[derive(Debug)]
pub(crate) struct SessionEntry {
    id: SessionId,
    pub(crate) state: tokio::sync::Mutex<EntryState>,
}

impl SessionEntry {
    pub(crate) fn new(id: SessionId) -> Self {
        Self { id, state: tokio::sync::Mutex::default() }
    }

    pub(crate) const fn id(&self) -> SessionId {
        self.id
    }
}

/// The state of an entry, accessible to one task at a time.
#[derive(Debug, Default)]
pub(crate) struct EntryState {
    /// Present while this manager owns the session. Otherwise each change loads the end of the log again.
    pub(crate) owned: Option<(Arc<OwnedSession>, LogTail)>,
}

/// A reference to an entry. The last one removes the entry if the session is not owned.
#[derive(Debug)]
pub(crate) struct EntryGuard<'a> {
    engine: &'a Engine,
    entry: Option<Arc<SessionEntry>>,
}

impl<'a> EntryGuard<'a> {
    pub(crate) const fn new(engine: &'a Engine, entry: Arc<SessionEntry>) -> Self {
        Self { engine, entry: Some(entry) }
    }
}

impl std::ops::Deref for EntryGuard<'_> {
    type Target = SessionEntry;

    fn deref(&self) -> &SessionEntry {
        self.entry.as_ref().expect("only `drop` takes the entry")
    }
}

impl Drop for EntryGuard<'_> {
    fn drop(&mut self) {
        let mut entries = self.engine.entries();
        let Some(entry) = self.entry.take() else { return };
        // Two references, the map's and this one: while the map is locked, no task can get another.
        if Arc::strong_count(&entry) == 2 && entry.state.try_lock().is_ok_and(|state| state.owned.is_none()) {
            entries.remove(&entry.id);
        }
    }
}

/// The end of a log as known to this process.
#[derive(Debug)]
pub(crate) struct LogTail {
    pub(crate) head: Head,
    /// The highest revision that is known to be flushed.
    pub(crate) flushed: u64,
    /// Events that are in the log but not yet flushed, and so not yet delivered.
    pub(crate) pending_events: VecDeque<(EventContext, Arc<SessionEvent>)>,
    /// The time since which the log has records that are not known to be flushed.
    pub(crate) unflushed_since: Option<Instant>,
    /// `true` if another process appended `interrupted` since this tail was created. An owner that reads it no longer
    /// owns the session.
    pub(crate) interrupted: bool,
}

impl LogTail {
    pub(crate) fn new(head: Head) -> Self {
        let unflushed_since = (head.flushed < head.tip.revision).then(Instant::now);
        Self {
            flushed: head.flushed,
            head,
            pending_events: VecDeque::new(),
            unflushed_since,
            interrupted: false,
        }
    }

    pub(crate) fn mark_flushed(&mut self, flushed: u64) {
        self.flushed = self.flushed.max(flushed);
        self.unflushed_since = if self.flushed >= self.head.tip.revision {
            None
        } else {
            self.unflushed_since.or_else(|| Some(Instant::now()))
        };
    }

    /// Restarts from the stored head, after the log lost records that were read from it: it was repaired with loss.
    pub(crate) fn reset_to(&mut self, stored: Head) {
        tracing::warn!(session = %stored.id, revision = stored.tip.revision, "the log lost records that were read before");
        *self = Self { interrupted: true, ..Self::new(stored) };
    }
}
