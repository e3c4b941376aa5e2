//! The records of a run before its outcome. A failure to write one is logged and does not end the program.

use serde_json::Value;
use session_core::{Durability, Session, SessionEvent};

use crate::run_state::RunState;

/// The log of a session, for the run of a command.
#[derive(Debug)]
pub(crate) struct RunLog {
    session: Session,
    command: String,
}

impl RunLog {
    pub(crate) const fn new(session: Session, command: String) -> Self {
        Self { session, command }
    }

    pub(crate) async fn note(&self, state: &RunState, kind: &str, data: Value) {
        if state.is_fenced() {
            return;
        }
        if let Err(error) = self.session.note(kind, data, Durability::Buffered).await {
            tracing::warn!(session = %self.session.id(), %error, kind, "could not record a note");
        }
    }

    /// Records that TERM or HUP reached this process.
    pub(crate) async fn record_stop_request(&self, signal: i32) {
        if let Err(error) = self.session.record_stop_request(signal).await {
            tracing::warn!(session = %self.session.id(), %error, signal, "could not record a stop signal");
        }
    }

    /// Records the end of the first process, which has left others. Returns `false` if that failed: it is
    /// then recorded with the outcome.
    pub(crate) async fn record_end(&self, state: &RunState, output_bytes: u64) -> bool {
        let Some(event) = self.executed(state, output_bytes) else { return false };
        match self.session.record_program_end(event).await {
            Ok(_) => true,
            Err(error) => {
                tracing::warn!(session = %self.session.id(), %error, "could not record the end of the program yet");
                false
            }
        }
    }

    /// Returns the record of the end of the first process, once it has ended.
    pub(crate) fn executed(&self, state: &RunState, output_bytes: u64) -> Option<SessionEvent> {
        let (ended, took) = state.ended?;
        Some(SessionEvent::CommandExecuted {
            command: self.command.clone(),
            exit_code: ended.exit_code(),
            signal: ended.signal(),
            duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            output_bytes,
            main: true,
            stop: state.stop,
        })
    }
}
