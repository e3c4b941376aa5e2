//! Typical defects of such systems, at the level of a manager: what was there, what went wrong, what holds here.

use crate::common::World;
use session_core::*;

fn config() -> SessionConfig {
    SessionConfig::new("test")
}

/// A store kept a `finished` flag and nothing else, so everything that was not running read as a success: failed,
/// cancelled and never started sessions were reported as completed. Here each ending is an event of its own.
#[tokio::test(start_paused = true)]
async fn a_failed_cancelled_or_unstarted_session_is_never_completed() {
    let world = World::default();
    let manager = world.process().await;
    let [failed, cancelled, waiting] = [(), (), ()].map(|()| config());
    let failed = manager.create_session(failed).await.unwrap();
    let cancelled = manager.create_session(cancelled).await.unwrap();
    let waiting = manager.create_session(waiting).await.unwrap();
    manager.fail_session(failed, Failure::new(FailureCause::Work, "no")).await.unwrap();
    manager.cancel_session(cancelled, CancelRequest::new("no", "")).await.unwrap();
    let other = world.process().await;
    assert_eq!(other.get_state(failed).await.unwrap().name(), StateName::Failed);
    assert_eq!(other.get_state(cancelled).await.unwrap().name(), StateName::Cancelled);
    assert_eq!(other.get_state(waiting).await.unwrap().name(), StateName::Created);
    for id in [failed, cancelled, waiting] {
        let error = other.complete_session(id, SessionSummary::new()).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::IllegalTransition);
    }
}

/// Crash detection looked only at sessions that were marked as running: a process that died between `create` and
/// `start` left one that was never noticed. Here its creator is responsible for it until it is started.
#[tokio::test(start_paused = true)]
async fn a_crash_before_start_is_noticed() {
    let world = World::default();
    let creator = world.process().await;
    let id = creator.create_session(config()).await.unwrap();
    let queued = creator.create_session(config().queued()).await.unwrap();
    let other = world.process().await;
    assert!(other.find_crashed_sessions().await.unwrap().sessions.is_empty(), "its creator lives");
    drop(creator);
    let crashed = other.find_crashed_sessions().await.unwrap().sessions;
    assert_eq!(
        crashed.iter().map(|crashed| crashed.head.id).collect::<Vec<_>>(),
        [id],
        "a queued one waits for others"
    );
    other.recover(RecoveryOptions::new(RecoveryPolicy::Fail)).await.unwrap();
    assert_eq!(other.get_state(id).await.unwrap().name(), StateName::Failed);
    assert_eq!(other.get_state(queued).await.unwrap().name(), StateName::Created);
}

/// `complete` rewrote the state file without reading it, so a session that had been cancelled a moment before became
/// a success. Here an ended session refuses everything, and its log stays as it is.
#[tokio::test(start_paused = true)]
async fn complete_after_cancel_overwrites_nothing() {
    let world = World::default();
    let manager = world.process().await;
    let id = manager.create_session(config()).await.unwrap();
    let session = manager.start_session(id).await.unwrap();
    manager.cancel_session(id, CancelRequest::new("stop", "")).await.unwrap();
    let log = world.log(id).await;
    assert_eq!(
        manager.complete_session(id, SessionSummary::new()).await.unwrap_err().code(),
        ErrorCode::IllegalTransition
    );
    session.complete(SessionSummary::new()).await.unwrap_err();
    assert_eq!(world.log(id).await, log);
}

/// Progress callbacks went on after the end and turned a failed session back into one at 40 %. Here the tracker and the
/// log refuse.
#[tokio::test(start_paused = true)]
async fn progress_after_the_end_is_refused() {
    let world = World::default();
    let manager = world.process().await;
    let id = manager.create_session(config()).await.unwrap();
    let session = manager.start_session(id).await.unwrap();
    session.complete(SessionSummary::new()).await.unwrap();
    let log = world.log(id).await;
    assert!(session.progress().report(ProgressReport::new().percent(40.0)).is_err());
    session.progress().complete_step("more");
    let event = SessionEvent::ProgressReported { report: ProgressReport::new().percent(40.0) };
    assert_eq!(manager.record_event(id, event).await.unwrap_err().code(), ErrorCode::IllegalTransition);
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    assert_eq!(world.log(id).await, log);
}

/// Steps were counted in the process, so a resumed session began at 0 again. Here they are in the log.
#[tokio::test(start_paused = true)]
async fn the_step_count_survives_a_resume() {
    let world = World::default();
    let first = world.process().await;
    let id = first.create_session(config()).await.unwrap();
    let session = first.start_session(id).await.unwrap();
    session.progress().start(10);
    for step in ["a", "b", "c"] {
        session.progress().complete_step(step);
    }
    session.checkpoint(&3).await.unwrap();
    world.declare_dead(id).await;
    let second = world.process().await;
    let session = second.resume_session(id).await.unwrap();
    session.progress().complete_step("d");
    session.checkpoint(&4).await.unwrap();
    let progress = second.get_progress(id).await.unwrap();
    assert_eq!((progress.completed_steps, progress.percent), (Some(4), Some(40.0)));
}

