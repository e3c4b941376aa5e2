//! How the calls of a [`Session`] reach its log: what they append, and when they wait.

use super::session::{RequestHandling, Session};
use crate::error::{Result, SessionError};
use crate::event::{EventKind, SessionEvent};
use crate::head::Head;
use crate::machine::SessionState;
use crate::reason::PauseReason;
use crate::record::Tip;
use crate::storage::{Durability, SessionStorageExt as _};

impl Session {
    pub(super) async fn restore(&self) -> Result<super::PersistedSession> {
        Ok(self.engine.storage.load(self.id()).await?)
    }

    /// Appends the last events of the work, its ending behind them. Where one of them needs the session to run, a
    /// paused one is resumed first.
    pub(super) async fn finish(&self, last: Vec<SessionEvent>) -> Result<()> {
        let me = self.engine.me().await?.clone();
        let runs = |event: &SessionEvent| {
            !matches!(event.kind(), EventKind::Noted | EventKind::Failed | EventKind::Cancelled)
        };
        self.append(Durability::Flushed, |head| {
            let resumed = SessionEvent::Resumed { owner: me.clone() };
            let resumed = (is_paused(head) && last.iter().any(runs)).then_some(resumed);
            Ok(resumed.into_iter().chain(last.iter().cloned()).collect())
        })
        .await?;
        Ok(())
    }

    pub(super) async fn append(
        &self,
        durability: Durability,
        decide: impl FnMut(&Head) -> Result<Vec<SessionEvent>> + Send,
    ) -> Result<Tip> {
        let cell = self.engine.cell(self.id());
        let mut state = cell.state.lock().await;
        self.live.check()?;
        self.engine.append_owned(&mut state, self.id(), durability, decide).await
    }

    /// Appends an event that needs the session to run, once it does.
    pub(super) async fn append_running(&self, durability: Durability, event: &SessionEvent) -> Result<Tip> {
        loop {
            let mut stands_still = false;
            let tip = self
                .append(durability, |head| {
                    stands_still = false;
                    let requests = &head.lifecycle.requests;
                    match (head.state(), &requests.pause, &requests.cancel) {
                        (SessionState::Running { .. }, Some(pause), None)
                            if self.live.request_handling() != RequestHandling::External =>
                        {
                            stands_still = true;
                            Ok(vec![SessionEvent::Paused {
                                reason: PauseReason::Requested(pause.reason.clone()),
                            }])
                        }
                        (SessionState::Paused { .. }, ..) => {
                            stands_still = true;
                            Ok(Vec::new())
                        }
                        _ => Ok(vec![event.clone()]),
                    }
                })
                .await?;
            if !stands_still {
                return Ok(tip);
            }
            self.wait_for(|head| (!matches!(head.state(), SessionState::Paused { .. })).then_some(()))
                .await?;
        }
    }

    pub(super) async fn wait_for<T>(&self, mut found: impl FnMut(&Head) -> Option<T> + Send) -> Result<T> {
        let mut view = self.live.view();
        loop {
            self.live.check()?;
            {
                let head = view.borrow_and_update();
                if let Some(value) = found(&head) {
                    return Ok(value);
                }
                if let Some(request) = &head.lifecycle.requests.cancel {
                    return Err(SessionError::Cancelled { reason: request.reason.clone() });
                }
            }
            // The sender lives in `live`, which this handle holds.
            view.changed().await.map_err(|_| SessionError::ShutDown)?;
        }
    }
}

/// How safe an event is before anybody is told that it is in the log.
pub(super) const fn durability_of(event: &SessionEvent) -> Durability {
    if matches!(event, SessionEvent::ProgressReported { .. }) {
        Durability::Buffered
    } else {
        Durability::Flushed
    }
}

pub(super) const fn is_paused(head: &Head) -> bool {
    matches!(head.lifecycle.state, SessionState::Paused { .. })
}

/// Events that the work appends as they are; all others belong to a method that knows what goes with them.
pub(super) fn check_work_event(kind: EventKind) -> Result<()> {
    match kind {
        EventKind::IterationStarted
        | EventKind::IterationCompleted
        | EventKind::CommandExecuted
        | EventKind::AnalysisCompleted
        | EventKind::CheckpointSaved
        | EventKind::ProgressReported
        | EventKind::Noted => Ok(()),
        EventKind::Created
        | EventKind::Started
        | EventKind::PauseRequested
        | EventKind::ResumeRequested
        | EventKind::CancelRequested
        | EventKind::InputProvided
        | EventKind::Paused
        | EventKind::Interrupted
        | EventKind::Resumed
        | EventKind::Completed
        | EventKind::Failed
        | EventKind::Cancelled => Err(SessionError::InvalidArgument {
            what: format!("`{kind}` has a method of its own; it cannot be recorded"),
        }),
    }
}
