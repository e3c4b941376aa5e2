//! A step that runs, and its end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use session_core::limits::{VALUE_BYTES, VALUE_PART_BYTES};
use session_core::{
    Durability, ErrorCode, Session, SessionError, SessionEvent, StepEnd, StepFailure, StepIdentity,
    StepReason,
};
use uuid::Uuid;

use super::value::ValueReader;
use crate::attempt::{Attempt, cut};
use crate::error::StepError;
use crate::fingerprint::Fingerprint;
use crate::start::to_end;
use crate::table::{Parts, StepState, StepStatus};

/// A recorded end, which is not run again.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RecordedEnd {
    /// The end.
    pub end: StepEnd,
    /// The attempt that ran it; 0 if it was taken over.
    pub attempt: u32,
    start: u64,
    parts: Parts,
}

impl RecordedEnd {
    pub(super) fn new(status: &StepStatus) -> Self {
        let end = if let StepState::Completed { end, .. } = status.state { end } else { StepEnd::default() };
        Self { end, attempt: status.attempt, start: status.start, parts: status.value }
    }

    /// Returns a reader of its value.
    #[must_use]
    pub const fn value(&self) -> ValueReader {
        ValueReader::new(self.start, self.parts)
    }
}

/// A step that runs: its start is recorded. Dropped without an end, its end is unknown, and its name is free immediately.
#[derive(Debug)]
#[must_use = "the end of a step that is dropped is unknown"]
pub struct OpenStep {
    attempt: Arc<Attempt>,
    session: Session,
    step: StepIdentity,
    because: StepReason,
    why: Option<String>,
    fingerprint: Fingerprint,
    key: Uuid,
    /// The revision of the start; 0 until it is recorded.
    start: u64,
    began: Instant,
    /// The part of the value that is not appended yet: the last one is appended with the end.
    pending: Vec<u8>,
    appended: Parts,
    bytes: u64,
    is_too_long: bool,
    has_value: bool,
    has_ended: bool,
}

impl OpenStep {
    pub(super) fn reserve(
        attempt: Arc<Attempt>,
        session: Session,
        step: StepIdentity,
        fingerprint: Fingerprint,
        because: StepReason,
        why: Option<String>,
    ) -> Self {
        Self {
            attempt,
            session,
            step,
            because,
            why,
            fingerprint,
            key: Uuid::nil(),
            start: 0,
            began: Instant::now(),
            pending: Vec::new(),
            appended: Parts::default(),
            bytes: 0,
            is_too_long: false,
            has_value: false,
            has_ended: false,
        }
    }

    pub(super) fn started(&mut self, start: u64, key: Uuid) {
        (self.start, self.key, self.began) = (start, key, Instant::now());
    }

    /// Returns the identity.
    #[must_use]
    pub const fn step(&self) -> &StepIdentity {
        &self.step
    }

    /// Returns the reason why it runs.
    #[must_use]
    pub const fn because(&self) -> StepReason {
        self.because
    }

    /// Returns the reason why a recorded end does not hold, for people.
    #[must_use]
    pub fn why(&self) -> Option<&str> {
        self.why.as_deref()
    }

    /// Returns the idempotency key for the outside world.
    #[must_use]
    pub const fn key(&self) -> Uuid {
        self.key
    }

    /// Returns the revision of its start.
    #[must_use]
    pub const fn start(&self) -> u64 {
        self.start
    }

    /// Adds to the value. Beyond 16 MiB the step has no value, but an end.
    ///
    /// # Errors
    /// Those of [`complete`](Self::complete).
    pub async fn add_value(&mut self, bytes: &[u8]) -> Result<(), StepError> {
        self.has_value = true;
        self.bytes += bytes.len() as u64;
        if self.bytes > VALUE_BYTES as u64 {
            self.is_too_long = true;
            self.pending = Vec::new();
            return Ok(());
        }
        self.pending.extend_from_slice(bytes);
        while self.pending.len() > VALUE_PART_BYTES {
            let rest = self.pending.split_off(part_end(&self.pending));
            let part = std::mem::replace(&mut self.pending, rest);
            let event = SessionEvent::StepValue { start: self.start, part };
            let revision = self.record(vec![event], Durability::Buffered).await?;
            self.appended.add(revision);
        }
        Ok(())
    }

    /// States that the step has a value, though it may be empty.
    pub const fn set_value(&mut self) {
        self.has_value = true;
    }

    /// States that the value is longer than one may be.
    pub fn set_too_long(&mut self) {
        self.is_too_long = true;
        self.pending = Vec::new();
    }

    /// Records the end: it survives power loss on return, and is not run again. A dropped future records it nevertheless.
    ///
    /// # Errors
    /// If it could not be recorded: then no step of the attempt starts any more, and the session fails.
    pub async fn complete(self, exit_code: i32) -> Result<RecordedEnd, StepError> {
        // A caller that stops waiting must not run the step again.
        to_end(self.record_completion(exit_code)).await
    }

