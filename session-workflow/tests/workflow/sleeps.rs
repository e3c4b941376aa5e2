//! Sleeps: never early, once, whatever happens to the clock and to the owner.

use std::future::IntoFuture as _;
use std::time::Duration;

use session_core::{
    CancelRequest, ErrorCode, Evidence, Session, SessionEvent, SessionManager as _, Timestamp,
};
use session_workflow::SessionSteps as _;
use tokio::task::JoinHandle;

use super::{TestClock, events, manager_with, next_attempt, retry, session, until};

const HOUR: Duration = Duration::from_secs(3600);
const MILLISECOND: Duration = Duration::from_millis(1);

type Slept = JoinHandle<Result<(), session_workflow::StepError>>;

/// Begins to sleep, and waits until that is recorded.
async fn begin(session: &Session, duration: Duration) -> Slept {
    let work = session.clone();
    let sleeping = tokio::spawn(async move { work.sleep("cool-down", duration).await });
    until(session, |head| head.waits.open == 1).await;
    sleeping
}

/// Lets more time pass than the clock is left alone for.
async fn settle() {
    tokio::time::sleep(Duration::from_secs(3)).await;
}

#[tokio::test(start_paused = true)]
async fn a_sleep_is_never_early_and_ends_once() {
    let clock = TestClock::new();
    let manager = manager_with(&clock);
    let session = session(&manager).await;
    let sleeping = begin(&session, HOUR).await;
    assert!(session.head().is_waiting());
    clock.add(HOUR);
    settle().await;
    assert!(!sleeping.is_finished(), "milliseconds are rounded down");
    clock.add(MILLISECOND);
    sleeping.await.unwrap().unwrap();
    assert!(!session.head().is_waiting());
    let session = next_attempt(&manager, session, Evidence::LockReleased).await;
    clock.set_back(2 * HOUR);
    session.sleep("cool-down", HOUR).await.unwrap();
    assert_eq!(events(&manager, session.id(), "sleep_ended").await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_moves_the_wake_up() {
    let clock = TestClock::new();
    let manager = manager_with(&clock);
    let session = session(&manager).await;
    let sleeping = begin(&session, HOUR).await;
    clock.set_back(HOUR);
    clock.add(HOUR + MILLISECOND);
    settle().await;
    assert!(!sleeping.is_finished(), "it was set back by an hour");
    // As after a suspend: only the clock of the wall has gone on.
    clock.add(HOUR);
    sleeping.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_later_attempt_sleeps_for_the_rest() {
    let clock = TestClock::new();
    let manager = manager_with(&clock);
    let mut session = session(&manager).await;
    for evidence in [Evidence::LockReleased, Evidence::Shutdown] {
        std::mem::forget(begin(&session, HOUR).await);
        clock.add(HOUR / 4);
        session = next_attempt(&manager, session, evidence).await;
    }
    let sleeping = begin(&session, HOUR).await;
    clock.add(HOUR / 2);
    settle().await;
    assert!(!sleeping.is_finished());
    clock.add(MILLISECOND);
    sleeping.await.unwrap().unwrap();
    let until: Vec<Timestamp> = events(&manager, session.id(), "sleep_started")
        .await
        .into_iter()
        .filter_map(
            |event| if let SessionEvent::SleepStarted { until, .. } = event { Some(until) } else { None },
        )
        .collect();
    assert_eq!(until.len(), 3);
    assert!(until.iter().all(|at| *at == until[0]), "the wake-up time is recorded once: {until:?}");
}

#[tokio::test(start_paused = true)]
async fn a_wake_up_that_passed_meanwhile_is_immediate() {
    let clock = TestClock::new();
    let manager = manager_with(&clock);
    let session = session(&manager).await;
    std::mem::forget(begin(&session, HOUR).await);
    clock.add(2 * HOUR);
    let session = next_attempt(&manager, session, Evidence::LockReleased).await;
    let started = tokio::time::Instant::now();
    session.sleep("cool-down", HOUR).await.unwrap();
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_retry_does_not_sleep_again() {
    let clock = TestClock::new();
    let manager = manager_with(&clock);
    let session = session(&manager).await;
    let sleeping = begin(&session, HOUR).await;
    clock.add(HOUR + MILLISECOND);
    sleeping.await.unwrap().unwrap();
    let session = retry(&manager, session).await;
    session.sleep("cool-down", HOUR).await.unwrap();
    // The next use of the name is another one.
    let next = begin(&session, HOUR).await;
    settle().await;
    assert!(!next.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_sleep_until_a_time_that_has_passed_is_over() {
    let clock = TestClock::new();
    let manager = manager_with(&clock);
    let session = session(&manager).await;
    session.sleep_until("start", Timestamp::from_millis(1_700_000_000_000).unwrap()).await.unwrap();
    assert_eq!(session.head().waits.open, 0);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_session_ends_the_sleep() {
    let clock = TestClock::new();
    let manager = manager_with(&clock);
    let session = session(&manager).await;
    let (slept, ()) = tokio::join!(session.sleep("cool-down", HOUR).into_future(), async {
        until(&session, |head| head.waits.open == 1).await;
        manager.cancel_session(session.id(), CancelRequest::new("enough", "me")).await.unwrap();
    });
    assert_eq!(slept.unwrap_err().code(), ErrorCode::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn a_sleep_that_is_given_up_is_continued_by_the_next_use() {
    let clock = TestClock::new();
    let manager = manager_with(&clock);
    let session = session(&manager).await;
    let sleeping = begin(&session, HOUR).await;
    sleeping.abort();
    until(&session, |head| head.waits.open == 0).await;
    clock.add(HOUR + MILLISECOND);
    let started = tokio::time::Instant::now();
    session.sleep("cool-down", HOUR).await.unwrap();
    assert_eq!(started.elapsed(), Duration::ZERO, "it is the same sleep");
}
