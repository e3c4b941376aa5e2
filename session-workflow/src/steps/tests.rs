//! Tests of steps with a manager in memory: what runs, is replayed, or is refused.

use session_core::{
    CancelRequest, Evidence, InMemorySessionManager, SessionConfig, SessionManager as _, SessionState,
    SessionSummary, StepFailure, StepReason,
};

use super::*;
use crate::workflow_state::WorkflowState;

fn request(name: &str, content: &str) -> StepRequest {
    let mut request = StepRequest::new(name, Fingerprint::of_command([content.as_bytes()], None));
    request.command = Some(content.to_owned());
    request
}

async fn session(manager: &InMemorySessionManager) -> Session {
    let id = manager.create_session(SessionConfig::new("test")).await.unwrap();
    manager.start_session(id).await.unwrap()
}

async fn begin(session: &Session, request: StepRequest) -> Result<BegunStep, StepError> {
    Steps::of(session).begin(session, request).await
}

async fn run(session: &Session, name: &str, content: &str) -> OpenStep {
    match begin(session, request(name, content)).await.unwrap() {
        BegunStep::Run(open) => open,
        BegunStep::Replay(recorded) => panic!("{name} is recorded: {recorded:?}"),
    }
}

async fn replay(session: &Session, name: &str, content: &str) -> RecordedEnd {
    match begin(session, request(name, content)).await.unwrap() {
        BegunStep::Replay(recorded) => recorded,
        BegunStep::Run(open) => panic!("{name} runs again: {open:?}"),
    }
}

async fn refusal(session: &Session, request: StepRequest) -> (ErrorCode, String) {
    let error = begin(session, request).await.unwrap_err();
    (error.code(), error.to_string())
}

/// Begins the next attempt, as after a death of the owner or as after a shutdown.
async fn next_attempt(manager: &InMemorySessionManager, session: Session, evidence: Evidence) -> Session {
    let id = session.id();
    session.interrupt(evidence).await.unwrap();
    drop(session);
    manager.resume_session(id).await.unwrap()
}

fn failure(exit_code: i32) -> StepFailure {
    StepFailure { exit_code: Some(exit_code), ..StepFailure::default() }
}

fn unknown() -> StepFailure {
    StepFailure { unknown: true, signal: Some(9), ..StepFailure::default() }
}

#[tokio::test]
async fn a_recorded_step_is_replayed_with_its_value() {
    let manager = InMemorySessionManager::new();
    let mut session = session(&manager).await;
    let mut open = run(&session, "version", "next").await;
    assert_eq!((open.because(), open.step().to_string()), (StepReason::First, "version".to_owned()));
    let key = open.key();
    open.add_value(b"1.4.0\n").await.unwrap();
    open.complete(0).await.unwrap();
    // The second use of the name is another step.
    run(&session, "version", "next").await.complete(0).await.unwrap();
    for attempt in 2..4 {
        session = next_attempt(&manager, session, Evidence::LockReleased).await;
        let recorded = replay(&session, "version", "next").await;
        assert_eq!((recorded.end.exit_code, recorded.attempt), (0, 1));
        assert_eq!(recorded.value().read_all(&session).await.unwrap(), b"1.4.0\n");
        assert_eq!(replay(&session, "version", "next").await.end.value_bytes, None);
        // The third one was new in the second attempt.
        if attempt == 2 {
            let third = run(&session, "version", "next").await;
            assert_eq!(third.step().to_string(), "version#3");
            assert_ne!(third.key(), key);
            third.complete(0).await.unwrap();
        } else {
            assert_eq!(replay(&session, "version", "next").await.attempt, 2);
        }
    }
}

#[tokio::test]
async fn a_failure_is_the_same_use_again() {
    let manager = InMemorySessionManager::new();
    let session = session(&manager).await;
    let first = run(&session, "build", "make").await;
    let key = first.key();
    first.fail(failure(2)).await.unwrap();
    let again = run(&session, "build", "make").await;
    assert_eq!((again.key(), again.because()), (key, StepReason::Failed));
    again.fail(unknown()).await.unwrap();
    let again = run(&session, "build", "make").await;
    assert_eq!((again.key(), again.because()), (key, StepReason::Unknown));
    again.fail(failure(1)).await.unwrap();
    // Another fingerprint is another use.
    let other = run(&session, "build", "make -j8").await;
    assert_eq!((other.step().to_string().as_str(), other.because()), ("build#2", StepReason::First));
    other.complete(0).await.unwrap();
    // After a completed use, the next one is new.
    assert_eq!(run(&session, "build", "make -j8").await.step().to_string(), "build#3");
}

