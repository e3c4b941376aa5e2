//! The outcome of a program: written to its session's log, with retries while the storage fails, and reported to the
//! caller.

use std::time::Duration;

use serde_json::json;
use session_core::{
    Durability, Ending, ErrorCode, Evidence, Failure, FailureCause, Head, Result, Session, SessionError,
    SessionEvent, SessionSummary, Stop,
};

use crate::exit::{BY_SIGNAL, TROUBLE, exit_code};
use crate::output::capture::Captured;
use crate::stops::evidence;
use crate::supervisor::messages::{BackgroundProcess, Ended, Escaped};
use crate::workplace::Completion;

/// Delay between attempts to write the outcome, and their number: a disk that is full for a moment must not make a
/// finished program look crashed.
const RETRY_DELAY: Duration = Duration::from_secs(1);
const MAX_ATTEMPTS: u32 = 10;

/// The number of SIGPIPE.
const PIPE: i32 = 13;
/// The reason of a session whose program was ended by SIGPIPE.
const READER_GONE: &str = "the reader of its output has gone";

/// The outcome of a program that ran as a session.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RunReport {
    /// The head of the session after the run.
    pub head: Head,
    /// The number of this attempt.
    pub attempt: u32,
    /// The end of the program; `None` if it is unknown.
    pub ended: Option<Ended>,
    /// Processes of the program's tree that could not be ended.
    pub escaped: Vec<Escaped>,
    /// Background processes that are left running on purpose.
    pub left_running: Vec<BackgroundProcess>,
    /// Background processes that were ended after the program, or with it though they were separate from it.
    pub ended_background: Vec<BackgroundProcess>,
    /// Bytes that the program printed, stored or not.
    pub output_bytes: u64,
}

impl RunReport {
    /// Returns the exit code for a command that runs programs: see [`exit_code`].
    #[must_use]
    pub fn exit_code(&self) -> i32 {
        // A released session has not ended; its program may have.
        exit_code(&self.head).or(self.ended.map(Ended::code)).unwrap_or(TROUBLE)
    }
}

/// The reason why this process ended a program.
#[derive(Debug)]
pub(crate) enum EndReason {
    /// The log holds a cancel request.
    Cancelled { reason: String, force: bool },
    /// The deadline passed.
    Deadline(Duration),
    /// Another process owns the session now, or a call with its id ended it.
    Fenced(SessionError),
    /// A stop signal reached the owner while the program was paused.
    Stopped(Stop),
    /// The caller dropped the handle.
    Dropped,
}

/// The outcome of a program, for the log.
#[derive(Debug)]
pub(crate) struct Outcome<'a> {
    pub(crate) session: &'a Session,
    /// The record of the program's end, unless the log has it already.
    pub(crate) executed: Option<SessionEvent>,
    pub(crate) captured: &'a Captured,
    /// The program's own end, if it is known.
    pub(crate) ended: Option<Ended>,
    /// The reason why this process ended it, if it did. It decides the final state of the session.
    pub(crate) end_reason: Option<&'a EndReason>,
    /// The stop that led to the end of the program, if that is not the result of the session.
    pub(crate) stop: Option<Stop>,
    /// `true` if a pipe was closed because its reader was gone.
    pub(crate) reader_is_gone: bool,
    /// The work that follows when the program has succeeded.
    pub(crate) completion: Option<&'a dyn Completion>,
}

impl Outcome<'_> {
    /// Writes the outcome, retrying transient errors.
    pub(crate) async fn write(&self) -> Result<()> {
        match self.end_reason {
            // A call with its id ended the session: the log has its outcome.
            Some(EndReason::Fenced(error)) if error.is_outcome() => return Ok(()),
            Some(EndReason::Fenced(error)) => return Err(error.clone()),
            Some(EndReason::Dropped) => return self.session.interrupt(Evidence::Dropped).await,
            Some(EndReason::Cancelled { .. } | EndReason::Deadline(_) | EndReason::Stopped(_)) | None => {}
        }
        self.write_notes().await;
        let mut summary = None;
        let mut attempts = 1;
        loop {
            match self.try_write(&mut summary).await {
                Err(error) if is_transient(&error) && attempts < MAX_ATTEMPTS => {
                    tracing::warn!(session = %self.session.id(), %error, "could not write the outcome, will retry");
                    attempts += 1;
                    tokio::time::sleep(RETRY_DELAY).await;
                }
                done => return done,
            }
        }
    }

    async fn try_write(&self, summary: &mut Option<SessionSummary>) -> Result<()> {
        let session = self.session;
        if session.head().state().is_final() {
            return Ok(());
        }
        let stop = match self.end_reason {
            Some(EndReason::Stopped(stop)) => Some(*stop),
            Some(_) => None,
            None => self.stop,
        };
        // An attempt before this one may have written it, and failed after that.
        let executed = || self.executed.clone().filter(|_| session.head().lifecycle.program_end.is_none());
        if let Some(stop) = stop {
            if let Some(executed) = executed() {
                session.record_program_end(executed).await?;
            }
            return session.interrupt(evidence(stop)).await;
        }
        let ending = match (self.end_reason, self.ended) {
            (Some(EndReason::Cancelled { reason, .. }), _) => Ending::Cancelled(reason.clone()),
            (Some(EndReason::Deadline(limit)), _) => {
                let message = format!("still running after {} ms", limit.as_millis());
                Ending::Failed(Failure::new(FailureCause::Timeout, message))
            }
            (_, Some(ended)) if self.reader_is_gone && is_by_pipe(ended) => {
                Ending::Cancelled(READER_GONE.to_owned())
            }
            (_, Some(ended)) if ended.is_success() => {
                if let (Some(completion), None) = (self.completion, &*summary) {
                    if let Some(executed) = executed() {
                        session.record_program_end(executed).await?;
                    }
                    *summary = Some(SessionSummary::new().message(completion.complete(session).await));
                }
                Ending::Completed(summary.clone().unwrap_or_default())
            }
            (_, Some(ended)) => Ending::Failed(ended.failure()),
            (_, None) => {
                let message = "supervisor was killed; exit status unknown";
                Ending::Failed(Failure::new(FailureCause::Crash, message))
            }
        };
        session.end(executed(), ending).await
    }

    async fn write_notes(&self) {
        let note = async |kind: &str, data: serde_json::Value| {
            if let Err(error) = self.session.note(kind, data, Durability::Buffered).await {
                tracing::warn!(session = %self.session.id(), %error, kind, "could not record a note");
            }
        };
        if self.captured.removed > 0 {
            note("session.output_truncated", json!({ "bytes": self.captured.removed })).await;
        }
        if let Some((bytes, reason)) = &self.captured.lost {
            note("session.output_lost", json!({ "bytes": bytes, "reason": reason })).await;
        }
        if let Some(reason) = &self.captured.not_passed_on {
            tracing::debug!(session = %self.session.id(), reason, "output was not forwarded to its end");
        }
    }
}

/// Returns `true` if a program ended by writing to a pipe without a reader, itself or in a shell.
fn is_by_pipe(ended: Ended) -> bool {
    matches!(ended, Ended::Signalled(PIPE)) || ended == Ended::Exited(BY_SIGNAL + PIPE)
}

/// Returns `true` if a later attempt may succeed.
fn is_transient(error: &SessionError) -> bool {
    matches!(
        error.code(),
        ErrorCode::StorageFull
            | ErrorCode::StorageIo
            | ErrorCode::StorageUnavailable
            | ErrorCode::SystemLimit
    )
}