    async fn record_completion(mut self, exit_code: i32) -> Result<RecordedEnd, StepError> {
        let has_value = self.has_value && !self.is_too_long;
        let end = StepEnd {
            exit_code,
            duration_ms: millis(self.began.elapsed()),
            value_bytes: has_value.then_some(self.bytes),
            too_long: self.is_too_long,
            skipped: false,
        };
        let start = self.start;
        let pending = std::mem::take(&mut self.pending);
        let mut events = Vec::new();
        if has_value && !pending.is_empty() {
            events.push(SessionEvent::StepValue { start, part: pending });
        }
        let last_part = !events.is_empty();
        events.push(SessionEvent::StepCompleted { start, end });
        let revision = self.record(events, Durability::Flushed).await?;
        let mut parts = if has_value { self.appended } else { Parts::default() };
        if last_part {
            parts.add(revision.saturating_sub(1));
        }
        let mut state = self.attempt.state();
        state.workflow.steps.value_is(start, parts);
        state.workflow.steps.completed(start, end, revision, self.session.clock().now());
        state.names.close(&self.step);
        state.names.used(&self.step, None);
        drop(state);
        self.attempt.notify_names();
        self.has_ended = true;
        Ok(RecordedEnd { end, attempt: self.session.attempt(), start, parts })
    }

    /// Records a failure, or an unknown end: it is run again.
    ///
    /// # Errors
    /// Those of [`complete`](Self::complete).
    pub async fn fail(self, failure: StepFailure) -> Result<(), StepError> {
        tokio::spawn(self.record_failure(failure)).await.map_err(|_| SessionError::ShutDown)?
    }

    async fn record_failure(mut self, failure: StepFailure) -> Result<(), StepError> {
        let failure = StepFailure {
            duration_ms: millis(self.began.elapsed()),
            error: failure.error.map(|error| cut(&error, session_core::limits::STEP_TEXT_BYTES)),
            ..failure
        };
        let start = self.start;
        self.record(vec![SessionEvent::StepFailed { start, failure: failure.clone() }], Durability::Flushed)
            .await?;
        self.close(failure);
        Ok(())
    }

    async fn record(&self, events: Vec<SessionEvent>, durability: Durability) -> Result<u64, StepError> {
        self.attempt.record(&self.session, &self.step, events, durability).await
    }

    /// States that its processes are being ended: another use of its name waits until it has ended.
    pub fn set_ending(&self) {
        self.attempt.state().names.set_ending(&self.step);
        self.attempt.notify_names();
    }

    /// Keeps the name for the rest of the attempt: processes of the step may still run.
    pub async fn keep_open(mut self, message: &str) {
        self.has_ended = true;
        self.attempt.state().refuse(ErrorCode::StepOpen, message.to_owned());
        // Those that wait for the name are refused now.
        self.attempt.state().names.close(&self.step);
        self.attempt.notify_names();
        if let Err(error) = self.session.refuse_step(&self.step.name, ErrorCode::StepOpen, message).await {
            tracing::warn!(session = %self.session.id(), step = %self.step, %error, "could not record a refusal yet");
        }
    }

    fn close(&mut self, failure: StepFailure) {
        let mut state = self.attempt.state();
        state.workflow.steps.failed(self.start, failure);
        state.names.close(&self.step);
        if self.start == 0 && self.because == StepReason::First {
            state.names.unused(&self.step);
        } else {
            state.names.used(&self.step, Some(self.fingerprint.clone()));
        }
        drop(state);
        self.attempt.notify_names();
        self.has_ended = true;
    }
}

impl Drop for OpenStep {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        let failure = StepFailure {
            unknown: true,
            duration_ms: millis(self.began.elapsed()),
            ..StepFailure::default()
        };
        self.close(failure.clone());
        // Without a record it is unknown as well, once the attempt has ended.
        if self.start > 0
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let (session, start) = (self.session.clone(), self.start);
            runtime.spawn(async move {
                let event = SessionEvent::StepFailed { start, failure };
                if let Err(error) = session.end_step(vec![event], Durability::Flushed).await {
                    tracing::debug!(session = %session.id(), %error, "could not record the unknown end of a step");
                }
            });
        }
    }
}

/// Returns the end of the first part of a value: between two characters, if it is text.
fn part_end(bytes: &[u8]) -> usize {
    let is_inside = |at: usize| bytes.get(at).is_some_and(|byte| byte & 0xc0 == 0x80);
    (VALUE_PART_BYTES - 3..=VALUE_PART_BYTES).rev().find(|at| !is_inside(*at)).unwrap_or(VALUE_PART_BYTES)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
