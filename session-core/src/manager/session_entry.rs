//! Where one session's changes queue in this process, and what their writer knows of the end of the log.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::time::Instant;

use super::engine::Engine;
use super::owned_session::OwnedSession;
use crate::event::SessionEvent;
use crate::head::Head;
use crate::id::SessionId;
use crate::observer::EventContext;

/// The place in this process where one session's changes queue. It exists while somebody waits or the session is
/// owned here: sessions that nobody touches cost nothing.
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

/// A session as its only writer in this process sees it.
#[derive(Debug, Default)]
pub(crate) struct EntryState {
    /// Kept while the session is owned here; else loaded anew for each change.
    pub(crate) owned: Option<(Arc<OwnedSession>, LogTail)>,
}

/// A cell in use. The last one to let go of a session that is not owned here removes it.
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
        self.entry.as_ref().expect("only `drop` takes the cell")
    }
}

impl Drop for EntryGuard<'_> {
    fn drop(&mut self) {
        let mut entries = self.engine.entries();
        let Some(entry) = self.entry.take() else { return };
        // The map and this reference: nobody else can get another while the map is locked.
        if Arc::strong_count(&entry) == 2 && entry.state.try_lock().is_ok_and(|state| state.owned.is_none()) {
            entries.remove(&entry.id);
        }
    }
}

/// The end of a log as one process knows it.
#[derive(Debug)]
pub(crate) struct LogTail {
    pub(crate) head: Head,
    /// The highest revision that is known to be flushed.
    pub(crate) flushed: u64,
    /// Facts that are in the log, and that nobody may hear of before they are flushed.
    pub(crate) pending_events: VecDeque<(EventContext, Arc<SessionEvent>)>,
    /// Since when something is in the log that is not known to be flushed.
    pub(crate) unflushed_since: Option<Instant>,
    /// Whether others said `interrupted` since this writer began: an owner that reads that owns nothing any more.
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

    /// The log no longer holds what was read from it: others repaired it with loss. What is there now counts.
    pub(crate) fn reset_to(&mut self, stored: Head) {
        tracing::warn!(session = %stored.id, revision = stored.tip.revision, "the log no longer holds what was read from it");
        *self = Self { interrupted: true, ..Self::new(stored) };
    }
}