#[tokio::test]
async fn a_kept_failure_is_not_run_again() {
    let manager = InMemorySessionManager::new();
    let session = session(&manager).await;
    run(&session, "check", "grep").await.complete(1).await.unwrap();
    let session = next_attempt(&manager, session, Evidence::Shutdown).await;
    assert_eq!(replay(&session, "check", "grep").await.end.exit_code, 1);
}

#[tokio::test]
async fn keys_identify_steps_in_any_order() {
    let manager = InMemorySessionManager::new();
    let session = session(&manager).await;
    let keyed = |key: &str| StepRequest { key: Some(key.to_owned()), ..request("send", key) };
    let BegunStep::Run(one) = begin(&session, keyed("a")).await.unwrap() else { panic!("it runs") };
    let BegunStep::Run(two) = begin(&session, keyed("b")).await.unwrap() else {
        panic!("they are concurrent")
    };
    two.complete(0).await.unwrap();
    one.complete(0).await.unwrap();
    let session = next_attempt(&manager, session, Evidence::LockReleased).await;
    for key in ["b", "a"] {
        assert!(matches!(begin(&session, keyed(key)).await.unwrap(), BegunStep::Replay(_)), "{key}");
    }
}

#[tokio::test]
async fn a_name_that_is_open_is_refused() {
    let keyed = |key: &str| StepRequest { key: Some(key.to_owned()), ..request("send", key) };
    for (first, second) in [
        (request("send", "x"), request("send", "y")),
        (keyed("a"), keyed("a")),
        (keyed("a"), request("send", "y")),
        (request("send", "x"), keyed("b")),
    ] {
        let manager = InMemorySessionManager::new();
        let session = session(&manager).await;
        let BegunStep::Run(open) = begin(&session, first).await.unwrap() else { panic!("it runs") };
        let (code, text) = refusal(&session, second).await;
        assert_eq!(code, ErrorCode::StepOpen, "{text}");
        // No other step starts, and the session fails.
        assert_eq!(refusal(&session, request("other", "z")).await.0, ErrorCode::StepOpen);
        open.complete(0).await.unwrap();
        session.complete(SessionSummary::new()).await.unwrap();
        assert!(matches!(manager.get_state(session.id()).await.unwrap(), SessionState::Failed { .. }));
    }
}

#[tokio::test]
async fn a_changed_step_is_refused_and_names_both() {
    let manager = InMemorySessionManager::new();
    let session = session(&manager).await;
    run(&session, "build", "make -j8").await.complete(0).await.unwrap();
    let session = next_attempt(&manager, session, Evidence::Shutdown).await;
    let (code, text) = refusal(&session, request("build", "make -j4")).await;
    assert_eq!(code, ErrorCode::StepChanged);
    assert!(text.contains("make -j8") && text.contains("make -j4"), "{text}");
    assert_eq!(refusal(&session, request("other", "z")).await.0, ErrorCode::StepChanged);

    let session = next_attempt(&manager, session, Evidence::Shutdown).await;
    let keep = StepRequest { on_change: OnChange::Keep, ..request("build", "make -j4") };
    assert!(matches!(begin(&session, keep).await.unwrap(), BegunStep::Replay(_)));

    let session = next_attempt(&manager, session, Evidence::Shutdown).await;
    let before = idempotency_key(session.id(), &StepIdentity::nth("build", 1), 0);
    Steps::of(&session).decide(Decisions::new().changed("build", OnChange::Rerun));
    let again = run(&session, "build", "make -j4").await;
    assert_eq!(again.because(), StepReason::Changed);
    assert_ne!(again.key(), before, "a success that is run again on purpose has a key of its own");
    again.complete(0).await.unwrap();
    let session = next_attempt(&manager, session, Evidence::Shutdown).await;
    replay(&session, "build", "make -j4").await;
}

#[tokio::test]
async fn an_unknown_end_is_decided_by_the_step() {
    for (on_unknown, expected) in
        [(OnUnknown::Rerun, "run"), (OnUnknown::Fail, "refused"), (OnUnknown::Skip, "done")]
    {
        let manager = InMemorySessionManager::new();
        let session = session(&manager).await;
        let open = run(&session, "publish", "upload").await;
        let key = open.key();
        std::mem::forget(open);
        let session = next_attempt(&manager, session, Evidence::LockReleased).await;
        let publish = StepRequest { on_unknown, ..request("publish", "upload") };
        match (begin(&session, publish).await, expected) {
            (Ok(BegunStep::Run(open)), "run") => {
                assert_eq!((open.because(), open.key()), (StepReason::Unknown, key));
            }
            (Err(error), "refused") => {
                assert_eq!(error.code(), ErrorCode::StepUnknown);
                assert!(error.to_string().contains("may have happened"), "{error}");
            }
            (Ok(BegunStep::Replay(recorded)), "done") => {
                assert!(recorded.end.skipped);
                let session = next_attempt(&manager, session, Evidence::LockReleased).await;
                assert!(replay(&session, "publish", "upload").await.end.skipped);
            }
            (found, _) => panic!("{on_unknown:?}: {found:?}"),
        }
    }
}

