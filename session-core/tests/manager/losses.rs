//! The ways to lose an owner: what recovery, a resume and a cancel make of each.

use std::sync::Arc;

use async_trait::async_trait;
use session_core::*;

use crate::common::World;

/// Handles every session, and never ends its work.
#[derive(Debug)]
struct Handler;

#[async_trait]
impl WorkHandler for Handler {
    fn handles(&self, _: &Head) -> bool {
        true
    }

    async fn run(&self, session: Session) -> std::result::Result<SessionSummary, WorkError> {
        session.cancellation().cancelled().await;
        Err(WorkError::new("cancelled"))
    }
}

fn options() -> ManagerOptions {
    ManagerOptions::new().recovery(None).handler(Arc::new(Handler))
}

fn executed(exit_code: Option<i32>, signal: Option<i32>, stop: Option<Stop>) -> SessionEvent {
    let command = "make".to_owned();
    SessionEvent::CommandExecuted {
        command,
        exit_code,
        signal,
        duration_ms: 1,
        output_bytes: 0,
        main: true,
        stop,
    }
}

const KEY: Stop = Stop { signal: 2, by: StopSource::Key };
const TERM: Stop = Stop { signal: 15, by: StopSource::Signal };

/// The events before the owner was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    Paused,
    /// SIGTERM reached the owner.
    Term,
    PausedAndTerm,
    Succeeded,
    SucceededWhilePaused,
    /// It succeeded although one of its steps was refused.
    SucceededAfterRefusal,
    Exited3,
    /// The program died of the signal that had reached the owner.
    TermOfBoth,
    StoppedByKey,
    StoppedByTerm,
}

/// The session after its owner died, in a new process.
async fn lost(before: Before) -> (World, SessionId, InMemorySessionManager) {
    let world = World::default();
    let first = world.process().await;
    let id = first.create_session(SessionConfig::new("make")).await.unwrap();
    let session = first.start_session(id).await.unwrap();
    if matches!(before, Before::Paused | Before::PausedAndTerm | Before::SucceededWhilePaused) {
        session.pause(PauseReason::Requested("lunch".to_owned())).await.unwrap();
    }
    if matches!(before, Before::Term | Before::PausedAndTerm | Before::TermOfBoth) {
        session.record_stop_request(15).await.unwrap();
    }
    if before == Before::SucceededAfterRefusal {
        let (name, code) = ("build".to_owned(), "STEP_CHANGED".to_owned());
        let refused =
            SessionEvent::StepRefused { name, code, message: "it would run another command".to_owned() };
        session.end_step(vec![refused], Durability::Flushed).await.unwrap();
    }
    let end = match before {
        Before::Succeeded | Before::SucceededWhilePaused | Before::SucceededAfterRefusal => {
            Some(executed(Some(0), None, None))
        }
        Before::Exited3 => Some(executed(Some(3), None, None)),
        Before::TermOfBoth => Some(executed(None, Some(15), None)),
        Before::StoppedByKey => Some(executed(Some(130), None, Some(KEY))),
        Before::StoppedByTerm => Some(executed(Some(0), None, Some(TERM))),
        Before::Nothing | Before::Paused | Before::Term | Before::PausedAndTerm => None,
    };
    if let Some(end) = end {
        session.record_program_end(end).await.unwrap();
    }
    world.declare_dead(id).await;
    let manager = world.process_with(options()).await;
    (world, id, manager)
}

