//! `run` and `run_or_resume`: every way in which work can end or be found, and the log of it.

use std::time::Duration;

use crate::common::{World, until};
use session_core::*;
use tokio::sync::oneshot;

fn config() -> SessionConfig {
    SessionConfig::new("test")
}

#[tokio::test(start_paused = true)]
async fn work_that_returns_ok_is_completed_with_its_result() {
    let world = World::default();
    let manager = world.process().await;
    let report = manager
        .run(config().name("sums"), async |session| {
            session.start_iteration().await?;
            session.complete_iteration(Changes::totals(3, 10, 4, 1)).await?;
            Ok(41 + 1)
        })
        .await
        .unwrap();
    assert!(report.is_completed());
    assert_eq!(report.result::<i32>().unwrap(), 42);
    let SessionState::Completed { summary } = &report.state else { panic!("{:?}", report.state) };
    assert_eq!((summary.iterations, summary.files_changed, summary.lines_added), (1, 3, 10));
    assert_eq!(
        world.kinds(report.id).await,
        ["created", "started", "iteration_started", "iteration_completed", "completed"]
    );
}

/// A program that had ended well was run again after a crash between its end in the log and the session's.
#[tokio::test(start_paused = true)]
async fn the_last_event_and_the_ending_are_one_batch_even_when_paused() {
    let world = World::default();
    let manager = world.process().await;
    let id = manager.create_session(config()).await.unwrap();
    let session = manager.start_session(id).await.unwrap();
    session.pause(PauseReason::Requested("lunch".into())).await.unwrap();
    let executed = || SessionEvent::CommandExecuted {
        command: "make".into(),
        exit_code: Some(0),
        signal: None,
        duration_ms: 1,
        output_bytes: 0,
        main: false,
        stop: None,
    };
    let state = SessionEvent::Paused { reason: PauseReason::Requested(String::new()) };
    let error = session.end(Some(state), Ending::Cancelled("no".into())).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidArgument);
    session.end(Some(executed()), Ending::Completed(SessionSummary::new())).await.unwrap();
    assert_eq!(
        world.kinds(id).await,
        ["created", "started", "paused", "resumed", "command_executed", "completed"]
    );
    let SessionState::Completed { summary } = manager.get_state(id).await.unwrap() else { panic!() };
    assert_eq!(summary.commands, 1);
    // Records of one batch are sealed before any of them is known to be flushed.
    let log = world.log(id).await;
    assert!(log[3..].iter().all(|line| line.contains("\"flushed\":3")), "{log:?}");
}

#[tokio::test(start_paused = true)]
async fn an_error_fails_the_session_with_its_chain_of_causes() {
    let world = World::default();
    let manager = world.process().await;
    let report = manager
        .run(config(), async |_| {
            let broken: Result<u8, _> = "x".parse::<u8>();
            broken?;
            Ok(())
        })
        .await
        .unwrap();
    let SessionState::Failed { error } = &report.state else { panic!("{:?}", report.state) };
    assert_eq!(error.cause, FailureCause::Work);
    assert_eq!(error.message, "invalid digit found in string");
    assert_eq!(report.completed().unwrap_err().code(), ErrorCode::WorkFailed);
}

