//! Requests in the log, and of the owner's process, applied to the program: pause, resume, cancel.

use std::time::Duration;

use session_core::{Head, PauseReason, SessionError, SessionState, Stop, StopSource};
use tokio::time::Instant;

use super::{RETRY_DELAY, RunLoop, STOPPED_FROM_TERMINAL};
use crate::child_state::{ChildState, LocalRequest};
use crate::outcome::EndReason;
use crate::run_state::TreeState;

impl RunLoop {
    /// Reconciles the program with the requests in the log and of the owner's process.
    pub(super) async fn reconcile(&mut self, head: &Head) {
        let (requests, state) = (&head.lifecycle.requests, head.state());
        if let Some(cancel) = &requests.cancel {
            match &mut self.state.end_reason {
                Some(EndReason::Cancelled { force, .. }) if cancel.force && !*force => {
                    *force = true;
                    self.cancel(cancel.reason.clone(), true).await;
                }
                None if cancel.force || !self.state.end_is_ordered => {
                    self.cancel(cancel.reason.clone(), cancel.force).await;
                }
                None | Some(_) => {}
            }
            return;
        }
        if self.state.ended.is_some() || self.state.end_reason.is_some() {
            return;
        }
        let paused = matches!(state, SessionState::Paused { .. });
        let (pause, resume) = match &self.state.request {
            Some(LocalRequest::Pause(_)) => (true, false),
            Some(LocalRequest::Resume) => (false, true),
            None => (false, false),
        };
        match self.state.tree {
            TreeState::Running if paused || requests.pause.is_some() || pause => {
                self.state.tree = TreeState::Halting;
                self.orders.halt().await;
                let unhandled = self.state.stops.lock().unhandled(Instant::now());
                if let Some(signal) = unhandled {
                    self.end_by_stop(signal).await;
                }
            }
            TreeState::Halted if !paused => self.continue_tree().await,
            TreeState::Halted if requests.resume.is_some() || resume => {
                // The log first: an owner that lost the session must not continue the program.
                match self.session.resume().await {
                    Ok(_) => self.continue_tree().await,
                    Err(error) => self.retry_later("resume", &error),
                }
            }
            // The request asks for the current state: it is fulfilled.
            TreeState::Running | TreeState::Halted => self.state.request = None,
            TreeState::Halting => {}
        }
    }

    /// Ends a program that is paused or being paused: it would handle the signal only when it is continued.
    pub(super) async fn end_by_stop(&mut self, signal: i32) {
        let stop = Stop { signal, by: StopSource::Signal };
        self.end(EndReason::Stopped(stop), self.command.grace).await;
    }

    async fn cancel(&mut self, reason: String, force: bool) {
        let grace = if force { Duration::ZERO } else { self.command.grace };
        self.end(EndReason::Cancelled { reason, force }, grace).await;
    }

    pub(super) async fn continue_tree(&mut self) {
        self.state.tree = TreeState::Running;
        self.state.request = None;
        (self.state.suspends_viewer, self.state.is_paused_by_terminal) = (false, false);
        self.state.running_since = Some(Instant::now());
        self.orders.resume().await;
        self.child_state.send_replace(ChildState::Running);
    }

    pub(super) async fn on_halted(&mut self) {
        if self.state.tree != TreeState::Halting {
            return;
        }
        // A caller that is notified of the pause may write to the same terminal next.
        self.capture.wait_until_drained().await;
        let request = self.state.request.clone();
        let local_reason = match &request {
            Some(LocalRequest::Pause(reason)) => Some(reason.clone()),
            Some(LocalRequest::Resume) | None => None,
        };
        // A request in the log replaces the reason.
        match self.session.pause(PauseReason::Requested(local_reason.unwrap_or_default())).await {
            Ok(_) => {
                // The continuation of a viewer does not end a pause that was requested in the meantime.
                self.state.is_paused_by_terminal &=
                    is_paused_for(&self.session.head(), STOPPED_FROM_TERMINAL);
                self.state.stop_clock();
                self.state.tree = TreeState::Halted;
                self.child_state.send_replace(ChildState::Paused);
                if std::mem::take(&mut self.state.suspends_viewer)
                    && let Some(terminal) = self.capture.terminal()
                {
                    terminal.suspend();
                }
            }
            Err(error) => {
                self.continue_tree().await;
                self.state.request = request;
                self.retry_later("pause", &error);
            }
        }
    }

    fn retry_later(&mut self, action: &str, error: &SessionError) {
        tracing::warn!(session = %self.session.id(), %error, code = %error.code(), "could not {action}, will retry");
        self.state.retry_at = Some(Instant::now() + RETRY_DELAY);
    }
}

fn is_paused_for(head: &Head, text: &str) -> bool {
    matches!(head.state(), SessionState::Paused { reason: PauseReason::Requested(reason) } if reason == text)
}
