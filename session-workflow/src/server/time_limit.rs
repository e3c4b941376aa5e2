//! The time limit of a step, in which pauses do not count.

use std::time::Duration;

use session_core::{Session, SessionState};
use tokio::time::Instant;

/// The time limit of a step. The time in which the session is paused does not count.
pub(super) struct TimeLimit {
    left: Option<Duration>,
}

impl TimeLimit {
    pub(super) const fn new(limit: Option<Duration>) -> Self {
        Self { left: limit }
    }

    /// Waits until the limit has passed. Dropped before, it keeps the time that is left.
    pub(super) async fn passed(&mut self, session: &Session) {
        if self.left.is_none() {
            return std::future::pending().await;
        }
        let mut view = session.watch();
        loop {
            let is_paused = matches!(view.borrow_and_update().state(), SessionState::Paused { .. });
            if is_paused {
                if view.changed().await.is_err() {
                    return std::future::pending().await;
                }
                continue;
            }
            let mut counted = Counted { left: &mut self.left, since: Instant::now() };
            let left = counted.left.unwrap_or_default();
            tokio::select! {
                () = tokio::time::sleep(left) => return,
                changed = view.changed() => if changed.is_err() {
                    return std::future::pending().await;
                },
            }
            counted.count();
        }
    }
}

/// Counts the time of a wait also if it is dropped.
struct Counted<'a> {
    left: &'a mut Option<Duration>,
    since: Instant,
}

impl Counted<'_> {
    fn count(&mut self) {
        let now = Instant::now();
        *self.left = self.left.map(|left| left.saturating_sub(now - self.since));
        self.since = now;
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.count();
    }
}
