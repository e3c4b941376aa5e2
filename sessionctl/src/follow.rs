//! Whoever follows a session, between one piece of news and the next: leaves when its own reader has left, and says that
//! nothing will come while the session's owner is dead.

use std::time::Duration;

use sessionkit::{Liveness, SessionId, SessionManager};
use tokio::time::Instant;

use crate::context::Context;
use crate::error::{Failure, Result};

/// How often storage is asked for news where it cannot tell of them.
pub(crate) const POLL: Duration = Duration::from_millis(50);
/// How often it is looked whether there still is a reader.
const READER_CHECK: Duration = Duration::from_millis(200);
/// Every how many looks the owner's life is looked at.
const OWNER_CHECK_EVERY: u32 = 5;

/// A follower of one session.
pub(crate) struct Follower<'a> {
    context: &'a Context,
    manager: &'a dyn SessionManager,
    id: SessionId,
    /// When the next look is due, and how many there were.
    due: Instant,
    checks: u32,
    /// The attempt of which it was told that nobody runs it any more.
    reported_attempt: Option<u32>,
}

impl<'a> Follower<'a> {
    pub(crate) fn new(context: &'a Context, manager: &'a dyn SessionManager, id: SessionId) -> Self {
        Self { context, manager, id, due: Instant::now() + READER_CHECK, checks: 0, reported_attempt: None }
    }

    /// Waits for news for as long as there is somebody to tell them.
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

    /// What cannot be found out here is nobody's concern: the follower's own reads say what is wrong.
    async fn check_owner(&mut self) {
        let Ok(head) = self.manager.get_head(self.id).await else { return };
        let attempt = head.lifecycle.attempt;
        if self.reported_attempt == Some(attempt) || head.state().is_final() {
            return;
        }
        let reason = match self.manager.liveness(self.id).await {
            Ok(Some(Liveness::Dead { .. })) => "its owner died",
            Ok(None) => "nobody runs it now",
            Ok(Some(_)) | Err(_) => return,
        };
        self.reported_attempt = Some(attempt);
        let text = format!("{reason}, and nothing comes until somebody resumes it");
        self.context.hint(&text, &[self.id], &["resume", &self.id.to_string()]);
    }
}
