//! Steps of a session: what it takes over before it starts, their starts and ends in a pause, and refusals.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use session_core::*;

use crate::common::World;

fn config() -> SessionConfig {
    SessionConfig::new("test")
}

async fn started(manager: &InMemorySessionManager) -> Session {
    let id = manager.create_session(config()).await.unwrap();
    manager.start_session(id).await.unwrap()
}

fn start(n: u64) -> SessionEvent {
    let (step, fingerprint) = (StepIdentity::nth("build", n), "f".to_owned());
    let (because, inputs) = (StepReason::First, Vec::new());
    SessionEvent::StepStarted { step, fingerprint, because, reruns: 0, command: None, inputs }
}

fn complete(start: u64) -> SessionEvent {
    SessionEvent::StepCompleted { start, end: StepEnd::default() }
}

fn value(start: u64) -> SessionEvent {
    SessionEvent::StepValue { start, part: b"1.2".to_vec() }
}

fn refuse() -> SessionEvent {
    let (name, code, message) = ("build".to_owned(), "STEP_CHANGED".to_owned(), "it changed".to_owned());
    SessionEvent::StepRefused { name, code, message }
}

fn inherit(from: SessionId) -> SessionEvent {
    let step = InheritedStep {
        step: StepIdentity::nth("build", 1),
        fingerprint: "f".to_owned(),
        reruns: 0,
        command: None,
        from,
        at: Timestamp::from_millis(1_795_253_400_000).unwrap(),
        inputs: Vec::new(),
        outcome: StepOutcome::Completed(StepEnd::default()),
    };
    SessionEvent::Inherited { step: Box::new(step) }
}

/// Appends to the present end of the log.
async fn take_over(manager: &impl SessionManager, id: SessionId, events: Vec<SessionEvent>) -> Result<()> {
    let tip = manager.get_head(id).await?.tip;
    manager.inherit_steps(id, tip, events).await.map(drop)
}