#[tokio::test]
async fn a_step_open_at_three_deaths_is_not_run_again_by_itself() {
    let manager = InMemorySessionManager::new();
    let mut session = session(&manager).await;
    for death in 1..=3 {
        std::mem::forget(run(&session, "publish", "upload").await);
        session = next_attempt(&manager, session, Evidence::LockReleased).await;
        if death == 2 {
            // An orderly stop is no death.
            std::mem::forget(run(&session, "publish", "upload").await);
            session = next_attempt(&manager, session, Evidence::Shutdown).await;
        }
    }
    let unanswerable = StepRequest { can_ask: false, ..request("publish", "upload") };
    assert_eq!(refusal(&session, unanswerable).await.0, ErrorCode::StepUnknown);
    let session = next_attempt(&manager, session, Evidence::Shutdown).await;
    Steps::of(&session).decide(Decisions::new().unknown("publish", OnUnknown::Rerun));
    run(&session, "publish", "upload").await.complete(0).await.unwrap();
}

/// Waits until the session has a question without an answer, and answers it.
async fn answer_next(manager: &InMemorySessionManager, session: &Session, name: &str, value: &str) {
    let mut view = session.watch();
    while view.borrow_and_update().waits.questions == 0 {
        view.changed().await.unwrap();
    }
    crate::answer(manager, session.id(), crate::AnswerTo::Named(name.to_owned()), value).await.unwrap();
}

#[tokio::test]
async fn a_person_decides_about_a_step_open_at_three_deaths() {
    let manager = InMemorySessionManager::new();
    let mut session = session(&manager).await;
    for _ in 0..3 {
        std::mem::forget(run(&session, "publish", "upload").await);
        session = next_attempt(&manager, session, Evidence::LockReleased).await;
    }
    let (open, ()) =
        tokio::join!(run(&session, "publish", "upload"), answer_next(&manager, &session, "publish", "rerun"));
    open.complete(0).await.unwrap();
    let head = session.head();
    assert_eq!((head.waits.questions, head.waits.open), (0, 0));
    replay(&next_attempt(&manager, session, Evidence::Shutdown).await, "publish", "upload").await;
}

#[tokio::test]
async fn each_answer_about_an_unknown_end_has_its_effect() {
    for (value, runs) in [("rerun", true), ("skip", false), ("fail", false)] {
        let manager = InMemorySessionManager::new();
        let session = session(&manager).await;
        run(&session, "publish", "upload").await.fail(unknown()).await.unwrap();
        let asking = StepRequest { on_unknown: OnUnknown::Ask, ..request("publish", "upload") };
        let (begun, ()) =
            tokio::join!(begin(&session, asking), answer_next(&manager, &session, "publish", value));
        match begun {
            Ok(BegunStep::Run(_)) => assert!(runs, "{value}"),
            Ok(BegunStep::Replay(recorded)) => assert!(recorded.end.skipped && value == "skip", "{value}"),
            Err(error) => assert_eq!((error.code(), value), (ErrorCode::StepUnknown, "fail")),
        }
    }
}

#[tokio::test]
async fn a_recorded_end_holds_for_the_same_inputs_only() {
    let manager = InMemorySessionManager::new();
    let session = session(&manager).await;
    let with = |digest: &str| StepRequest {
        inputs: vec![InputFile { path: b"a.md".to_vec(), digest: digest.to_owned() }],
        ..request("check", "x")
    };
    let BegunStep::Run(open) = begin(&session, with("1")).await.unwrap() else { panic!("it is the first") };
    let first_key = open.key();
    open.complete(0).await.unwrap();
    let session = next_attempt(&manager, session, Evidence::Shutdown).await;
    let BegunStep::Replay(_) = begin(&session, with("1")).await.unwrap() else { panic!("nothing changed") };
    let session = next_attempt(&manager, session, Evidence::Shutdown).await;
    let BegunStep::Run(open) = begin(&session, with("2")).await.unwrap() else { panic!("it changed") };
    assert_eq!((open.because(), open.why()), (StepReason::Input, Some("its input `a.md` has changed")));
    assert_ne!(open.key(), first_key, "it is run again on purpose");
    open.complete(0).await.unwrap();
    // Of a log that is read again, and after a decision of a person.
    let session = next_attempt(&manager, session, Evidence::Shutdown).await;
    Steps::of(&session).decide(Decisions::new().changed("check", OnChange::Keep));
    let BegunStep::Replay(_) = begin(&session, with("3")).await.unwrap() else { panic!("a person kept it") };
}