#[tokio::test(start_paused = true)]
async fn recovery_acts_on_what_no_person_stopped() {
    use OwnerLoss as L;
    use RecoveryOutcome as O;
    use StateName as S;
    for (before, outcome, state, loss, listed, deaths) in [
        (Before::Nothing, O::Resumed, S::Running, None, true, 1),
        (Before::Paused, O::Paused, S::Paused, Some(L::Crashed), false, 1),
        (Before::Term, O::Resumed, S::Running, None, true, 0),
        (Before::PausedAndTerm, O::Paused, S::Paused, Some(L::Interrupted), false, 0),
        (Before::Succeeded, O::Completed, S::Completed, None, true, 1),
        (Before::SucceededWhilePaused, O::Completed, S::Completed, None, false, 1),
        (Before::SucceededAfterRefusal, O::Failed, S::Failed, None, true, 1),
        (Before::Exited3, O::Failed, S::Failed, None, true, 1),
        (Before::TermOfBoth, O::Resumed, S::Running, None, true, 0),
        (Before::StoppedByKey, O::Paused, S::Paused, Some(L::Stopped), false, 0),
        (Before::StoppedByTerm, O::Resumed, S::Running, None, true, 0),
    ] {
        let (_world, id, manager) = lost(before).await;
        let crashed = manager.find_crashed_sessions().await.unwrap();
        assert_eq!(crashed.sessions.iter().any(|found| found.head.id == id), listed, "{before:?}");
        let options = RecoveryOptions::new(RecoveryPolicy::Resume);
        let report = manager.recover(options.clone()).await.unwrap();
        assert_eq!(report.recovered, [(id, outcome)], "{before:?}");
        let head = manager.get_head(id).await.unwrap();
        assert_eq!((head.state().name(), head.lifecycle.loss), (state, loss), "{before:?}");
        assert_eq!(head.deaths, deaths, "{before:?}");
        assert_eq!(head.lifecycle.owner.is_some(), state == S::Running, "{before:?}");
        // Once it is known, nothing more is done to it.
        assert_eq!(manager.recover(options).await.unwrap().recovered, [], "{before:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_person_resumes_everything_that_has_no_result() {
    use ErrorCode as E;
    for (before, expected) in [
        (Before::Nothing, Ok(2)),
        (Before::Paused, Ok(2)),
        (Before::PausedAndTerm, Ok(2)),
        (Before::Term, Ok(2)),
        (Before::TermOfBoth, Ok(2)),
        (Before::StoppedByKey, Ok(2)),
        (Before::StoppedByTerm, Ok(2)),
        (Before::Succeeded, Err(E::IllegalTransition)),
        (Before::SucceededWhilePaused, Err(E::IllegalTransition)),
        (Before::SucceededAfterRefusal, Err(E::WorkFailed)),
        (Before::Exited3, Err(E::WorkFailed)),
    ] {
        let (_world, id, manager) = lost(before).await;
        let resumed = manager.resume_session(id).await;
        let attempt = resumed.as_ref().map(Session::attempt).map_err(SessionError::code);
        assert_eq!(attempt, expected, "{before:?}");
        if let Ok(session) = resumed {
            let life = session.head().lifecycle;
            assert_eq!((life.loss, life.stop_requested, life.program_end), (None, None, None), "{before:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancel_after_the_end_of_the_program_keeps_its_result() {
    for (before, state) in [
        (Before::Nothing, StateName::Cancelled),
        (Before::StoppedByKey, StateName::Cancelled),
        (Before::Succeeded, StateName::Completed),
        (Before::SucceededAfterRefusal, StateName::Failed),
        (Before::Exited3, StateName::Failed),
    ] {
        let (_world, id, manager) = lost(before).await;
        manager.cancel_session(id, CancelRequest::new("enough", "test")).await.unwrap();
        assert_eq!(manager.get_state(id).await.unwrap().name(), state, "{before:?}");
    }
}

/// A signal to the owner and a death of the program by it, further apart than a second, are two events.
#[tokio::test(start_paused = true)]
async fn a_death_long_after_a_stop_signal_is_judged_by_itself() {
    #[derive(Debug)]
    struct Hourly(std::sync::atomic::AtomicI64);
    impl Clock for Hourly {
        fn now(&self) -> Timestamp {
            let hours = self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            Timestamp::from_millis(hours * 3_600_000).unwrap()
        }
    }
    let world = World::default();
    let first = world.process_with(options().clock(Arc::new(Hourly(1.into())))).await;
    let id = first.create_session(SessionConfig::new("make")).await.unwrap();
    let session = first.start_session(id).await.unwrap();
    session.record_stop_request(15).await.unwrap();
    session.record_program_end(executed(None, Some(15), None)).await.unwrap();
    world.declare_dead(id).await;
    let manager = world.process_with(options()).await;
    let report = manager.recover(RecoveryOptions::new(RecoveryPolicy::Resume)).await.unwrap();
    assert_eq!(report.recovered, [(id, RecoveryOutcome::Failed)]);
    assert_eq!(manager.get_head(id).await.unwrap().signal, Some(15));
}

#[tokio::test(start_paused = true)]
async fn nobody_completes_a_session_whose_program_did_not_succeed() {
    for before in [
        Before::Nothing,
        Before::Exited3,
        Before::StoppedByTerm,
        Before::Succeeded,
        Before::SucceededAfterRefusal,
    ] {
        let (_world, id, manager) = lost(before).await;
        let refused = manager.complete_session(id, SessionSummary::new()).await.unwrap_err();
        assert_eq!(refused.code(), ErrorCode::Fenced, "{before:?}");
    }
}