/// A note of another process between a step and its value: the value would be that of the note.
#[tokio::test(start_paused = true)]
async fn a_record_in_between_is_a_conflict() {
    let world = World::default();
    let manager = world.process().await;
    let first = manager.create_session(config()).await.unwrap();
    let id = manager.create_session_inheriting(config().retry_of(first), None, 2).await.unwrap();
    let tip = manager.get_head(id).await.unwrap().tip;
    let tip = manager.inherit_steps(id, tip, vec![inherit(first)]).await.unwrap();
    let note = SessionEvent::Noted { kind: "test.note".to_owned(), data: 1.into() };
    world.process().await.record_event(id, note).await.unwrap();
    let conflict = manager.inherit_steps(id, tip, vec![value(2)]).await.unwrap_err();
    assert_eq!(conflict.code(), ErrorCode::Conflict);
    take_over(&manager, id, vec![value(2)]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_session_starts_with_all_that_it_takes_over() {
    let world = World::default();
    let manager = world.process().await;
    let first = manager.create_session(config()).await.unwrap();
    let id = manager.create_session_inheriting(config().retry_of(first), None, 2).await.unwrap();
    let code = |result: Result<()>| result.unwrap_err().code();
    let lacks = |result: Result<Session>| assert_eq!(code(result.map(drop)), ErrorCode::IllegalTransition);
    lacks(manager.start_session(id).await);
    take_over(&manager, id, vec![inherit(first)]).await.unwrap();
    lacks(manager.start_session(id).await);
    take_over(&manager, id, vec![value(2)]).await.unwrap();
    let more = take_over(&manager, id, vec![value(2)]).await;
    assert_eq!(code(more), ErrorCode::IllegalTransition, "it has them all");
    let session = manager.start_session(id).await.unwrap();
    assert_eq!(session.head().steps.completed, 1);
    assert_eq!(world.kinds(id).await, ["created", "inherited", "step_value", "started"]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_of_inherited_steps_is_appended_whole_or_not() {
    let world = World::default();
    let manager = world.process().await;
    let first = manager.create_session(config()).await.unwrap();
    let id = manager.create_session_inheriting(config().retry_of(first), None, 1).await.unwrap();
    let before = world.log(id).await;
    for (events, code) in [
        (vec![inherit(first), value(2)], ErrorCode::IllegalTransition),
        (vec![inherit(first), complete(2)], ErrorCode::InvalidArgument),
        (vec![start(1)], ErrorCode::InvalidArgument),
    ] {
        assert_eq!(take_over(&manager, id, events).await.unwrap_err().code(), code);
    }
    assert_eq!(world.log(id).await, before);
}

/// A part of a value is possible in a running session too, but it is one of a step of the owner: any process could add
/// bytes to it.
#[tokio::test(start_paused = true)]
async fn a_started_session_takes_nothing_over() {
    let world = World::default();
    let session = started(&world.process().await).await;
    let before = world.log(session.id()).await;
    for manager in [world.process().await, world.process().await] {
        let refused = take_over(&manager, session.id(), vec![value(2)]).await.unwrap_err();
        assert_eq!(refused.code(), ErrorCode::IllegalTransition);
    }
    assert_eq!(world.log(session.id()).await, before);
}

/// A session that ended without all that it should take over says so, and names the one that has it.
#[tokio::test(start_paused = true)]
async fn a_retry_of_an_incomplete_session_finds_its_predecessor() {
    let world = World::default();
    let manager = world.process().await;
    let first = started(&manager).await;
    first.fail(Failure::new(FailureCause::Work, "it broke")).await.unwrap();
    let second = manager.create_session_inheriting(config().retry_of(first.id()), None, 2).await.unwrap();
    take_over(&manager, second, vec![inherit(first.id())]).await.unwrap();
    manager.cancel_session(second, CancelRequest::new("enough", "me")).await.unwrap();
    let head = manager.get_head(second).await.unwrap();
    assert_eq!((head.lifecycle.to_inherit, head.retry_of), (1, Some(first.id())));
    let third = manager.create_session_inheriting(config().retry_of(second), None, 1).await.unwrap();
    take_over(&manager, third, vec![inherit(first.id())]).await.unwrap();
    assert_eq!(manager.start_session(third).await.unwrap().head().steps.completed, 1);
}

/// No process can start it, so recovery reported the same error at each call, and it stayed `created` for ever.
#[tokio::test(start_paused = true)]
async fn recovery_fails_an_orphan_that_lacks_inherited_records() {
    let world = World::default();
    let first = world.process().await;
    let id = first.create_session_inheriting(config(), None, 1).await.unwrap();
    world.declare_dead(id).await;
    let manager = world.process().await;
    // Whatever the policy: no later recovery could do more.
    let report = manager.recover(RecoveryOptions::new(RecoveryPolicy::Pause)).await.unwrap();
    assert_eq!(report.recovered, [(id, RecoveryOutcome::Failed)], "{report:?}");
    assert_eq!(manager.get_head(id).await.unwrap().state().name(), StateName::Failed);
}

/// `run_or_resume` took the refusal for a lost race, and tried again without end.
#[tokio::test(start_paused = true)]
async fn a_keyed_session_that_lacks_records_is_an_error() {
    let world = World::default();
    let manager = world.process().await;
    manager.create_session_inheriting(config().idempotency_key("k"), None, 1).await.unwrap();
    let run = manager.run_or_resume("k", config(), async |_| Ok(()));
    let run = tokio::time::timeout(Duration::from_secs(60), run).await.expect("it gives up");
    assert_eq!(run.unwrap_err().code(), ErrorCode::IllegalTransition);
}

#[tokio::test(start_paused = true)]
async fn a_step_starts_after_the_pause() {
    let world = World::default();
    let session = started(&world.process().await).await;
    session.pause(PauseReason::Requested("lunch".to_owned())).await.unwrap();
    assert_eq!(session.start_step(start(1)).await.unwrap(), None);
    session.resume().await.unwrap();
    assert_eq!(session.start_step(start(1)).await.unwrap().unwrap().revision, 5);
    assert_eq!(world.kinds(session.id()).await[2..], ["paused", "resumed", "step_started"]);
}

#[tokio::test(start_paused = true)]
async fn a_step_ends_in_the_pause() {
    let world = World::default();
    let session = started(&world.process().await).await;
    let begun = session.start_step(start(1)).await.unwrap().unwrap().revision;
    session.pause(PauseReason::Requested("lunch".to_owned())).await.unwrap();
    let end = session.end_step(vec![value(begun), complete(begun)], Durability::Flushed);
    let end = tokio::time::timeout(Duration::from_secs(3_600), end).await.expect("it does not wait").unwrap();
    assert_eq!(end.revision, 6);
    assert_eq!(
        world.kinds(session.id()).await[2..],
        ["step_started", "paused", "step_value", "step_completed"]
    );
}

/// Each record says up to where the log was flushed before it.
#[tokio::test(start_paused = true)]
async fn starts_of_steps_are_flushed() {
    let world = World::default();
    let session = started(&world.process().await).await;
    let begun = session.start_step(start(1)).await.unwrap().unwrap().revision;
    session.end_step(vec![value(begun)], Durability::Buffered).await.unwrap();
    let refused = session.refuse_step("test", ErrorCode::StepChanged, "it changed").await.unwrap().revision;
    session.end_step(vec![complete(begun)], Durability::Buffered).await.unwrap();
    let records = session.read_log(begun).await.unwrap();
    let flushed: Vec<_> = records.iter().map(|record| record.envelope.flushed).collect();
    assert_eq!(flushed, [begun, begun, refused]);
}

#[tokio::test(start_paused = true)]
async fn each_call_takes_only_its_events() {
    let world = World::default();
    let session = started(&world.process().await).await;
    let before = world.log(session.id()).await;
    for (code, result) in [
        (ErrorCode::InvalidArgument, session.start_step(complete(2)).await.map(drop)),
        (
            ErrorCode::InvalidArgument,
            session.end_step(vec![complete(2), start(1)], Durability::Flushed).await.map(drop),
        ),
        (ErrorCode::InvalidArgument, session.record(start(1)).await.map(drop)),
        (ErrorCode::InvalidArgument, session.record(complete(2)).await.map(drop)),
        (ErrorCode::InvalidArgument, session.record(refuse()).await.map(drop)),
    ] {
        assert_eq!(result.unwrap_err().code(), code);
    }
    assert_eq!(world.log(session.id()).await, before);
}

#[tokio::test(start_paused = true)]
async fn handles_of_an_ownership_share_an_extension() {
    let world = World::default();
    let (first, second) = (world.process().await, world.process().await);
    let session = started(&first).await;
    let extension = session.extension(|| AtomicU32::new(1));
    extension.fetch_add(1, Ordering::SeqCst);
    let again = first.resume_session(session.id()).await;
    for handle in again.into_iter().chain([session.clone()]) {
        assert!(Arc::ptr_eq(&extension, &handle.extension(|| AtomicU32::new(9))));
    }
    assert_eq!(*session.extension(|| "of another type"), "of another type");

    world.declare_dead(session.id()).await;
    let taken = second.resume_session(session.id()).await.unwrap();
    assert_eq!(taken.extension(|| AtomicU32::new(7)).load(Ordering::SeqCst), 7, "another ownership");
}

/// Completes a session after a refused step, running or paused, in one of several ways.
async fn completed(paused: bool, how: usize) -> (Head, Vec<&'static str>) {
    let world = World::default();
    let manager = world.process().await;
    let session = started(&manager).await;
    session.end_step(vec![refuse()], Durability::Flushed).await.unwrap();
    if paused {
        session.pause(PauseReason::Requested("lunch".to_owned())).await.unwrap();
    }
    let summary = SessionSummary::new().message("done");
    match how {
        0 => session.complete(summary).await.unwrap(),
        1 => manager.complete_session(session.id(), summary).await.unwrap(),
        _ => {
            let note = SessionEvent::Noted { kind: "test.note".to_owned(), data: 1.into() };
            session.end(Some(note), Ending::Completed(summary)).await.unwrap();
        }
    }
    (manager.get_head(session.id()).await.unwrap(), world.kinds(session.id()).await)
}

#[tokio::test(start_paused = true)]
async fn completion_after_a_refused_step_is_a_failure() {
    for (paused, how) in [(false, 0), (false, 1), (false, 2), (true, 0), (true, 1), (true, 2)] {
        let (head, kinds) = completed(paused, how).await;
        let SessionState::Failed { error } = head.state() else { panic!("{paused} {how}: {kinds:?}") };
        assert_eq!(error.cause, FailureCause::Work);
        assert!(!kinds.contains(&"completed") && !kinds.contains(&"resumed"), "{paused} {how}: {kinds:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn work_that_returns_after_a_refused_step_has_failed() {
    let manager = InMemorySessionManager::new();
    let work = manager.run(config(), async |session| {
        session.end_step(vec![refuse()], Durability::Flushed).await?;
        Ok(42)
    });
    let report = work.await.unwrap();
    assert!(matches!(report.state, SessionState::Failed { .. }), "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn a_session_reads_its_own_log_page_by_page() {
    let world = World::default();
    let session = started(&world.process().await).await;
    let begun = session.start_step(start(1)).await.unwrap().unwrap().revision;
    session.end_step(vec![complete(begun)], Durability::Flushed).await.unwrap();
    let records = session.read_log(1).await.unwrap();
    assert_eq!(records.iter().map(|record| record.envelope.seq).collect::<Vec<_>>(), [2, 3, 4]);
    assert_eq!(records.last().unwrap().event, complete(begun));
    assert!(session.read_log(4).await.unwrap().is_empty());
}
