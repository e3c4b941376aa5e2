//! The sessions that are owned in this process, by any of its managers: a change by one manager wakes the owner in another,
//! which would otherwise learn of it at its next poll. Hints only: an owner always reads the log.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;

use crate::id::SessionId;

type Wakers = HashMap<SessionId, Vec<Weak<Notify>>>;

/// Usually one for each session; more while a takeover has not reached the former owner, or where stores hold copies.
static WAKERS: LazyLock<Mutex<Wakers>> = LazyLock::new(Mutex::default);

/// Wakes the owner of a session: registered as long as it exists.
#[derive(Debug)]
pub(crate) struct Waker {
    id: SessionId,
    notify: Arc<Notify>,
}

impl Waker {
    pub(crate) fn register(id: SessionId) -> Self {
        let notify = Arc::new(Notify::new());
        lock().entry(id).or_default().push(Arc::downgrade(&notify));
        Self { id, notify }
    }

    pub(crate) fn wake(&self) {
        self.notify.notify_one();
    }

    /// Waits until the owner is woken. A wake-up while nothing waits is kept.
    pub(crate) async fn woken(&self) {
        self.notify.notified().await;
    }
}

impl Drop for Waker {
    fn drop(&mut self) {
        let mut wakers = lock();
        if let Some(registered) = wakers.get_mut(&self.id) {
            registered.retain(|other| !std::ptr::eq(other.as_ptr(), Arc::as_ptr(&self.notify)));
            if registered.is_empty() {
                wakers.remove(&self.id);
            }
        }
    }
}

/// Wakes all owners of a session in this process, after a change by another than its owner.
pub(crate) fn wake_owners(id: SessionId) {
    for waker in lock().get(&id).into_iter().flatten() {
        if let Some(notify) = waker.upgrade() {
            notify.notify_one();
        }
    }
}

fn lock() -> MutexGuard<'static, Wakers> {
    WAKERS.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_owner_of_a_session_is_woken_and_no_other() {
        let id = SessionId::random();
        let (first, second, other) =
            (Waker::register(id), Waker::register(id), Waker::register(SessionId::random()));
        wake_owners(id);
        tokio::join!(first.woken(), second.woken());
        tokio::select! {
            biased;
            () = other.woken() => panic!("woken for another session"),
            () = std::future::ready(()) => {}
        }
    }

    #[test]
    fn an_owner_that_is_gone_leaves_nothing() {
        let id = SessionId::random();
        let (first, second) = (Waker::register(id), Waker::register(id));
        drop(first);
        assert_eq!(lock().get(&id).map(Vec::len), Some(1));
        drop(second);
        assert!(!lock().contains_key(&id));
        wake_owners(id);
    }
}
