//! Tests of the writer alone: a storage and a clock, without owners, observers or work.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::config::SessionConfig;
use crate::event::FORMAT;
use crate::machine::StateName;
use crate::owner::Owner;
use crate::reason::PauseReason;
use crate::storage::MemoryStorage;
use crate::time::SystemClock;

fn owner() -> Owner {
    Owner::new("host".to_owned(), "machine".to_owned(), "boot".to_owned(), 1, 1)
}

fn writer(storage: &MemoryStorage) -> LogWriter {
    LogWriter {
        storage: Arc::new(storage.clone()),
        clock: Arc::new(SystemClock),
        conflict_timeout: Duration::from_secs(5),
        max_sessions: None,
    }
}

async fn created(writer: &LogWriter, config: SessionConfig) -> LogTail {
    let id = SessionId::random();
    let config = Box::new(config.name("test"));
    let event = SessionEvent::Created { format: FORMAT, config, creator: owner(), origin: None, inherits: 0 };
    writer.create(id, event).await.unwrap().unwrap()
}

fn note(number: u64) -> SessionEvent {
    SessionEvent::Noted { kind: "test.note".to_owned(), data: number.into() }
}

fn revisions(tail: &mut LogTail) -> Vec<u64> {
    std::iter::from_fn(|| tail.next_flushed()).map(|(context, _)| context.revision).collect()
}

#[tokio::test]
async fn events_become_deliverable_once_they_are_flushed() {
    let writer = writer(&MemoryStorage::new());
    let mut tail = created(&writer, SessionConfig::new("test")).await;
    assert_eq!(revisions(&mut tail), [1]);
    writer.commit(&mut tail, Durability::Buffered, |_: &Head| Ok(vec![note(1)])).await.unwrap();
    assert!(revisions(&mut tail).is_empty(), "buffered");
    writer.commit(&mut tail, Durability::Flushed, |_: &Head| Ok(vec![note(2)])).await.unwrap();
    assert_eq!(revisions(&mut tail), [2, 3]);
}

#[tokio::test]
async fn nothing_is_refused_for_an_outdated_head() {
    let storage = MemoryStorage::new();
    let (ours, theirs) = (writer(&storage), writer(&storage));
    let mut tail = created(&ours, SessionConfig::new("test")).await;
    let started = |_: &Head| Ok(vec![SessionEvent::Started { owner: owner() }]);
    let mut other = theirs.load(tail.head.id).await.unwrap();
    theirs.commit(&mut other, Durability::Flushed, started).await.unwrap();
    // Refused by the machine in the state `created`.
    let requested =
        |_: &Head| Ok(vec![SessionEvent::PauseRequested { reason: String::new(), by: String::new() }]);
    ours.commit(&mut tail, Durability::Flushed, requested).await.unwrap();
    let paused = |_: &Head| Ok(vec![SessionEvent::Paused { reason: PauseReason::Requested(String::new()) }]);
    theirs.commit(&mut other, Durability::Flushed, paused).await.unwrap();
    // Refused by the decision.
    let decide = |head: &Head| {
        let paused = head.state().name() == StateName::Paused;
        paused.then(|| vec![note(1)]).ok_or(SessionError::ShutDown)
    };
    ours.commit(&mut tail, Durability::Flushed, decide).await.unwrap();
    // What the current head refuses is refused.
    let refused = ours.commit(&mut tail, Durability::Flushed, started).await.unwrap_err();
    assert!(matches!(refused, SessionError::Transition { .. }), "{refused}");
}

#[tokio::test]
async fn a_decision_is_made_again_for_the_new_head() {
    let storage = MemoryStorage::new();
    let (ours, theirs) = (writer(&storage), writer(&storage));
    let mut tail = created(&ours, SessionConfig::new("test")).await;
    let mut other = theirs.load(tail.head.id).await.unwrap();
    let started = |_: &Head| Ok(vec![SessionEvent::Started { owner: owner() }]);
    theirs.commit(&mut other, Durability::Flushed, started).await.unwrap();
    let mut seen = Vec::new();
    let decide = |head: &Head| {
        seen.push(head.state().name());
        Ok(vec![note(1)])
    };
    ours.commit(&mut tail, Durability::Flushed, decide).await.unwrap();
    assert_eq!(seen, [StateName::Created, StateName::Running]);
    assert_eq!(tail.head.tip.revision, 3);
    assert_eq!(revisions(&mut tail), [1, 2, 3], "with the record of the other writer");
}

/// Decides to leave the log alone.
struct Nothing;

impl Decide for Nothing {
    async fn decide(&mut self, _: &Head) -> Result<Option<Vec<SessionEvent>>> {
        Ok(None)
    }
}

#[tokio::test]
async fn no_decision_writes_nothing() {
    let writer = writer(&MemoryStorage::new());
    let mut tail = created(&writer, SessionConfig::new("test")).await;
    let tip = writer.commit(&mut tail, Durability::Flushed, Nothing).await.unwrap();
    assert_eq!(tip.revision, 1);
    assert_eq!(writer.load(tail.head.id).await.unwrap().head.tip, tip);
}

#[tokio::test]
async fn an_illegal_event_of_a_batch_writes_none_of_it() {
    let writer = writer(&MemoryStorage::new());
    let mut tail = created(&writer, SessionConfig::new("test")).await;
    let before = tail.head.tip;
    let resumed = SessionEvent::Resumed { owner: owner() };
    let decide = |_: &Head| Ok(vec![note(1), resumed.clone()]);
    assert!(writer.commit(&mut tail, Durability::Flushed, decide).await.is_err());
    assert_eq!(tail.head.tip, before);
    assert_eq!(writer.head(tail.head.id).await.unwrap().tip, before);
}

#[tokio::test]
async fn a_log_with_too_many_iterations_stays_readable() {
    let storage = MemoryStorage::new();
    let writer = writer(&storage);
    let mut tail = created(&writer, SessionConfig::new("test").max_iterations(1)).await;
    let iterate = |number| {
        move |_: &Head| {
            let started = SessionEvent::IterationStarted { number };
            let completed =
                SessionEvent::IterationCompleted { number, changes: crate::event::Changes::default() };
            Ok(vec![started, completed])
        }
    };
    let started = |_: &Head| Ok(vec![SessionEvent::Started { owner: owner() }]);
    writer.commit(&mut tail, Durability::Flushed, started).await.unwrap();
    writer.commit(&mut tail, Durability::Flushed, iterate(1)).await.unwrap();
    let error = writer.commit(&mut tail, Durability::Flushed, iterate(2)).await.unwrap_err();
    assert_eq!(error.code(), crate::ErrorCode::LimitExceeded);

    // Written by a version without the limit.
    let event = SessionEvent::IterationStarted { number: 2 };
    let draft = UnsealedRecord { at: tail.head.updated_at, attempt: 1, flushed: tail.flushed, event };
    let (stored, record) = Chain::at(tail.head.id, tail.head.tip).seal(draft).unwrap();
    let mut head = tail.head.clone();
    head.apply(&record).unwrap();
    let (expected, batch) = (Expected::At(tail.head.tip), Batch::new(vec![stored], head));
    storage.append(tail.head.id, expected, batch, Durability::Flushed).await.unwrap();
    let mut tail = writer.load(tail.head.id).await.unwrap();
    assert_eq!(tail.head.lifecycle.iteration, 2);
    writer.commit(&mut tail, Durability::Flushed, |_: &Head| Ok(vec![note(1)])).await.unwrap();
}
