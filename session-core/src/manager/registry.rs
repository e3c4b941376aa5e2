//! The sessions in this process's memory: for each, the lock that serializes its changes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::owned_session::OwnedSession;
use crate::id::SessionId;
use crate::log_writer::LogTail;

/// The entries of all sessions that a call uses or that this manager owns, so that other sessions use no memory.
#[derive(Debug, Default)]
pub(crate) struct SessionRegistry {
    entries: Mutex<HashMap<SessionId, Arc<SessionEntry>>>,
}

/// The entry of one session, whose lock serializes its changes.
#[derive(Debug)]
pub(crate) struct SessionEntry {
    id: SessionId,
    pub(crate) state: Arc<tokio::sync::Mutex<EntryState>>,
}

/// The state of an entry, accessible to one task at a time.
#[derive(Debug, Default)]
pub(crate) struct EntryState {
    /// Present while this manager owns the session. Otherwise each change loads the end of the log again.
    pub(crate) owned: Option<(Arc<OwnedSession>, LogTail)>,
}

impl SessionRegistry {
    pub(crate) fn entry(&self, id: SessionId) -> EntryGuard<'_> {
        let mut entries = self.lock();
        let new = || Arc::new(SessionEntry { id, state: Arc::default() });
        EntryGuard { registry: self, entry: Some(Arc::clone(entries.entry(id).or_insert_with(new))) }
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Returns the sessions that this manager owns.
    pub(crate) async fn owned(&self) -> Vec<Arc<OwnedSession>> {
        let entries: Vec<Arc<SessionEntry>> = self.lock().values().map(Arc::clone).collect();
        let mut owned = Vec::new();
        for entry in entries {
            owned.extend(entry.state.lock().await.owned.as_ref().map(|(session, _)| Arc::clone(session)));
        }
        owned
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<SessionEntry>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A reference to an entry. The last one removes the entry if the session is not owned.
#[derive(Debug)]
pub(crate) struct EntryGuard<'a> {
    registry: &'a SessionRegistry,
    entry: Option<Arc<SessionEntry>>,
}

impl std::ops::Deref for EntryGuard<'_> {
    type Target = SessionEntry;

    fn deref(&self) -> &SessionEntry {
        self.entry.as_ref().expect("only `drop` takes the entry")
    }
}

impl Drop for EntryGuard<'_> {
    fn drop(&mut self) {
        let mut entries = self.registry.lock();
        let Some(entry) = self.entry.take() else { return };
        // Two references, the map's and this one: while the map is locked, no task can get another.
        if Arc::strong_count(&entry) == 2 && entry.state.try_lock().is_ok_and(|state| state.owned.is_none()) {
            entries.remove(&entry.id);
        }
    }
}
