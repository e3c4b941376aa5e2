//! Events at the terminal of the program, applied to the session: keys, stops, and what the viewers pass on.

use serde_json::json;
use session_core::StopSource;
use tokio::time::Instant;

use super::RunLoop;
use crate::child_state::LocalRequest;
use crate::run_state::TreeState;
use crate::stops::Stops;
use crate::terminal::handle::TerminalEvent;
use crate::terminal::pty::TerminalSize;

/// Pause reason in the log for a program that a key of its terminal, or a signal as of one, has stopped.
pub const STOPPED_FROM_TERMINAL: &str = "stopped from the terminal";

/// Kind of the note that the program's terminal has another size than before; its data is a
/// [`TerminalSize`](crate::TerminalSize). An attempt without a viewer begins with the size of the newest one.
pub const TERMINAL_RESIZED: &str = "session.terminal_resized";

impl RunLoop {
    pub(super) async fn on_terminal_event(&mut self, event: TerminalEvent) {
        match event {
            TerminalEvent::Key { signal, .. } if !Stops::is_stop(signal) => {
                // The program that runs gets it. One that is paused has stopped already: only its viewer has not.
                if self.state.tree == TreeState::Halted
                    && let Some(terminal) = self.capture.terminal()
                {
                    terminal.suspend();
                }
            }
            TerminalEvent::Key { signal, group } => {
                if group == Some(self.pid) && self.state.ended.is_none() {
                    self.state.stops.lock().add(signal, StopSource::Key, Instant::now());
                }
                if self.state.tree != TreeState::Running {
                    // It gets the signal when it continues.
                    self.resume_by_terminal().await;
                }
                self.hurry_after_end();
            }
            TerminalEvent::Signal(signal) => {
                if Stops::is_stop(signal) {
                    self.on_stop_signal(signal).await;
                }
                self.orders.signal(signal).await;
            }
            // Only what the terminal has paused.
            TerminalEvent::Resume if self.state.is_paused_by_terminal => self.resume_by_terminal().await,
            TerminalEvent::Resume => {}
            TerminalEvent::Resized(size) => self.record_size(size).await,
        }
    }

    pub(super) async fn record_size(&self, size: TerminalSize) {
        self.log.note(&self.state, TERMINAL_RESIZED, json!(size)).await;
    }

    async fn resume_by_terminal(&mut self) {
        self.state.request = Some(LocalRequest::Resume);
        self.reconcile(&self.session.head()).await;
    }

    /// Pauses the session, because its first process was stopped; after that, the job of its viewer stops.
    pub(super) async fn pause_by_terminal(&mut self) {
        if self.state.tree == TreeState::Running {
            (self.state.suspends_viewer, self.state.is_paused_by_terminal) = (true, true);
            self.state.request = Some(LocalRequest::Pause(STOPPED_FROM_TERMINAL.to_owned()));
            self.reconcile(&self.session.head()).await;
        }
    }
}
