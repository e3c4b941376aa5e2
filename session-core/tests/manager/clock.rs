//! Clocks that jump while a session runs: the time spent running is that which has passed.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::{World, until};
use session_core::*;

/// A clock that the test moves, and a time since the boot that only passes.
#[derive(Debug)]
struct TestClock(Mutex<(i64, Duration)>);

impl TestClock {
    fn pass(&self, time: Duration) {
        let mut now = self.0.lock().unwrap();
        now.0 += i64::try_from(time.as_millis()).unwrap();
        now.1 += time;
    }

    fn jump(&self, millis: i64) {
        self.0.lock().unwrap().0 += millis;
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.lock().unwrap().0).unwrap()
    }

    fn since_boot(&self) -> Option<Duration> {
        Some(self.0.lock().unwrap().1)
    }
}

const SECOND: Duration = Duration::from_secs(1);
const TEN_YEARS: i64 = 10 * 365 * 86_400_000;

async fn world() -> (World, Arc<TestClock>, InMemorySessionManager) {
    let world = World::default();
    // The year 2001, so that a jump back reaches a year before 1970.
    let clock = Arc::new(TestClock(Mutex::new((1_000_000_000_000, Duration::from_secs(7)))));
    let options = ManagerOptions::new().recovery(None).clock(Arc::<TestClock>::clone(&clock));
    let manager = world.process_with(options).await;
    (world, clock, manager)
}

#[tokio::test(start_paused = true)]
async fn a_jump_of_the_clock_is_no_time_spent_running() {
    for jump in [TEN_YEARS, -4 * TEN_YEARS, 2_000, -2_000] {
        let (world, clock, manager) = world().await;
        let id = manager.create_session(SessionConfig::new("test")).await.unwrap();
        let session = manager.start_session(id).await.unwrap();
        for _ in 0..3 {
            clock.pass(5 * SECOND);
            clock.jump(jump);
            clock.pass(5 * SECOND);
            session.note("test.step", serde_json::json!(1), Durability::Flushed).await.unwrap();
        }
        clock.pass(5 * SECOND);
        clock.jump(jump);
        session.complete(SessionSummary::new()).await.unwrap();
        let head = world.process().await.get_head(id).await.unwrap();
        let SessionState::Completed { summary } = head.state() else { panic!("{head:?}") };
        assert_eq!(summary.duration_ms, 35_000, "{jump}");
        let notes = world.log(id).await.iter().filter(|line| line.contains("session.clock_jumped")).count();
        assert_eq!(notes, 4, "{jump}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_right_slowly_is_not_noted() {
    let (world, clock, manager) = world().await;
    let id = manager.create_session(SessionConfig::new("test")).await.unwrap();
    let session = manager.start_session(id).await.unwrap();
    for jump in [1_999, -1_999] {
        clock.pass(SECOND);
        clock.jump(jump);
        session.note("test.step", serde_json::json!(1), Durability::Flushed).await.unwrap();
    }
    assert_eq!(world.kinds(id).await, ["created", "started", "noted", "noted"]);
}

/// Other processes read the time spent running from the log, so the note does not wait for the next event.
#[tokio::test(start_paused = true)]
async fn a_jump_is_noted_while_nothing_else_happens() {
    let (world, clock, manager) = world().await;
    let id = manager.create_session(SessionConfig::new("test")).await.unwrap();
    let session = manager.start_session(id).await.unwrap();
    let progress = session.progress();
    progress.start(4);
    for step in ["a", "b", "c"] {
        clock.pass(10 * SECOND);
        progress.complete_step(step);
        tokio::time::sleep(SECOND).await;
    }
    clock.jump(TEN_YEARS);
    let seen = until(&world, id, |head| head.tip.revision > 5).await;
    assert_eq!(seen.ran(clock.now()), 30 * SECOND);
    let left = manager.get_progress(id).await.unwrap().eta_seconds;
    assert_eq!(left, Some(10), "one of four steps of 10 s is left");
}

#[tokio::test(start_paused = true)]
async fn each_attempt_counts_by_itself() {
    let (world, clock, manager) = world().await;
    let id = manager.create_session(SessionConfig::new("test")).await.unwrap();
    let session = manager.start_session(id).await.unwrap();
    clock.pass(20 * SECOND);
    session.note("test.step", serde_json::json!(1), Durability::Flushed).await.unwrap();
    world.declare_dead(id).await;
    // The clock was wrong before the reboot.
    clock.jump(TEN_YEARS);
    let options = ManagerOptions::new().recovery(None).clock(Arc::<TestClock>::clone(&clock));
    let next = world.process_with(options).await;
    let session = next.resume_session(id).await.unwrap();
    clock.pass(20 * SECOND);
    session.complete(SessionSummary::new()).await.unwrap();
    let head = next.get_head(id).await.unwrap();
    let SessionState::Completed { summary } = head.state() else { panic!("{head:?}") };
    assert_eq!(summary.duration_ms, 40_000);
}