/// An error like those of `anyhow`: it converts to a boxed error, and is none itself.
struct Report(&'static str);

impl From<Report> for Box<dyn std::error::Error + Send + Sync> {
    fn from(report: Report) -> Self {
        report.0.into()
    }
}

/// `?` only converted types that implement `Error`, so `anyhow::Error` needed a conversion by hand at each call.
#[tokio::test(start_paused = true)]
async fn everything_that_converts_to_a_boxed_error_fails_work() {
    let world = World::default();
    let manager = world.process().await;
    let fails = |call: usize| -> Result<(), WorkError> {
        let boxed: Box<dyn std::error::Error + Send + Sync> = "a boxed error".into();
        match call {
            0 => Err(Report("a report"))?,
            1 => Err(boxed)?,
            2 => Err("a text")?,
            3 => Err(String::from("a string"))?,
            _ => Err(WorkError::new("its own error"))?,
        }
        Ok(())
    };
    for (call, message) in
        ["a report", "a boxed error", "a text", "a string", "its own error"].iter().enumerate()
    {
        let report = manager
            .run(config(), async |session| {
                session.checkpoint(&call).await?;
                fails(call)?;
                Ok(())
            })
            .await
            .unwrap();
        let SessionState::Failed { error } = &report.state else { panic!("{:?}", report.state) };
        assert_eq!(error.message, *message);
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_fails_the_session_but_not_the_program() {
    let world = World::default();
    let manager = world.process().await;
    let report = manager
        .run(config(), async |session: Session| -> Result<(), WorkError> {
            session.checkpoint(&1).await?;
            panic!("out of cheese: {}", session.attempt());
        })
        .await
        .unwrap();
    let SessionState::Failed { error } = &report.state else { panic!("{:?}", report.state) };
    assert_eq!((error.cause, error.message.as_str()), (FailureCause::Panic, "out of cheese: 1"));
}

#[tokio::test(start_paused = true)]
async fn an_expired_deadline_fails_the_session_without_paused_time() {
    let world = World::default();
    let manager = world.process().await;
    let config = config().deadline(Duration::from_secs(60));
    let other = world.process().await;
    let id = SessionId::from_key("slow");
    let resumes = async {
        until(&world, id, |head| matches!(head.state(), SessionState::Paused { .. })).await;
        tokio::time::sleep(Duration::from_secs(3600)).await;
        other.request_resume(id).await.unwrap();
    };
    let work = manager.run_or_resume("slow", config, async |session| {
        tokio::time::sleep(Duration::from_secs(30)).await;
        session.pause(PauseReason::Limit("spent".to_owned())).await?;
        session.resumed().await?;
        tokio::time::sleep(Duration::from_secs(29)).await;
        session.checkpoint(&"still in time").await?;
        std::future::pending::<()>().await;
        Ok(())
    });
    let (report, ()) = tokio::join!(work, resumes);
    let report = report.unwrap();
    let SessionState::Failed { error } = &report.state else { panic!("{:?}", report.state) };
    assert_eq!(error.cause, FailureCause::Timeout);
    assert!(world.kinds(id).await.contains(&"checkpoint_saved"), "an hour's pause spent the deadline");
    assert_eq!(report.completed().unwrap_err().code(), ErrorCode::Timeout);
}

#[tokio::test(start_paused = true)]
async fn dropped_work_is_interrupted_and_resumes_at_its_checkpoint() {
    let world = World::default();
    let manager = world.process().await;
    let id = SessionId::from_key("drop");
    let (reached, wait) = oneshot::channel();
    let run = manager.run_or_resume("drop", config(), async move |session| {
        session.checkpoint(&7u32).await?;
        reached.send(()).ok();
        std::future::pending::<()>().await;
        Ok(())
    });
    tokio::select! {
        _ = run => unreachable!("the work never returns"),
        _ = wait => {}
    }
    let head = until(&world, id, |head| matches!(head.state(), SessionState::Paused { .. })).await;
    assert_eq!(head.deaths, 0, "being dropped is no death");
    assert!(head.lifecycle.owner.is_none());

    let report = manager
        .run_or_resume("drop", config(), async |session| {
            Ok((session.attempt(), session.last_checkpoint::<u32>()?))
        })
        .await
        .unwrap();
    assert_eq!(report.result::<(u32, Option<u32>)>().unwrap(), (2, Some(7)));
}

#[tokio::test(start_paused = true)]
async fn a_cancel_from_another_process_reaches_the_token() {
    let world = World::default();
    let (manager, stranger) = (world.process().await, world.process().await);
    let id = SessionId::from_key("cancel");
    let cancels = async {
        until(&world, id, |head| matches!(head.state(), SessionState::Running { .. })).await;
        let state = stranger.cancel_session(id, CancelRequest::new("enough", "a stranger")).await.unwrap();
        assert!(
            matches!(state, SessionState::Running { .. }),
            "the owner answers, not the stranger: {state:?}"
        );
    };
    let work = manager.run_or_resume("cancel", config(), async |session| {
        session.cancellation().cancelled().await;
        session.cancellation().check()?;
        Ok(())
    });
    let (report, ()) = tokio::join!(work, cancels);
    assert_eq!(report.unwrap().state, SessionState::Cancelled { reason: "enough".to_owned() });
    assert_eq!(world.kinds(id).await, ["created", "started", "cancel_requested", "cancelled"]);
}

#[tokio::test(start_paused = true)]
async fn work_that_finished_before_it_saw_the_cancel_is_completed() {
    let world = World::default();
    let (manager, stranger) = (world.process().await, world.process().await);
    let report = manager
        .run(config(), async |session| {
            stranger.cancel_session(session.id(), CancelRequest::new("late", "")).await?;
            Ok("done")
        })
        .await
        .unwrap();
    assert!(report.is_completed(), "{:?}", report.state);
}

#[tokio::test(start_paused = true)]
async fn a_forced_cancel_does_not_wait_for_the_work() {
    let world = World::default();
    let (manager, stranger) = (world.process().await, world.process().await);
    let report = manager
        .run(config(), async |session| {
            stranger.cancel_session(session.id(), CancelRequest::new("now", "").force()).await?;
            std::future::pending::<()>().await;
            Ok(())
        })
        .await
        .unwrap();
    assert_eq!(report.state, SessionState::Cancelled { reason: "now".to_owned() });
}

#[tokio::test(start_paused = true)]
async fn a_pause_takes_effect_at_the_next_call_until_resumed() {
    let world = World::default();
    let (manager, stranger) = (world.process().await, world.process().await);
    let id = SessionId::from_key("pause");
    let pauses = async {
        until(&world, id, |head| head.checkpoint.is_some()).await;
        stranger.pause_session(id, "lunch".to_owned()).await.unwrap();
        let head = until(&world, id, |head| matches!(head.state(), SessionState::Paused { .. })).await;
        assert!(head.lifecycle.owner.is_some(), "a pause does not give the session away");
        assert_eq!(head.checkpoint, Some(3), "a call of a paused work waits");
        assert_eq!(
            stranger.resume_session(id).await.unwrap_err().code(),
            ErrorCode::Conflict,
            "its owner lives"
        );
        stranger.request_resume(id).await.unwrap();
    };
    let work = manager.run_or_resume("pause", config(), async |session| {
        session.checkpoint(&1).await?;
        until(&world, id, |head| head.lifecycle.requests.pause.is_some()).await;
        session.checkpoint(&2).await?;
        Ok(session.attempt())
    });
    let (report, ()) = tokio::join!(work, pauses);
    let report = report.unwrap();
    assert_eq!(report.result::<u32>().unwrap(), 1, "the attempt is kept through a pause");
    let kinds = world.kinds(id).await;
    let expected =
        ["created", "started", "checkpoint_saved", "pause_requested", "paused", "resume_requested"];
    assert_eq!(kinds[..6], expected);
    assert_eq!(kinds[6..], ["resumed", "checkpoint_saved", "completed"]);
}

#[tokio::test(start_paused = true)]
async fn a_cancel_wakes_paused_work() {
    let world = World::default();
    let (manager, stranger) = (world.process().await, world.process().await);
    let id = SessionId::from_key("pause");
    let cancels = async {
        until(&world, id, |head| matches!(head.state(), SessionState::Paused { .. })).await;
        stranger.cancel_session(id, CancelRequest::new("never mind", "")).await.unwrap();
    };
    let work = manager.run_or_resume("pause", config(), async |session| {
        stranger.pause_session(id, "wait".to_owned()).await?;
        session.checkpoint(&1).await?;
        Ok(())
    });
    let (report, ()) = tokio::join!(work, cancels);
    assert_eq!(report.unwrap().state, SessionState::Cancelled { reason: "never mind".to_owned() });
}

#[tokio::test(start_paused = true)]
async fn an_owner_not_known_dead_is_a_conflict_for_the_same_key() {
    let world = World::default();
    let (first, second) = (world.process().await, world.process().await);
    first
        .run_or_resume("key", config(), async |session| {
            for manager in [&first, &second] {
                let error = manager.run_or_resume("key", config(), async |_| Ok(())).await.unwrap_err();
                assert_eq!(error.code(), ErrorCode::Conflict, "{error}");
            }
            world.lose_sight_of(session.id()).await;
            let error = second.run_or_resume("key", config(), async |_| Ok(())).await.unwrap_err();
            assert_eq!(error.code(), ErrorCode::Conflict, "unknown is not dead: {error}");
            Ok(())
        })
        .await
        .unwrap()
        .completed()
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_completed_session_is_returned_without_calling_the_work() {
    let world = World::default();
    let manager = world.process().await;
    let first = manager.run_or_resume("once", config(), async |_| Ok("made")).await.unwrap();
    let again = world
        .process()
        .await
        .run_or_resume("once", config(), async |_| -> Result<(), WorkError> { panic!("called again") })
        .await
        .unwrap();
    assert_eq!(again.id, first.id);
    assert_eq!(again.result::<String>().unwrap(), "made");
}

#[tokio::test(start_paused = true)]
async fn failed_and_cancelled_sessions_are_retried_as_new_ones() {
    let world = World::default();
    let manager = world.process().await;
    let failed = manager
        .run_or_resume("again", config(), async |_| -> Result<(), _> { Err(WorkError::new("no")) })
        .await
        .unwrap();
    let cancelled = manager
        .run_or_resume("again", config(), async |session| {
            manager.cancel_session(session.id(), CancelRequest::new("stop", "")).await?;
            session.cancellation().cancelled().await;
            Err::<(), _>(WorkError::new("stopped"))
        })
        .await
        .unwrap();
    let done = manager.run_or_resume("again", config(), async |_| Ok(())).await.unwrap();
    assert_eq!(failed.id, SessionId::from_key("again"));
    assert_eq!(cancelled.head.retry_of, Some(failed.id));
    assert_eq!(done.head.retry_of, Some(cancelled.id));
    assert!(done.is_completed());
    let same = manager.run_or_resume("again", config(), async |_| Ok(())).await.unwrap();
    assert_eq!(same.id, done.id);
}

/// Logs of older versions have such pauses. They continue like any other: the answer is in the log.
#[tokio::test(start_paused = true)]
async fn work_that_was_paused_for_input_continues_with_its_key() {
    let world = World::default();
    let id = SessionId::from_key("ask");
    let ask = async |session: Session| {
        session.pause(PauseReason::AwaitingInput("which colour?".to_owned())).await?;
        session.resumed().await?;
        Ok(())
    };
    let first = world.process().await;
    tokio::select! {
        _ = first.run_or_resume("ask", config(), ask) => unreachable!("nothing resumes it"),
        _ = until(&world, id, |head| matches!(head.state(), SessionState::Paused { .. })) => {}
    }
    until(&world, id, |head| head.lifecycle.owner.is_none()).await;
    let second = world.process().await;
    let report = second.run_or_resume("ask", config(), async |session| Ok(session.attempt())).await.unwrap();
    assert_eq!(report.result::<u32>().unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn two_processes_with_the_same_key_run_the_work_once() {
    for _ in 0..20 {
        let world = World::default();
        let calls = std::sync::atomic::AtomicU32::new(0);
        let one = async |_: Session| {
            calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok(())
        };
        let (first, second) = (world.process().await, world.process().await);
        let both = tokio::join!(
            first.run_or_resume("race", config(), one),
            second.run_or_resume("race", config(), one)
        );
        assert_eq!(calls.load(std::sync::atomic::Ordering::SeqCst), 1);
        let won = [&both.0, &both.1].into_iter().filter(|result| result.is_ok()).count();
        assert_eq!(won, 1, "{both:?}");
    }
}

/// The log refused an error message of a megabyte, and with it the end of the session, which stayed open for ever.
#[tokio::test(start_paused = true)]
async fn a_session_ends_even_with_an_oversized_error() {
    let world = World::default();
    let manager = world.process().await;
    let long = "ä".repeat(2 * 1024 * 1024);
    let report = manager.run(config(), async |_| Err::<(), _>(WorkError::new(long.clone()))).await.unwrap();
    assert_eq!(report.state.name(), StateName::Failed);
    let report = manager.run(config(), async |_| Ok(long.clone())).await.unwrap();
    let SessionState::Failed { error } = &report.state else { panic!("{:?}", report.state.name()) };
    assert!(error.message.contains("cannot be stored"), "{}", error.message);
}
