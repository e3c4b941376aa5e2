//! What is written to a session's log once its program has ended, and what is done if it cannot be written.

use std::time::Duration;

use serde_json::json;
use session_core::{
    Durability, Ending, ErrorCode, Evidence, Failure, FailureCause, Result, Session, SessionError,
    SessionEvent, SessionSummary,
};

use crate::capture::Captured;
use crate::supervisor::protocol::Ended;

/// How long after a failed attempt to write the ending the next one is made, and how many there are: a disk that is
/// full for a moment must not make a finished work look like a crash.
const RETRY_DELAY: Duration = Duration::from_secs(1);
const MAX_ATTEMPTS: u32 = 10;

/// Why a program was ended from here.
#[derive(Debug)]
pub(crate) enum EndReason {
    /// Somebody asked for it in the log.
    Cancelled { reason: String, force: bool },
    /// It ran for as long as it may.
    Deadline(Duration),
    /// Somebody else owns the session now.
    Fenced(SessionError),
    /// The handle was dropped.
    Dropped,
}

/// A program that has ended, for the log.
#[derive(Debug)]
pub(crate) struct Outcome<'a> {
    pub(crate) session: &'a Session,
    pub(crate) command: &'a str,
    pub(crate) duration: Duration,
    pub(crate) captured: &'a Captured,
    /// How it ended, if that is known.
    pub(crate) ended: Option<Ended>,
    /// Why it was ended from here, if it was. That decides how the session ends.
    pub(crate) end_reason: Option<&'a EndReason>,
}

impl Outcome<'_> {
    /// Writes it, with some patience.
    pub(crate) async fn write(&self) -> Result<()> {
        match self.end_reason {
            Some(EndReason::Fenced(error)) => return Err(error.clone()),
            Some(EndReason::Dropped) => return self.session.interrupt(Evidence::Dropped).await,
            Some(EndReason::Cancelled { .. } | EndReason::Deadline(_)) | None => {}
        }
        self.write_notes().await;
        let mut attempts = 1;
        loop {
            match self.try_write().await {
                Err(error) if is_transient(&error) && attempts < MAX_ATTEMPTS => {
                    tracing::warn!(session = %self.session.id(), %error, "could not write how it ended, will try again");
                    attempts += 1;
                    tokio::time::sleep(RETRY_DELAY).await;
                }
                done => return done,
            }
        }
    }

    async fn try_write(&self) -> Result<()> {
        let session = self.session;
        if session.head().state().is_final() {
            return Ok(());
        }
        let ending = match (self.end_reason, self.ended) {
            (Some(EndReason::Cancelled { reason, .. }), _) => Ending::Cancelled(reason.clone()),
            (Some(EndReason::Deadline(limit)), _) => {
                let message = format!("still running after {} ms", limit.as_millis());
                Ending::Failed(Failure::new(FailureCause::Timeout, message))
            }
            (_, Some(ended)) if ended.is_success() => Ending::Completed(SessionSummary::new()),
            (_, Some(ended)) => Ending::Failed(ended.failure()),
            (_, None) => {
                let message = "its supervisor was killed: how the program ended is not known";
                Ending::Failed(Failure::new(FailureCause::Crash, message))
            }
        };
        let executed = self.ended.map(|ended| SessionEvent::CommandExecuted {
            command: self.command.to_owned(),
            exit_code: ended.exit_code(),
            signal: ended.signal(),
            duration_ms: u64::try_from(self.duration.as_millis()).unwrap_or(u64::MAX),
            output_bytes: self.captured.bytes,
        });
        session.end(executed, ending).await
    }

    async fn write_notes(&self) {
        let note = async |kind: &str, data: serde_json::Value| {
            if let Err(error) = self.session.note(kind, data, Durability::Buffered).await {
                tracing::warn!(session = %self.session.id(), %error, kind, "could not keep a note");
            }
        };
        if let Some(bytes) = self.captured.cut {
            note("session.output_truncated", json!({ "bytes": bytes })).await;
        }
        if let Some((bytes, reason)) = &self.captured.lost {
            note("session.output_lost", json!({ "bytes": bytes, "reason": reason })).await;
        }
        if let Some(reason) = &self.captured.not_passed_on {
            tracing::debug!(session = %self.session.id(), reason, "output was not passed on to its end");
        }
    }
}

/// Whether a later attempt may find the storage in a better state.
const fn is_transient(error: &SessionError) -> bool {
    matches!(error.code(), ErrorCode::StorageFull | ErrorCode::StorageIo | ErrorCode::StorageUnavailable)
}