#[tokio::test]
async fn a_dropped_step_is_unknown_and_its_name_is_free() {
    let manager = InMemorySessionManager::new();
    let session = session(&manager).await;
    drop(run(&session, "publish", "upload").await);
    let again = run(&session, "publish", "upload").await;
    assert_eq!(again.because(), StepReason::Unknown);
    again.complete(0).await.unwrap();
    session.complete(SessionSummary::new()).await.unwrap();
    let state = WorkflowState::read(&manager, session.id()).await.unwrap();
    assert!(state.steps().get(&StepIdentity::nth("publish", 1)).unwrap().is_completed());
    assert_eq!(manager.get_head(session.id()).await.unwrap().steps.open, 0);
}

#[tokio::test]
async fn an_end_whose_caller_stops_waiting_is_recorded() {
    let manager = InMemorySessionManager::new();
    let session = session(&manager).await;
    let open = run(&session, "publish", "upload").await;
    drop(open.complete(0));
    // Not even polled once: nothing was recorded, so it is run again.
    let open = run(&session, "publish", "upload").await;
    assert_eq!(open.because(), StepReason::Unknown);
    let mut end = Box::pin(open.complete(0));
    let first_poll = std::future::poll_fn(|context| std::task::Poll::Ready(end.as_mut().poll(context)));
    let _ = first_poll.await;
    drop(end);
    while manager.get_head(session.id()).await.unwrap().steps.completed == 0 {
        tokio::task::yield_now().await;
    }
    let session = next_attempt(&manager, session, Evidence::Shutdown).await;
    replay(&session, "publish", "upload").await;
}

#[tokio::test]
async fn long_values_come_back_byte_for_byte() {
    let manager = InMemorySessionManager::new();
    let session = session(&manager).await;
    let value: Vec<u8> = (0..700_000_u32).flat_map(|n| format!("{n}ä").into_bytes()).chain([0xff]).collect();
    let mut open = run(&session, "long", "x").await;
    let other = run(&session, "other", "y").await;
    for (n, chunk) in value.chunks(100_001).enumerate() {
        open.add_value(chunk).await.unwrap();
        if n == 3 {
            // Records of other steps may lie between the parts.
            run(&session, "between", "z").await.complete(0).await.unwrap();
        }
    }
    let recorded = open.complete(0).await.unwrap();
    other.complete(0).await.unwrap();
    assert_eq!(recorded.value().read_all(&session).await.unwrap(), value);
    let session = next_attempt(&manager, session, Evidence::LockReleased).await;
    assert_eq!(replay(&session, "long", "x").await.value().read_all(&session).await.unwrap(), value);
}

#[tokio::test]
async fn a_value_beyond_the_limit_is_recorded_as_too_long() {
    let manager = InMemorySessionManager::new();
    let session = session(&manager).await;
    let mut open = run(&session, "long", "x").await;
    let chunk = vec![b'x'; 1024 * 1024];
    for _ in 0..16 {
        open.add_value(&chunk).await.unwrap();
    }
    open.add_value(b"x").await.unwrap();
    let end = open.complete(0).await.unwrap().end;
    assert!(end.too_long && end.value_bytes.is_none());
    let session = next_attempt(&manager, session, Evidence::Shutdown).await;
    assert!(replay(&session, "long", "x").await.end.too_long);
}

/// Each record says up to where the log was flushed before it.
async fn flushed(session: &Session) -> u64 {
    session.note("test.note", 1.into(), Durability::Buffered).await.unwrap();
    let last = session.head().tip.revision;
    session.read_log(last - 1).await.unwrap().last().unwrap().envelope.flushed
}

#[tokio::test]
async fn records_of_steps_are_flushed_before_they_are_known() {
    let manager = InMemorySessionManager::new();
    let session = session(&manager).await;
    for exit_code in [0, 1] {
        let mut open = run(&session, "build", "make").await;
        assert_eq!(flushed(&session).await, open.start());
        open.add_value(b"1.4.0").await.unwrap();
        if exit_code == 0 {
            open.complete(exit_code).await.map(drop).unwrap();
        } else {
            open.fail(failure(exit_code)).await.unwrap();
        }
        let end = session.head().tip.revision;
        assert_eq!(flushed(&session).await, end);
    }
}

