//! Ownership: fencing, takeover, recovery, shutdown.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::{World, until};
use session_core::backend::SessionStorage as _;
use session_core::*;

fn config() -> SessionConfig {
    SessionConfig::new("test")
}

async fn started(manager: &InMemorySessionManager) -> Session {
    let id = manager.create_session(config()).await.unwrap();
    manager.start_session(id).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_former_owner_that_wakes_up_is_fenced() {
    let world = World::default();
    let (first, second) = (world.process().await, world.process().await);
    let session = started(&first).await;
    let id = session.id();
    world.declare_dead(id).await;
    let _session = second.resume_session(id).await.unwrap();
    let log = world.log(id).await;

    session.progress().complete_step("a late step");
    let calls: Vec<SessionError> = vec![
        session.checkpoint(&1).await.unwrap_err(),
        session.complete(SessionSummary::new()).await.unwrap_err(),
        session.pause(PauseReason::Requested(String::new())).await.unwrap_err(),
        session.fail(Failure::new(FailureCause::Work, "no")).await.unwrap_err(),
        first.save_checkpoint(id, 1.into()).await.unwrap_err(),
        first.complete_session(id, SessionSummary::new()).await.unwrap_err(),
        session.fenced().await,
    ];
    for error in calls {
        assert_eq!(error.code(), ErrorCode::Fenced, "{error}");
    }
    for error in [
        first.fail_session(id, Failure::new(FailureCause::Work, "no")).await.unwrap_err(),
        first.delete_session(id).await.unwrap_err(),
        first.resume_session(id).await.unwrap_err(),
    ] {
        assert_eq!(error.code(), ErrorCode::Conflict, "a stranger now: {error}");
    }
    assert!(session.cancellation().is_cancelled(), "the work is asked to stop");
    assert_eq!(world.log(id).await, log);
}

async fn append_directly(world: &World, id: SessionId, event: SessionEvent) {
    let head = world.storage.head(id).await.unwrap().unwrap();
    crate::faults::append(&world.storage, &head, event).await;
}

/// A virtual machine that was cloned while a session ran: both owners are the same, down to the instance.
#[tokio::test(start_paused = true)]
async fn an_owner_whose_copy_appended_is_fenced() {
    for (number, event) in [
        SessionEvent::CheckpointSaved { state: 1.into(), resumable: true },
        SessionEvent::ProgressReported { report: ProgressReport::new().percent(50.0) },
        SessionEvent::Paused { reason: PauseReason::Requested(String::new()) },
    ]
    .into_iter()
    .enumerate()
    {
        let world = World::default();
        let owner = world.process().await;
        let session = started(&owner).await;
        session.checkpoint(&0).await.unwrap();
        append_directly(&world, session.id(), event).await;
        let error = if number == 0 {
            session.checkpoint(&1).await.unwrap_err()
        } else {
            // It is noticed without an append, too.
            tokio::time::timeout(Duration::from_secs(10), session.fenced()).await.unwrap()
        };
        assert_eq!(error.code(), ErrorCode::Fenced, "{error}");
        assert!(error.to_string().contains("another copy"), "{error}");
        assert!(session.cancellation().is_cancelled());
    }
}

#[tokio::test(start_paused = true)]
async fn events_that_others_may_append_fence_nobody() {
    let world = World::default();
    let owner = world.process().await;
    let session = started(&owner).await;
    let noted = SessionEvent::Noted { kind: "test.note".to_owned(), data: 1.into() };
    append_directly(&world, session.id(), noted).await;
    session.checkpoint(&1).await.unwrap();
    session.complete(SessionSummary::new()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_former_owner_learns_of_its_loss_without_writing() {
    let world = World::default();
    let (first, second) = (world.process().await, world.process().await);
    let session = started(&first).await;
    world.declare_dead(session.id()).await;
    second.recover(RecoveryOptions::new(RecoveryPolicy::Pause)).await.unwrap();
    let error = tokio::time::timeout(Duration::from_secs(5), session.fenced()).await.unwrap();
    assert_eq!(error.code(), ErrorCode::Fenced);
}

#[tokio::test(start_paused = true)]
async fn work_that_lost_its_session_is_dropped_as_fenced() {
    let world = World::default();
    let (first, second) = (world.process().await, world.process().await);
    let error = first
        .run(config(), async |session| {
            world.declare_dead(session.id()).await;
            second.recover(RecoveryOptions::new(RecoveryPolicy::Fail)).await?;
            std::future::pending::<()>().await;
            Ok(())
        })
        .await
        .unwrap_err();
    assert_eq!(error.code(), ErrorCode::Fenced, "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_deleted_session_is_gone_for_its_owner() {
    let world = World::default();
    let manager = world.process().await;
    let session = started(&manager).await;
    let tip = session.head().tip;
    world.storage.delete(session.id(), tip).await.unwrap();
    assert_eq!(session.checkpoint(&1).await.unwrap_err().code(), ErrorCode::NotFound);
    assert_eq!(session.fenced().await.code(), ErrorCode::NotFound);
    assert!(session.cancellation().is_cancelled());
}

#[tokio::test]
async fn of_two_rivals_for_one_orphan_exactly_one_wins() {
    for round in 0..100 {
        let world = World::default();
        let dead = world.process().await;
        let kept = started(&dead).await;
        let id = kept.id();
        world.declare_dead(id).await;
        let rivals = (world.process().await, world.process().await);
        let (a, b) = (rivals.0.clone(), rivals.1.clone());
        let (a, b) = tokio::join!(
            tokio::spawn(async move { a.resume_session(id).await }),
            tokio::spawn(async move { b.resume_session(id).await }),
        );
        let results = [a.unwrap(), b.unwrap()];
        let won = results.iter().filter(|result| result.is_ok()).count();
        assert_eq!(won, 1, "round {round}: {results:?}");
        let lost = results.iter().find_map(|result| result.as_ref().err()).unwrap();
        assert!(matches!(lost.code(), ErrorCode::Conflict | ErrorCode::Fenced), "round {round}: {lost}");
        assert_eq!(world.kinds(id).await, ["created", "started", "interrupted", "resumed"], "round {round}");
    }
}

#[tokio::test(start_paused = true)]
async fn cancelling_an_orphan_also_ends_it() {
    let world = World::default();
    let (first, second) = (world.process().await, world.process().await);
    let kept = started(&first).await;
    let id = kept.id();
    world.declare_dead(id).await;
    let state = second.cancel_session(id, CancelRequest::new("gone", "me")).await.unwrap();
    assert_eq!(state, SessionState::Cancelled { reason: "gone".to_owned() });
    assert_eq!(world.kinds(id).await[2..], ["cancel_requested", "interrupted", "cancelled"]);
}

#[tokio::test(start_paused = true)]
async fn recovery_follows_its_policy_once() {
    for (policy, state, kinds) in [
        (RecoveryPolicy::Fail, StateName::Failed, vec!["interrupted", "failed"]),
        (RecoveryPolicy::Pause, StateName::Paused, vec!["interrupted"]),
        // No handler can repeat the work here.
        (RecoveryPolicy::Resume, StateName::Paused, vec!["interrupted"]),
    ] {
        let world = World::default();
        let first = world.process().await;
        let kept = started(&first).await;
        let id = kept.id();
        let other = started(&first).await;
        world.declare_dead(id).await;
        let manager = world.process().await;
        let dry = manager.recover(RecoveryOptions::new(policy).dry_run()).await.unwrap();
        assert_eq!(dry.recovered.len(), 2, "both are of the dead owner");
        assert_eq!(world.kinds(id).await, ["created", "started"], "a dry run changes nothing");
        let report = manager.recover(RecoveryOptions::new(policy).only(id)).await.unwrap();
        assert_eq!(report.recovered.len(), 1);
        assert_eq!(world.kinds(id).await[2..], kinds);
        assert_eq!(manager.get_state(id).await.unwrap().name(), state);
        assert_eq!(world.kinds(other.id()).await, ["created", "started"], "only the named session");
        let log = world.log(id).await;
        let again = manager.recover(RecoveryOptions::new(policy).only(id)).await.unwrap();
        assert!(again.recovered.is_empty() && again.failed.is_empty(), "{again:?}");
        assert_eq!(world.log(id).await, log);
    }
}

#[tokio::test(start_paused = true)]
async fn a_pending_cancel_beats_every_policy() {
    for policy in [RecoveryPolicy::Fail, RecoveryPolicy::Pause, RecoveryPolicy::Resume] {
        let world = World::default();
        let first = world.process().await;
        let session = started(&first).await;
        session.set_request_handling(RequestHandling::AtNextCall);
        let second = world.process().await;
        second.cancel_session(session.id(), CancelRequest::new("stop", "")).await.unwrap();
        world.declare_dead(session.id()).await;
        let report = second.recover(RecoveryOptions::new(policy)).await.unwrap();
        assert_eq!(report.recovered, [(session.id(), RecoveryOutcome::Cancelled)]);
    }
}

/// A process that takes over a session with a pending cancel ends it instead of starting the work again.
#[tokio::test(start_paused = true)]
async fn a_takeover_with_a_pending_cancel_ends_the_session() {
    let world = World::default();
    let (first, second) = (world.process().await, world.process().await);
    let session = started(&first).await;
    session.set_request_handling(RequestHandling::AtNextCall);
    let id = session.id();
    second.cancel_session(id, CancelRequest::new("stop", "")).await.unwrap();
    world.declare_dead(id).await;
    let error = second.resume_session(id).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Cancelled, "{error}");
    assert_eq!(world.kinds(id).await[2..], ["cancel_requested", "interrupted", "cancelled"]);
}

#[tokio::test(start_paused = true)]
async fn unknown_is_not_dead_unless_a_person_says_so() {
    let world = World::default();
    let (first, second) = (world.process().await, world.process().await);
    let kept = started(&first).await;
    let id = kept.id();
    world.lose_sight_of(id).await;
    assert!(second.find_crashed_sessions().await.unwrap().sessions.is_empty());
    assert!(second.recover(RecoveryOptions::new(RecoveryPolicy::Fail)).await.unwrap().recovered.is_empty());
    assert_eq!(second.resume_session(id).await.unwrap_err().code(), ErrorCode::Conflict);
    let report = second.recover(RecoveryOptions::new(RecoveryPolicy::Pause).force("root")).await.unwrap();
    assert_eq!(report.recovered, [(id, RecoveryOutcome::Paused)]);
    let head = second.get_head(id).await.unwrap();
    assert_eq!(head.deaths, 0, "nothing was proven");
}

#[tokio::test(start_paused = true)]
async fn a_manager_recovers_on_open() {
    let world = World::default();
    let first = world.process().await;
    let kept = started(&first).await;
    let id = kept.id();
    world.declare_dead(id).await;
    let second = world.process_with(ManagerOptions::new()).await;
    assert_eq!(second.get_state(id).await.unwrap().name(), StateName::Paused);
}

#[derive(Debug)]
struct Handler(Arc<Mutex<Vec<u32>>>);

#[async_trait::async_trait]
impl WorkHandler for Handler {
    fn handles(&self, head: &Head) -> bool {
        head.operation == "test"
    }

    async fn run(&self, session: Session) -> Result<SessionSummary, WorkError> {
        self.0.lock().unwrap().push(session.attempt());
        Ok(SessionSummary::new().message("repeated"))
    }
}

#[tokio::test(start_paused = true)]
async fn a_registered_handler_repeats_the_work() {
    let world = World::default();
    let first = world.process().await;
    let kept = started(&first).await;
    let id = kept.id();
    world.declare_dead(id).await;
    let attempts = Arc::new(Mutex::new(Vec::new()));
    let handler = Arc::new(Handler(Arc::clone(&attempts)));
    let options = ManagerOptions::new().recovery(Some(RecoveryPolicy::Resume)).handler(handler);
    let second = world.process_with(options).await;
    let head = until(&world, id, |head| head.state().is_final()).await;
    assert_eq!(head.state().name(), StateName::Completed);
    assert_eq!(*attempts.lock().unwrap(), [2]);
    drop(second);
}

#[tokio::test(start_paused = true)]
async fn repeated_deaths_fail_a_session_unless_it_progressed() {
    let world = World::default();
    let id = world.process().await.create_session(config().queued()).await.unwrap();
    let _session = world.process().await.start_session(id).await.unwrap();
    for deaths in 1..=4 {
        world.declare_dead(id).await;
        let manager = world.process().await;
        manager.recover(RecoveryOptions::new(RecoveryPolicy::Pause)).await.unwrap();
        let head = manager.get_head(id).await.unwrap();
        if deaths == 4 {
            let SessionState::Failed { error } = head.state() else { panic!("{:?}", head.state()) };
            assert_eq!(error.cause, FailureCause::Crash);
            return;
        }
        assert_eq!(head.state().name(), StateName::Paused, "after {deaths} deaths");
        let session = manager.resume_session(id).await.unwrap();
        if deaths == 1 {
            session.checkpoint(&"got somewhere").await.unwrap();
        }
    }
    panic!("a poison session would be resumed for ever");
}

#[tokio::test(start_paused = true)]
async fn shutdown_releases_every_session_without_a_death() {
    let world = World::default();
    let first = world.process().await;
    let session = started(&first).await;
    session.progress().complete_step("one");
    first.shutdown().await.unwrap();
    let head = world.storage.head(session.id()).await.unwrap().unwrap();
    assert_eq!((head.state().name(), head.deaths), (StateName::Paused, 0));
    assert_eq!(head.progress.completed_steps, Some(1), "what was reported is in the log");
    assert!(head.lifecycle.owner.is_none());
    assert_eq!(session.checkpoint(&1).await.unwrap_err().code(), ErrorCode::Closed);
    assert_eq!(first.create_session(config()).await.unwrap_err().code(), ErrorCode::Closed);
    let second = world.process().await;
    assert_eq!(second.resume_session(session.id()).await.unwrap().attempt(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_manager_without_handles_owns_nothing() {
    let world = World::default();
    let first = world.process().await;
    let kept = started(&first).await;
    let id = kept.id();
    drop((kept, first));
    let second = world.process().await;
    // The sync task of a session wakes once more before it finds that its manager is gone.
    tokio::time::timeout(Duration::from_secs(60), async {
        while second.find_crashed_sessions().await.unwrap().sessions.is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .expect("the session looks owned for ever");
    assert_eq!(second.resume_session(id).await.unwrap().attempt(), 2);
}

#[tokio::test]
async fn of_twenty_creators_racing_for_four_places_four_win() {
    let world = World::default();
    let limit = NonZeroUsize::new(4).unwrap();
    let mut races = Vec::new();
    for _ in 0..20 {
        let manager = world.process_with(ManagerOptions::new().max_sessions(limit)).await;
        races.push(tokio::spawn(
            async move { manager.create_session(config()).await.map(|id| (manager, id)) },
        ));
    }
    let mut won = Vec::new();
    for race in races {
        match race.await.unwrap() {
            Ok(made) => won.push(made),
            Err(error) => {
                assert_eq!(error.code(), ErrorCode::MaxSessions);
                let text = "Maximum 4 sessions supported. Destroy a session to create a new one.";
                assert_eq!(error.to_string(), text);
            }
        }
    }
    assert_eq!(won.len(), 4);
    let (manager, id) = won.pop().unwrap();
    manager.fail_session(id, Failure::new(FailureCause::Work, "free a place")).await.unwrap();
    manager.create_session(config()).await.unwrap();
    assert_eq!(manager.create_session(config()).await.unwrap_err().code(), ErrorCode::MaxSessions);
}

/// A session that waits unowned for a person once kept a place for ever.
#[tokio::test(start_paused = true)]
async fn an_unowned_session_needs_a_place_again_to_resume() {
    let world = World::default();
    let one = ManagerOptions::new().max_sessions(NonZeroUsize::MIN).recovery(None);
    let (first, second) = (world.process_with(one.clone()).await, world.process_with(one).await);
    let unlimited = world.process_with(ManagerOptions::new().recovery(None)).await;
    let paused = started(&first).await;
    let id = paused.id();
    paused.pause(PauseReason::Requested("later".to_owned())).await.unwrap();
    let refused = async |manager: &InMemorySessionManager| {
        assert_eq!(manager.create_session(config()).await.unwrap_err().code(), ErrorCode::MaxSessions);
    };
    refused(&second).await;
    // Its death frees no place before a record says so.
    world.declare_dead(id).await;
    refused(&second).await;
    second.recover(RecoveryOptions::new(RecoveryPolicy::Pause)).await.unwrap();
    let other = second.create_session(config()).await.unwrap();
    let before = second.get_head(id).await.unwrap();
    assert_eq!(second.resume_session(id).await.unwrap_err().code(), ErrorCode::MaxSessions);
    assert_eq!(second.get_head(id).await.unwrap(), before, "a refused resume changed the session");
    let _kept = unlimited.resume_session(id).await.expect("the limit belongs to the manager");
    // One that holds its place resumes whatever the others do.
    world.declare_dead(id).await;
    let _started = second.start_session(other).await.unwrap();
    let resumed = second.resume_session(id).await;
    assert!(resumed.is_ok(), "{resumed:?}");
}

#[tokio::test(start_paused = true)]
async fn unowned_sessions_are_deleted_and_owned_ones_are_not() {
    let world = World::default();
    let (first, second) = (world.process().await, world.process().await);
    let kept = started(&first).await;
    let id = kept.id();
    for manager in [&first, &second] {
        assert_eq!(manager.delete_session(id).await.unwrap_err().code(), ErrorCode::Conflict);
    }
    world.declare_dead(id).await;
    second.delete_session(id).await.unwrap();
    assert_eq!(second.get_state(id).await.unwrap_err().code(), ErrorCode::NotFound);
}

#[tokio::test(start_paused = true)]
async fn cleanup_removes_what_ended_long_ago() {
    #[derive(Debug)]
    struct Later(Mutex<i64>);
    impl Clock for Later {
        fn now(&self) -> Timestamp {
            Timestamp::from_millis(1_800_000_000_000 + *self.0.lock().unwrap()).unwrap()
        }
    }
    let clock = Arc::new(Later(Mutex::new(0)));
    let world = World::default();
    let options = ManagerOptions::new().clock(Arc::clone(&clock) as Arc<dyn Clock>);
    let manager = world.process_with(options).await;
    let old = manager.run(config(), async |_| Ok(())).await.unwrap().id;
    let kept = started(&manager).await;
    let running = kept.id();
    let long = started(&manager).await;
    *clock.0.lock().unwrap() = 8 * 24 * 3600 * 1000;
    let fresh = manager.run(config(), async |_| Ok(())).await.unwrap().id;
    // As old as the first, and ended just now.
    long.complete(SessionSummary::new()).await.unwrap();
    assert_eq!(manager.cleanup(None).await.unwrap(), [old]);
    let left: Vec<_> = manager.list_sessions(SessionFilter::all()).await.unwrap().heads;
    let mut ids: Vec<_> = left.iter().map(|head| head.id).collect();
    let mut expected = vec![running, long.id(), fresh];
    ids.sort();
    expected.sort();
    assert_eq!(ids, expected);
}

#[tokio::test(start_paused = true)]
async fn unnamed_sessions_get_automatic_names() {
    let world = World::default();
    let manager = world.process().await;
    let mut names = Vec::new();
    for _ in 0..3 {
        let id = manager.create_session(config()).await.unwrap();
        names.push(manager.get_head(id).await.unwrap().name);
    }
    let day = &names[0][..19];
    assert!(day.starts_with("feature-20") && day.ends_with('-'), "{day}");
    assert_eq!(names, [format!("{day}001"), format!("{day}002"), format!("{day}003")]);
}

#[tokio::test(start_paused = true)]
async fn unnamed_sessions_may_be_named_after_a_program() {
    let world = World::default();
    let manager = world.process_with(ManagerOptions::new().name_after("/usr/bin/make")).await;
    let mut names = Vec::new();
    for chosen in [None, Some("make-7"), None, Some("make-x"), Some("makeup-9"), None] {
        let config = chosen.map_or_else(config, |name| config().name(name));
        let id = manager.create_session(config).await.unwrap();
        names.push(manager.get_head(id).await.unwrap().name);
    }
    assert_eq!(names, ["make-1", "make-7", "make-8", "make-x", "makeup-9", "make-9"]);
}

/// A session's own recovery policy applies, unless the recovery overrules it.
#[tokio::test(start_paused = true)]
async fn the_policy_of_a_session_applies_unless_overruled() {
    for (own, given, overruled, expected) in [
        (Some(RecoveryPolicy::Fail), RecoveryPolicy::Pause, false, StateName::Failed),
        (Some(RecoveryPolicy::Fail), RecoveryPolicy::Pause, true, StateName::Paused),
        (Some(RecoveryPolicy::Pause), RecoveryPolicy::Fail, false, StateName::Paused),
        (None, RecoveryPolicy::Fail, false, StateName::Failed),
    ] {
        let world = World::default();
        let first = world.process().await;
        let mut config = SessionConfig::new("test");
        config.recovery = own;
        let id = first.create_session(config).await.unwrap();
        let _session = first.start_session(id).await.unwrap();
        world.declare_dead(id).await;
        let second = world.process().await;
        let options = RecoveryOptions::new(given);
        let options = if overruled { options.overruling() } else { options };
        second.recover(options).await.unwrap();
        let state = second.get_state(id).await.unwrap().name();
        assert_eq!(state, expected, "{own:?}, {given:?}, overruled: {overruled}");
        // The same policy does not touch a session that waits to be resumed.
        let before = world.log(id).await;
        second.recover(RecoveryOptions::new(RecoveryPolicy::Pause)).await.unwrap();
        assert_eq!(world.log(id).await == before, own != Some(RecoveryPolicy::Fail) || !overruled);
    }
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_with_the_session_or_a_requested_state() {
    let world = World::default();
    let (owner, other) = (world.process().await, world.process().await);
    let id = owner.create_session(SessionConfig::new("test")).await.unwrap();
    let session = owner.start_session(id).await.unwrap();
    let paused = other.wait_for(id, &[StateName::Paused]);
    let pause = session.pause(PauseReason::Limit("enough".into()));
    let (paused, done) = tokio::join!(paused, pause);
    done.unwrap();
    assert_eq!(paused.unwrap().state().name(), StateName::Paused);
    let ended = other.wait_for(id, &[]);
    let end = async {
        session.resume().await.unwrap();
        session.fail(Failure::new(FailureCause::Work, "no")).await.unwrap();
    };
    let (ended, ()) = tokio::join!(ended, end);
    assert_eq!(ended.unwrap().state().name(), StateName::Failed);
    // Waiting for a state that will never come returns at the end of the session.
    assert_eq!(other.wait_for(id, &[StateName::Paused]).await.unwrap().state().name(), StateName::Failed);
    other.delete_session(id).await.unwrap();
    assert_eq!(other.wait_for(id, &[]).await.unwrap_err().code(), ErrorCode::NotFound);
}
