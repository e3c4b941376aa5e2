//! Valid records for tests, sealed and folded like those of a manager, and deterministic.

use std::fmt::Write as _;
use std::future::Future;

use serde_json::json;
use session_core::backend::{Batch, Chain, UnsealedRecord};
use session_core::{
    CancelRequest, Evidence, Failure, FailureCause, Head, Owner, PauseReason, ProgressReport, SessionConfig,
    SessionEvent, SessionId, StorageError, StoredRecord, Timestamp,
};

/// Runs a future to completion on this thread.
pub(crate) fn wait<F: Future>(future: F) -> F::Output {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    }
    RUNTIME.with(|runtime| runtime.block_on(future))
}

/// Returns the session id for a number. Ids are not ordered by number.
pub(crate) fn id(number: u64) -> SessionId {
    SessionId::from_key(&format!("test-{number}"))
}

/// Returns the owner for a number.
pub(crate) fn owner(number: u64) -> Owner {
    let instance = id(1_000_000 + number);
    serde_json::from_value(json!({
        "instance": instance, "host": "host", "machine": "machine", "boot": "boot",
        "pid": 4711 + number % 1000, "start_time": number,
    }))
    .unwrap()
}

/// Seals events after a log and folds them into its head.
pub(crate) fn seal(id: SessionId, before: Option<&Head>, flushed: u64, events: Vec<SessionEvent>) -> Batch {
    let mut chain = before.map_or(Chain::start(id), |head| Chain::at(id, head.tip));
    let mut head = before.cloned();
    let mut records = Vec::new();
    for event in events {
        let revision = chain.revision();
        let attempt = head.as_ref().map_or(0, |head| head.lifecycle.attempt_for(event.kind()));
        let at = Timestamp::from_millis(1_795_253_400_000 + i64::try_from(revision).unwrap()).unwrap();
        let draft = UnsealedRecord { at, attempt, flushed: flushed.min(revision), event };
        let (stored, record) = chain.seal(draft).unwrap();
        Head::fold(&mut head, id, &record).unwrap();
        records.push(stored);
    }
    Batch::new(records, head.unwrap())
}

/// Folds a log into its head and checks its chain. `None` if there are no records.
pub(crate) fn fold(id: SessionId, records: &[StoredRecord]) -> Result<Option<Head>, String> {
    let (mut chain, mut head) = (Chain::start(id), None);
    for record in records {
        let revision = record.revision();
        chain.follow(record).map_err(|error| format!("{id}: record {revision} does not follow: {error}"))?;
        let record = record.decode().map_err(|error| format!("{id}: record {revision}: {error}"))?;
        Head::fold(&mut head, id, &record).map_err(|error| format!("{id}: record {revision}: {error}"))?;
    }
    Ok(head)
}

pub(crate) fn created(name: &str) -> SessionEvent {
    SessionEvent::Created {
        format: session_core::backend::FORMAT,
        config: Box::new(SessionConfig::new("test").name(name)),
        creator: owner(0),
        origin: None,
        inherits: 0,
    }
}

pub(crate) fn started(by: u64) -> SessionEvent {
    SessionEvent::Started { owner: owner(by) }
}

pub(crate) fn resumed(by: u64) -> SessionEvent {
    SessionEvent::Resumed { owner: owner(by) }
}

pub(crate) fn interrupted() -> SessionEvent {
    SessionEvent::Interrupted { evidence: Evidence::LockReleased }
}

/// Creates a note of about this many bytes.
pub(crate) fn note(bytes: usize) -> SessionEvent {
    SessionEvent::Noted { kind: "test.note".to_owned(), data: json!("x".repeat(bytes)) }
}

pub(crate) fn progress(steps: u64) -> SessionEvent {
    SessionEvent::ProgressReported { report: ProgressReport::new().completed_steps(steps) }
}

pub(crate) fn checkpoint(cursor: u64) -> SessionEvent {
    SessionEvent::CheckpointSaved { state: json!({ "cursor": cursor }), resumable: true }
}

pub(crate) fn paused() -> SessionEvent {
    SessionEvent::Paused { reason: PauseReason::Requested("lunch".to_owned()) }
}

pub(crate) fn cancel_requested() -> SessionEvent {
    let CancelRequest { reason, by, force, .. } = CancelRequest::new("no longer needed", "a user");
    SessionEvent::CancelRequested { reason, by, force }
}

pub(crate) fn cancelled() -> SessionEvent {
    SessionEvent::Cancelled { reason: "no longer needed".to_owned() }
}

pub(crate) fn failed() -> SessionEvent {
    SessionEvent::Failed { error: Failure::new(FailureCause::Work, "it broke") }
}

pub(crate) fn completed(head: &Head) -> SessionEvent {
    SessionEvent::Completed { summary: head.summary(head.updated_at) }
}

/// Formats an error with its causes.
pub(crate) fn chain_of(error: &StorageError) -> String {
    let mut text = format!("{error} ({error:?})");
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}