#[tokio::test]
async fn names_and_keys_beyond_the_limits_are_refused() {
    let manager = InMemorySessionManager::new();
    let session = session(&manager).await;
    for name in ["", "-x", "a\nb"] {
        assert_eq!(refusal(&session, request(name, "x")).await.0, ErrorCode::InvalidArgument, "{name:?}");
    }
    // That is no refusal of a step: others start.
    run(&session, "fine", "x").await.complete(0).await.unwrap();
}

#[tokio::test]
async fn a_step_of_an_ended_session_has_its_error() {
    let manager = InMemorySessionManager::new();
    let session = session(&manager).await;
    let open = run(&session, "build", "make").await;
    manager.cancel_session(session.id(), CancelRequest::new("enough", "me")).await.unwrap();
    assert_eq!(open.complete(0).await.unwrap_err().code(), ErrorCode::Cancelled);
    assert_eq!(begin(&session, request("next", "x")).await.unwrap_err().code(), ErrorCode::Cancelled);
}

#[tokio::test]
async fn a_start_waits_while_paused_but_an_end_does_not() {
    let manager = InMemorySessionManager::new();
    let session = session(&manager).await;
    let open = run(&session, "build", "make").await;
    session.pause(session_core::PauseReason::Requested("lunch".to_owned())).await.unwrap();
    open.complete(0).await.unwrap();
    let started = begin(&session, request("next", "x"));
    tokio::select! {
        biased;
        _ = started => panic!("a step started while the session was paused"),
        () = tokio::task::yield_now() => {}
    }
    session.resume().await.unwrap();
    // The start that was given up used no number, whatever the next one runs.
    assert_eq!(run(&session, "next", "y").await.step().to_string(), "next");
}

#[tokio::test]
async fn the_table_of_a_log_is_that_of_its_owner() {
    let manager = InMemorySessionManager::new();
    let session = session(&manager).await;
    let mut open = run(&session, "a", "1").await;
    open.add_value(b"value").await.unwrap();
    open.complete(0).await.unwrap();
    run(&session, "b", "2").await.fail(failure(3)).await.unwrap();
    run(&session, "c", "3").await.fail(unknown()).await.unwrap();
    let _open = run(&session, "d", "4").await;
    let read = WorkflowState::read(&manager, session.id()).await.unwrap();
    let owned = Steps::of(&session);
    let owned = owned.attempt.state();
    for (step, status) in read.steps().in_order() {
        let mut known = owned.workflow.steps.get(step).unwrap().clone();
        // The owner takes the time before the record is sealed.
        known.started_at = status.started_at;
        if let (StepState::Completed { at, .. }, StepState::Completed { at: found, .. }) =
            (&mut known.state, &status.state)
        {
            *at = *found;
        }
        if let (StepState::Failed(known), StepState::Failed(found)) = (&mut known.state, &status.state) {
            known.duration_ms = found.duration_ms;
        }
        assert_eq!(&known, status, "{step}");
    }
    assert_eq!(read.steps().in_order().len(), 4);
}

#[tokio::test]
async fn the_table_names_open_and_refused_steps_and_the_next_one() {
    let manager = InMemorySessionManager::new();
    let session = session(&manager).await;
    run(&session, "build", "make").await.complete(0).await.unwrap();
    run(&session, "cut", "kill").await.fail(unknown()).await.unwrap();
    let open = run(&session, "publish", "send").await;
    let session = next_attempt(&manager, session, Evidence::LockReleased).await;
    let id = session.id();
    let state = WorkflowState::read(&manager, id).await.unwrap();
    let was_open = |name| state.steps().get(&StepIdentity::nth(name, 1)).unwrap().was_open;
    assert_eq!([was_open("build"), was_open("cut"), was_open("publish")], [false, false, true]);
    assert_eq!((state.next(), state.refusal()), (Some(&StepIdentity::nth("cut", 1)), None));
    drop(open);

    assert_eq!(refusal(&session, request("build", "make -j8")).await.0, ErrorCode::StepChanged);
    let state = WorkflowState::read(&manager, id).await.unwrap();
    let refused = state.refusal().unwrap();
    assert_eq!((refused.name.as_str(), refused.code.as_str()), ("build", "STEP_CHANGED"));
    let session = next_attempt(&manager, session, Evidence::LockReleased).await;
    let state = WorkflowState::read(&manager, id).await.unwrap();
    assert_eq!(state.refusal(), None, "it is that of a former attempt");
    drop(session);
}