/// Steps since the last checkpoint are repeated after a crash; they were added to those that the dead attempt had
/// counted, and work of ten steps ended at twelve of ten.
#[tokio::test(start_paused = true)]
async fn repeated_steps_are_counted_once() {
    let world = World::default();
    let first = world.process().await;
    let id = first.create_session(config()).await.unwrap();
    let session = first.start_session(id).await.unwrap();
    session.progress().start(10);
    for step in ["a", "b", "c"] {
        session.progress().complete_step(step);
    }
    session.checkpoint(&3).await.unwrap();
    session.progress().complete_step("d");
    session.progress().complete_step("e");
    session.note("test.flush", 0.into(), Durability::Flushed).await.unwrap();
    world.declare_dead(id).await;
    let second = world.process().await;
    let session = second.resume_session(id).await.unwrap();
    session.progress().start(10);
    let mut shown = vec![session.progress().snapshot().completed_steps];
    for step in ["d", "e", "f"] {
        session.progress().complete_step(step);
        shown.push(session.progress().snapshot().completed_steps);
    }
    assert_eq!(shown, [Some(5), Some(5), Some(5), Some(6)]);
    session.checkpoint(&6).await.unwrap();
    let progress = second.get_progress(id).await.unwrap();
    assert_eq!((progress.completed_steps, progress.percent), (Some(6), Some(60.0)));
}

/// One step of an unknown number was one of one, and the bar was at 100 % from the start.
#[tokio::test(start_paused = true)]
async fn one_step_of_an_unknown_total_is_not_everything() {
    let world = World::default();
    let manager = world.process().await;
    let id = manager.create_session(config()).await.unwrap();
    let session = manager.start_session(id).await.unwrap();
    session.progress().complete_step("first");
    session.checkpoint(&1).await.unwrap();
    let progress = manager.get_progress(id).await.unwrap();
    assert_eq!((progress.completed_steps, progress.percent), (Some(1), None));
}

/// A report of a bare percentage overwrote the whole progress, and with it the current step.
#[tokio::test(start_paused = true)]
async fn a_bare_percentage_keeps_the_current_step() {
    let world = World::default();
    let manager = world.process().await;
    let id = manager.create_session(config()).await.unwrap();
    let session = manager.start_session(id).await.unwrap();
    session.progress().set_step("linking");
    session.checkpoint(&1).await.unwrap();
    session.progress().report(ProgressReport::new().percent(60.0)).unwrap();
    session.checkpoint(&2).await.unwrap();
    let progress = manager.get_progress(id).await.unwrap();
    assert_eq!((progress.step.as_deref(), progress.percent), (Some("linking"), Some(60.0)));
}

/// The manager's map kept every session that was ever cancelled. Here only owned sessions are in memory: what the
/// manager holds is compared through the one thing that it must release, the session's token.
#[tokio::test(start_paused = true)]
async fn an_ended_session_is_not_kept_in_memory() {
    let world = World::default();
    let manager = world.process().await;
    for _ in 0..3 {
        let id = manager.create_session(config()).await.unwrap();
        let session = manager.start_session(id).await.unwrap();
        manager.cancel_session(id, CancelRequest::new("stop", "")).await.unwrap();
        drop(session);
    }
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    assert_eq!(manager.sessions_in_memory(), 0);
    let id = manager.create_session(config()).await.unwrap();
    let _session = manager.start_session(id).await.unwrap();
    assert_eq!(manager.sessions_in_memory(), 1);
}

/// Each pause and resume began a new attempt, so after three breaks recovery failed the session as poison. Here only
/// proven deaths count.
#[tokio::test(start_paused = true)]
async fn three_ordinary_pauses_use_up_no_attempt() {
    let world = World::default();
    let first = world.process().await;
    let id = first.create_session(config()).await.unwrap();
    let session = first.start_session(id).await.unwrap();
    for _ in 0..3 {
        first.pause_session(id, "coffee".to_owned()).await.unwrap();
        session.paused().await.unwrap();
        assert_eq!(first.resume_session(id).await.unwrap().attempt(), 1);
    }
    world.declare_dead(id).await;
    let second = world.process().await;
    second.recover(RecoveryOptions::new(RecoveryPolicy::Pause)).await.unwrap();
    assert_eq!(second.get_state(id).await.unwrap().name(), StateName::Paused);
    assert_eq!(second.resume_session(id).await.unwrap().attempt(), 2);
}

/// A child learned its attempt when it was started; after a pause and a resume the attempt was a later one, and all of
/// its reports were refused. Here the owner keeps its attempt through pauses, and reports reach the log again.
#[tokio::test(start_paused = true)]
async fn reports_are_accepted_after_pause_and_resume() {
    let world = World::default();
    let manager = world.process().await;
    let id = manager.create_session(config()).await.unwrap();
    let session = manager.start_session(id).await.unwrap();
    session.progress().report(ProgressReport::new().percent(10.0)).unwrap();
    manager.pause_session(id, "coffee".to_owned()).await.unwrap();
    session.paused().await.unwrap();
    session.progress().report(ProgressReport::new().percent(20.0)).unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    let paused = manager.get_head(id).await.unwrap().progress;
    assert_eq!(paused.percent, Some(10.0), "what is reported while paused waits for the log");
    assert_eq!(manager.get_progress(id).await.unwrap().percent, Some(20.0), "and is visible here");
    let _session = manager.resume_session(id).await.unwrap();
    session.progress().report(ProgressReport::new().step("again")).unwrap();
    session.checkpoint(&1).await.unwrap();
    let progress = manager.get_progress(id).await.unwrap();
    assert_eq!((progress.percent, progress.step.as_deref()), (Some(20.0), Some("again")));
}
