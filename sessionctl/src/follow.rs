//! Waiting in `--follow`: stops when the reader of stdout is gone, and warns when the session has no live owner.

use std::time::Duration;

use sessionkit::manager::Liveness;
use sessionkit::{SessionId, SessionManager};
use tokio::time::Instant;

use crate::advice::advise;
use crate::context::Context;
use crate::error::{Failure, Result};

/// Interval at which a storage without a change feed is polled.
pub(crate) const POLL: Duration = Duration::from_millis(50);
/// Interval of checks for the reader of stdout.
const READER_CHECK: Duration = Duration::from_millis(200);
/// Number of reader checks for each check of the owner.
const OWNER_CHECK_EVERY: u32 = 5;

/// A follower of one session.
pub(crate) struct Follower<'a> {
    context: &'a Context,
    manager: &'a dyn SessionManager,
    id: SessionId,
    /// Time of the next check.
    due: Instant,
    /// Checks so far.
    checks: u32,
    /// The attempt whose missing owner was reported.
    reported_attempt: Option<u32>,
}

impl<'a> Follower<'a> {
    pub(crate) fn new(context: &'a Context, manager: &'a dyn SessionManager, id: SessionId) -> Self {
        Self { context, manager, id, due: Instant::now() + READER_CHECK, checks: 0, reported_attempt: None }
    }

    /// Waits for an update. Fails with [`Failure::ReaderGone`] once the reader of stdout is gone.
    pub(crate) async fn wait<T>(&mut self, update: impl Future<Output = T>) -> Result<T> {
        let mut update = std::pin::pin!(update);
        loop {
            tokio::select! {
                biased;
                update = &mut update => return Ok(update),
                () = tokio::time::sleep_until(self.due) => self.check_reader().await?,
            }
        }
    }

    async fn check_reader(&mut self) -> Result<()> {
        if self.context.term.reader_is_gone() {
            return Err(Failure::ReaderGone);
        }
        self.due = Instant::now() + READER_CHECK;
        self.checks += 1;
        if self.checks.is_multiple_of(OWNER_CHECK_EVERY) {
            self.check_owner().await;
        }
        Ok(())
    }

    /// Warns once for each attempt that has no live owner. Errors are ignored: the follower's own reads report them.
    async fn check_owner(&mut self) {
        let Ok(head) = self.manager.get_head(self.id).await else { return };
        let attempt = head.lifecycle.attempt;
        if self.reported_attempt == Some(attempt) || head.state().is_final() {
            return;
        }
        let reason = match self.manager.liveness(self.id).await {
            Ok(Some(Liveness::Dead { .. })) => "its owner died",
            Ok(None) => "it has no owner",
            Ok(Some(_)) | Err(_) => return,
        };
        self.reported_attempt = Some(attempt);
        let text = format!("{reason}: nothing new comes until it is resumed");
        let advice = advise(self.manager, self.id).await;
        self.context.hint(&advice.append_to(&text), &[self.id], &advice.next());
    }
}
