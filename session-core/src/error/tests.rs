//! Each error is complete by itself: it names its subject and the reason, and no text comes twice in the chain of causes
//! as a program prints it.

use std::io;
use std::sync::Arc;

use super::*;
use crate::machine::StateName;
use crate::record::{DecodeError, Sum, Tip};

const ID: &str = "01010101-0101-0101-0101-010101010101";

/// The members of a chain: the error and its causes.
fn chain(error: &(dyn Error + 'static)) -> Vec<String> {
    let mut members = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(error) = cause {
        members.push(error.to_string());
        cause = error.source();
    }
    members
}

/// Asserts that the error's own text has these parts, and that no text comes twice.
#[track_caller]
fn assert_complete(error: &(dyn Error + 'static), parts: &[&str]) {
    let chain = chain(error);
    let own = chain.first().expect("an error has a text");
    for part in parts {
        assert!(own.contains(part), "`{own}` lacks `{part}`");
    }
    for (at, text) in chain.iter().enumerate() {
        assert!(!text.is_empty(), "{chain:?}");
        let repeated = chain.iter().take(at).any(|before| before.contains(text.as_str()));
        assert!(!repeated, "{chain:?}");
    }
    assert!(!own.ends_with('.') || own.starts_with("Maximum"), "{own}");
}

fn id() -> SessionId {
    SessionId::from_bytes([1; 16])
}

fn denied() -> Arc<io::Error> {
    Arc::new(io::Error::from_raw_os_error(13))
}

fn illegal() -> TransitionError {
    TransitionError::IllegalTransition {
        state: Some(StateName::Completed),
        event: crate::event::EventKind::Paused,
        allowed: Vec::new(),
    }
}

/// Returns what the text of an error must contain. A new variant must be decided here.
fn storage_parts(error: &StorageError) -> Vec<&'static str> {
    match error {
        StorageError::NotFound { .. } => vec!["no session", ID],
        StorageError::Conflict { .. } => vec![ID, "ends at revision 7", "not at nothing"],
        StorageError::MaxSessions { .. } => vec!["Maximum 3 sessions"],
        StorageError::Full { .. } => vec!["no space left", "/store/log", "Permission denied"],
        StorageError::Unavailable { source: None, .. } => vec!["/store is locked"],
        StorageError::Unavailable { source: Some(_), .. } | StorageError::Io { .. } => {
            vec!["cannot open /store", "Permission denied"]
        }
        StorageError::OutcomeUnknown { .. } => {
            vec![ID, "unknown whether", "cannot flush", "Permission denied"]
        }
        StorageError::Closed { source: None, .. } => vec!["/store is closed"],
        StorageError::Closed { source: Some(_), .. } => vec!["/store is closed", "Permission denied"],
        StorageError::Corrupt { .. } => vec![ID, "up to revision 4", "wrong sum"],
        StorageError::StoreDamaged { .. } => vec!["/store/FORMAT is damaged"],
        StorageError::Invalid { .. } => vec![ID, "revision 5", "`paused` is not possible", "completed"],
        StorageError::UnsupportedFormat { source: None, .. } => vec!["/store", "newer version"],
        StorageError::UnsupportedFormat { source: Some(_), .. } => {
            vec!["/store", "newer version", "unknown event kind `forked`"]
        }
        StorageError::InvalidArgument { .. } => vec!["the batch is empty"],
        StorageError::Limit(_) => vec!["the size of a record is 9, at most 8 is allowed"],
    }
}

fn storage_errors() -> Vec<StorageError> {
    let tip = Tip { revision: 7, sum: Sum::from_u64(1) };
    let what = |text: &str| text.to_owned();
    let io = StorageError::Io { what: what("cannot open /store"), source: denied() };
    let flush = StorageError::Io { what: what("cannot flush /store/log"), source: denied() };
    let kind = Arc::new(DecodeError::UnknownKind { kind: what("forked") });
    vec![
        StorageError::NotFound { id: id() },
        StorageError::Conflict { id: id(), expected: None, actual: Some(tip) },
        StorageError::MaxSessions { limit: 3 },
        StorageError::Full { what: what("/store/log"), source: denied() },
        StorageError::Unavailable { what: what("/store is locked"), source: None },
        StorageError::Unavailable { what: what("cannot open /store"), source: Some(denied()) },
        io,
        StorageError::OutcomeUnknown { id: id(), source: Arc::new(flush) },
        StorageError::Closed { what: what("/store"), source: None },
        StorageError::Closed { what: what("/store"), source: Some(denied()) },
        StorageError::Corrupt { id: id(), readable: 4, what: what("revision 5 has a wrong sum") },
        StorageError::StoreDamaged { what: what("/store/FORMAT is damaged") },
        StorageError::Invalid { id: id(), revision: 5, source: illegal() },
        StorageError::UnsupportedFormat { what: what("/store"), source: None },
        StorageError::UnsupportedFormat { what: what("/store"), source: Some(kind) },
        StorageError::InvalidArgument { what: what("the batch is empty") },
        LimitError::Exceeded { what: "the size of a record", actual: 9, limit: 8 }.into(),
    ]
}

/// Returns what the text of an error must contain. A new variant must be decided here.
fn session_parts(error: &SessionError) -> Vec<&'static str> {
    match error {
        SessionError::Storage(error) => storage_parts(error),
        SessionError::Transition { .. } => vec![ID, "`paused` is not possible", "is completed"],
        SessionError::Fenced { .. } => vec![ID, "no longer owned", "attempt 2"],
        SessionError::Owned { .. } => vec![ID, "4711", "may be alive"],
        SessionError::Contended { .. } => vec![ID, "write conflicts"],
        SessionError::Ambiguous { .. } => vec!["`01`", "2 sessions"],
        SessionError::InvalidArgument { .. } => vec!["the label is empty"],
        SessionError::Spawn { .. } => vec!["`make`", "could not be started", "Permission denied"],
        SessionError::Payload { .. } => vec![ID, "checkpoint", "invalid type"],
        SessionError::Cancelled { .. } => vec!["the work was cancelled", "enough"],
        SessionError::Failed { .. } => vec![ID, "failed", "disk on fire"],
        SessionError::AlreadyCompleted { .. } => vec![ID, "already completed"],
        SessionError::OwnedHere { .. } => vec![ID, "already run by this process"],
        SessionError::Unfinished { .. } => vec![ID, "has not ended", "running"],
        SessionError::StillRunning { .. } => vec![ID, "program"],
        SessionError::ShutDown => vec!["the manager was shut down"],
    }
}

