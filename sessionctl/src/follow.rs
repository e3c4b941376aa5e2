//! Whoever follows a session, between one piece of news and the next: leaves when its own reader has left, and says that
//! nothing will come while the session's owner is dead.

use std::time::Duration;

use sessionkit::{Liveness, SessionId, SessionManager};
use tokio::time::Instant;

use crate::context::Context;
use crate::fail::{Failure, Result};

/// How often storage is asked for news where it cannot tell of them.
pub(crate) const POLL: Duration = Duration::from_millis(50);
/// How often it is looked whether there still is a reader.
const LOOK: Duration = Duration::from_millis(200);
/// Every how many looks the owner's life is looked at.
const LOOKS: u32 = 5;

/// A follower of one session.
pub(crate) struct Follower<'a> {
    context: &'a Context,
    manager: &'a dyn SessionManager,
    id: SessionId,
    /// When the next look is due, and how many there were.
    due: Instant,
    looks: u32,
    /// The attempt of which it was told that nobody runs it any more.
    told: Option<u32>,
}

impl<'a> Follower<'a> {
    pub(crate) fn new(context: &'a Context, manager: &'a dyn SessionManager, id: SessionId) -> Self {
        Self { context, manager, id, due: Instant::now() + LOOK, looks: 0, told: None }
    }

    /// Waits for news for as long as there is somebody to tell them.
    pub(crate) async fn wait<T>(&mut self, news: impl Future<Output = T>) -> Result<T> {
        let mut news = std::pin::pin!(news);
        loop {
            tokio::select! {
                biased;
                news = &mut news => return Ok(news),
                () = tokio::time::sleep_until(self.due) => self.look().await?,
            }
        }
    }

    async fn look(&mut self) -> Result<()> {
        if self.context.term.reader_is_gone() {
            return Err(Failure::ReaderGone);
        }
        self.due = Instant::now() + LOOK;
        self.looks += 1;
        if self.looks.is_multiple_of(LOOKS) {
            self.look_at_owner().await;
        }
        Ok(())
    }

    /// What cannot be found out here is nobody's concern: the follower's own reads say what is wrong.
    async fn look_at_owner(&mut self) {
        let Ok(head) = self.manager.get_head(self.id).await else { return };
        let attempt = head.lifecycle.attempt;
        if self.told == Some(attempt) || head.state().is_final() {
            return;
        }
        let why = match self.manager.liveness(self.id).await {
            Ok(Some(Liveness::Dead { .. })) => "its owner died",
            Ok(None) => "nobody runs it now",
            Ok(Some(_)) | Err(_) => return,
        };
        self.told = Some(attempt);
        let text = format!("{why}, and nothing comes until somebody resumes it");
        self.context.hint(&text, &[self.id], &["resume", &self.id.to_string()]);
    }
}
