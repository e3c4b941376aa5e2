//! The progress of the sessions that a manager owns, as it is reported: before it is in their logs.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;

use crate::callback::CallbackGuard;
use crate::id::SessionId;
use crate::progress::{ProgressTracker, SessionProgress};

/// The trackers of all sessions that a manager owns, and those who watch them.
#[derive(Debug, Default)]
pub(crate) struct Trackers {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    trackers: HashMap<SessionId, ProgressTracker>,
    watchers: Vec<Weak<Watcher>>,
    closed: bool,
}

impl Trackers {
    pub(crate) fn get(&self, id: SessionId) -> Option<ProgressTracker> {
        self.lock().trackers.get(&id).cloned()
    }

    pub(crate) fn insert(&self, id: SessionId, tracker: &ProgressTracker) {
        let mut state = self.lock();
        state.watchers.retain(|watcher| watcher.strong_count() > 0);
        let watchers: Vec<Arc<Watcher>> = state.watchers.iter().filter_map(Weak::upgrade).collect();
        state.trackers.insert(id, tracker.clone());
        drop(state);
        for watcher in watchers {
            watcher.watch(id, tracker);
        }
    }

    pub(crate) fn remove(&self, id: SessionId) {
        self.lock().trackers.remove(&id);
    }

    pub(crate) fn watch(&self) -> ProgressWatch {
        let watcher = Arc::new(Watcher::default());
        let mut state = self.lock();
        let trackers: Vec<(SessionId, ProgressTracker)> =
            state.trackers.iter().map(|(id, tracker)| (*id, tracker.clone())).collect();
        state.watchers.push(Arc::downgrade(&watcher));
        let closed = state.closed;
        drop(state);
        for (id, tracker) in trackers {
            watcher.watch(id, &tracker);
        }
        if closed {
            watcher.close();
        }
        ProgressWatch { watcher }
    }

    /// Ends all watches, after the changes so far.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let watchers = std::mem::take(&mut state.watchers);
        drop(state);
        watchers.iter().filter_map(Weak::upgrade).for_each(|watcher| watcher.close());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Trackers {
    fn drop(&mut self) {
        self.close();
    }
}

/// The changes of the progress of all sessions that a manager owns, including those that it starts or resumes later.
///
/// Changes are merged while they are not read: [`next`](Self::next) returns the latest progress of a session, and the
/// last one of each session has its final state. A slow reader delays nothing.
#[derive(Debug)]
pub struct ProgressWatch {
    watcher: Arc<Watcher>,
}

impl ProgressWatch {
    /// Waits for a change, and returns the session with its progress; the first ones are those of the sessions owned
    /// now. `None` after a shutdown of the manager, or once its last handle is dropped. Dropping the future misses
    /// nothing.
    pub async fn next(&mut self) -> Option<(SessionId, SessionProgress)> {
        loop {
            {
                let mut state = self.watcher.lock();
                if let Some(change) = state.changed.pop_first() {
                    return Some(change);
                }
                if state.closed {
                    return None;
                }
            }
            // A change in between leaves a permit.
            self.watcher.notify.notified().await;
        }
    }
}

#[derive(Debug, Default)]
struct Watcher {
    state: Mutex<WatchState>,
    notify: Notify,
}

#[derive(Debug, Default)]
struct WatchState {
    changed: BTreeMap<SessionId, SessionProgress>,
    guards: HashMap<SessionId, CallbackGuard>,
    closed: bool,
}

impl Watcher {
    fn watch(self: &Arc<Self>, id: SessionId, tracker: &ProgressTracker) {
        let weak = Arc::downgrade(self);
        let guard = tracker.on_change(move |progress| {
            if let Some(watcher) = weak.upgrade() {
                watcher.changed(id, progress.clone());
            }
        });
        let replaced = self.lock().guards.insert(id, guard);
        // Dropped outside the lock, as all guards: it calls its tracker.
        drop(replaced);
        self.changed(id, tracker.snapshot());
    }

    fn changed(&self, id: SessionId, progress: SessionProgress) {
        let mut state = self.lock();
        let guard = if progress.state.is_final() { state.guards.remove(&id) } else { None };
        state.changed.insert(id, progress);
        drop(state);
        drop(guard);
        self.notify.notify_one();
    }

    fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let guards = std::mem::take(&mut state.guards);
        drop(state);
        drop(guards);
        self.notify.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, WatchState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