fn session_errors() -> Vec<SessionError> {
    let owner = Owner::new("host".into(), "machine".into(), "boot".into(), 4711, 1);
    let payload = serde_json::from_str::<u8>("\"x\"").expect_err("a text is no number");
    let failure = FailureError(Failure::new(FailureCause::Work, "disk on fire"));
    let mut all: Vec<SessionError> = storage_errors().into_iter().map(SessionError::Storage).collect();
    all.extend([
        SessionError::Transition { id: id(), source: illegal() },
        SessionError::Fenced { id: id(), what: "it is at attempt 2".into() },
        SessionError::Owned { id: id(), owner: Box::new(owner), proven: false },
        SessionError::Contended { id: id() },
        SessionError::Ambiguous { text: "01".into(), candidates: vec![id(), id()] },
        SessionError::InvalidArgument { what: "the label is empty".into() },
        SessionError::Spawn { program: "make".into(), source: denied() },
        SessionError::Payload { id: id(), what: "checkpoint", source: Arc::new(payload) },
        SessionError::Cancelled { reason: "enough".into() },
        SessionError::Failed { id: id(), source: failure },
        SessionError::AlreadyCompleted { id: id() },
        SessionError::OwnedHere { id: id() },
        SessionError::Unfinished { id: id(), state: StateName::Running },
        SessionError::StillRunning { id: id(), processes: Vec::new() },
        SessionError::ShutDown,
    ]);
    all
}

#[test]
fn storage_errors_are_complete_by_themselves() {
    for error in storage_errors() {
        assert_complete(&error, &storage_parts(&error));
    }
}

#[test]
fn session_errors_are_complete_by_themselves() {
    for error in session_errors() {
        assert_complete(&error, &session_parts(&error));
    }
}

/// Regression: the most frequent error was `session 3f0c…`, with the reason only in its cause.
#[test]
fn a_refused_change_states_session_and_reason() {
    let error = SessionError::Transition { id: id(), source: illegal() };
    assert_eq!(
        error.to_string(),
        format!("session {ID}: `paused` is not possible while the session is completed")
    );
    assert!(error.source().is_none(), "{error:?}");
}

/// The causes behind a shown cause stay in the chain.
#[test]
fn deeper_causes_are_sources() {
    #[derive(Debug, thiserror::Error)]
    #[error("sector 9 is unreadable")]
    struct Sector;
    #[derive(Debug, thiserror::Error)]
    #[error("device error")]
    struct Wrapped(#[source] Sector);
    let source = Arc::new(io::Error::other(Wrapped(Sector)));
    let error = SessionError::from(StorageError::Io { what: "cannot read /log".into(), source });
    assert_eq!(chain(&error), ["cannot read /log: device error", "sector 9 is unreadable"]);
}

#[test]
fn rules_and_lines_are_described_completely() {
    let transitions = [
        (illegal(), "`paused` is not possible while the session is completed"),
        (TransitionError::Iteration { expected: 2, found: 4 }, "iteration 4 is out of order: expected 2"),
        (
            TransitionError::ItemBegins { state: StateName::Paused },
            "no item can begin while the session is paused, nor after a refused step",
        ),
        (TransitionError::Fenced { attempt: 1, current: 2 }, "attempt 1 no longer owns"),
        (TransitionError::Attempt { expected: 1, found: 2 }, "the record names attempt 2"),
        (TransitionError::Sequence { expected: 1, found: 2 }, "the record is numbered 2"),
        (TransitionError::Flushed { flushed: 9 }, "revision 9 was flushed before"),
    ];
    for (error, part) in transitions {
        assert_complete(&error, &[part]);
    }
    let json = serde_json::from_str::<u8>("x").expect_err("not JSON");
    let undecodable = [
        (DecodeError::Malformed(json), vec!["not a record", "expected value"]),
        (DecodeError::UnknownKind { kind: "forked".into() }, vec!["unknown event kind", "forked"]),
        (DecodeError::NewerFormat { format: 9 }, vec!["format 9 is newer"]),
    ];
    for (error, parts) in undecodable {
        assert_complete(&error, &parts);
    }
    assert_complete(&crate::record::ChainError::Form, &["the line"]);
    assert_complete(&crate::record::ChainError::Sum, &["wrong checksum", "a line was changed"]);
    assert_complete(&LimitError::Invalid { what: "the name", problem: "is empty" }, &["the name is empty"]);
    assert_complete(&"x".parse::<SessionId>().expect_err("not an id"), &["session id", "\"x\""]);
    assert_complete(&crate::time::Timestamp::parse("x").expect_err("not a time"), &["x"]);
    let cancelled = crate::cancellation::CancelledError { reason: "enough".into() };
    assert_complete(&cancelled, &["the work was cancelled", "enough"]);
}
