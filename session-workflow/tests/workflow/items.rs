//! Items: what runs, what is recorded, and in how many records.

use std::future::IntoFuture as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use session_core::{
    Durability, ErrorCode, Evidence, InMemorySessionManager, PauseReason, RequestHandling, Session,
    SessionEvent, SessionManager as _, SessionState, SessionSummary, StepIdentity, WorkError,
};
use session_workflow::{
    AnswerTo, Decisions, ItemState, OnChange, OnUnknown, SessionSteps as _, Steps, WorkflowState, answer,
};

use super::{events, next_attempt, retry, session, until};

/// Runs an each whose work notes the items that ran; those in `fails` fail.
async fn run(
    session: &Session,
    items: &[&str],
    jobs: usize,
    fails: &[&str],
) -> (Vec<String>, Option<ErrorCode>) {
    let ran = Mutex::new(Vec::new());
    let each = session
        .each("check", items.iter().copied(), async |item| {
            ran.lock().unwrap().push(item.text.clone());
            tokio::task::yield_now().await;
            if fails.contains(&item.text.as_str()) { Err("it is bad".into()) } else { Ok(()) }
        })
        .jobs(jobs)
        .keep_going();
    let code = each.await.err().map(|error| error.code());
    (ran.into_inner().unwrap(), code)
}

#[tokio::test]
async fn each_item_runs_once_over_attempts() {
    let manager = InMemorySessionManager::new();
    let session = session(&manager).await;
    let (ran, code) = run(&session, &["a", "b", "c", "d"], 2, &["c"]).await;
    assert_eq!((ran.len(), code), (4, Some(ErrorCode::WorkFailed)));
    let session = next_attempt(&manager, session, Evidence::LockReleased).await;
    assert_eq!(run(&session, &["a", "b", "c", "d"], 2, &[]).await, (vec!["c".to_owned()], None));
    let session = next_attempt(&manager, session, Evidence::LockReleased).await;
    assert_eq!(run(&session, &["a", "b", "c", "d"], 2, &["a"]).await, (Vec::new(), None));
    session.complete(SessionSummary::new()).await.unwrap();
}

#[tokio::test]
async fn one_job_costs_one_record_an_item() {
    let manager = InMemorySessionManager::new();
    let session = session(&manager).await;
    let items: Vec<String> = (0..50).map(|n| format!("item {n}")).collect();
    let names: Vec<&str> = items.iter().map(String::as_str).collect();
    assert_eq!(run(&session, &names, 1, &[]).await.1, None);
    let moved = events(&manager, session.id(), "items_moved").await;
    // One to begin the first, and one for each end with the next beginning.
    assert_eq!(moved.len(), 51);
    let head = session.head();
    assert_eq!((head.items.done, head.items.open, head.items.total), (50, 0, Some(50)));
    assert_eq!(head.items.newest.as_deref(), Some("check"));
}

#[tokio::test]
async fn a_slot_is_free_only_once_the_end_is_recorded() {
    let manager = InMemorySessionManager::new();
    let session = session(&manager).await;
    let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let items = (0..40).map(|n| n.to_string());
    session
        .each("check", items, async |_| {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            running.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        })
        .jobs(3)
        .await
        .map(drop)
        .unwrap();
    assert_eq!(most.load(Ordering::SeqCst), 3);
    // In the log, too: never more than three have begun and not ended.
    let (mut open, mut most) = (0, 0);
    for event in events(&manager, session.id(), "items_moved").await {
        let SessionEvent::ItemsMoved { moves } = event else { continue };
        open = open + moves.begun.len() - moves.done.len() - moves.failed.len();
        most = most.max(open);
    }
    assert_eq!((open, most), (0, 3));
}

#[tokio::test]
async fn a_dead_owner_leaves_at_most_as_many_unknown_as_ran() {
    let manager = InMemorySessionManager::new();
    let session = session(&manager).await;
    let work = session.clone();
    let dying = tokio::spawn(async move {
        let items = (0..100).map(|n| n.to_string());
        work.each("check", items, async |item| {
            let number: usize = item.text.parse()?;
            if number >= 20 {
                std::future::pending::<()>().await;
            }
            Ok(())
        })
        .jobs(4)
        .await
        .map(drop)
    });
    until(&session, |head| head.items.done == 20 && head.items.open == 4).await;
    std::mem::forget(dying);
    let session = next_attempt(&manager, session, Evidence::LockReleased).await;
    let state = WorkflowState::read(&manager, session.id()).await.unwrap();
    let each = state.eaches().get(&StepIdentity::nth("check", 1)).unwrap();
    assert_eq!((each.done(), each.count(ItemState::Unknown)), (20, 4));
    let items: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    let names: Vec<&str> = items.iter().map(String::as_str).collect();
    let (mut ran, code) = run(&session, &names, 4, &[]).await;
    assert_eq!((ran.len(), code), (80, None));
    ran.sort_by_key(|text| text.parse::<usize>().unwrap());
    assert_eq!(ran, items[20..]);
}

#[tokio::test]
async fn vanished_and_new_items_do_not_move_the_others() {
    let manager = InMemorySessionManager::new();
    let session = session(&manager).await;
    run(&session, &["a", "b", "c", "x", "x"], 1, &["c"]).await;
    let session = next_attempt(&manager, session, Evidence::LockReleased).await;
    let (ran, code) = run(&session, &["new", "x", "c", "b", "x", "x"], 1, &[]).await;
    assert_eq!((ran, code), (vec!["new".to_owned(), "c".to_owned(), "x".to_owned()], None));
    let session = next_attempt(&manager, session, Evidence::LockReleased).await;
    assert_eq!(run(&session, &["a", "b", "c", "new", "x", "x", "x"], 1, &["a"]).await, (Vec::new(), None));
}

#[tokio::test]
async fn values_come_back_in_the_order_of_the_input() {
    let manager = InMemorySessionManager::new();
    let session = session(&manager).await;
    let sizes = async |session: &Session, items: &[&str], fails: bool| {
        session
            .each("size", items.iter().copied(), async |item| {
                // The later ones end first.
                for _ in 0..10 - item.text.len() {
                    tokio::task::yield_now().await;
                }
                if fails && item.text == "bbb" { Err("no".into()) } else { Ok(item.text.repeat(2)) }
            })
            .jobs(4)
            .keep_going()
            .await
    };
    let items = ["a", "bbb", "cc", "dddd"];
    assert!(sizes(&session, &items, true).await.is_err());
    let session = next_attempt(&manager, session, Evidence::LockReleased).await;
    let expected = ["aa", "bbbbbb", "cccc", "dddddddd"];
    assert_eq!(sizes(&session, &items, false).await.unwrap(), expected);
    let session = retry(&manager, session).await;
    assert_eq!(sizes(&session, &items, true).await.unwrap(), expected, "taken over with their values");
    let reordered = ["dddd", "a"];
    let session = next_attempt(&manager, session, Evidence::Shutdown).await;
    assert_eq!(sizes(&session, &reordered, true).await.unwrap(), ["dddddddd", "aa"]);
}

#[tokio::test]
async fn values_that_are_too_long_together_are_none() {
    let manager = InMemorySessionManager::new();
    let session = session(&manager).await;
    let long = async |session: &Session| {
        let items = (0..17).map(|n| n.to_string());
        session.each("long", items, async |_| Ok("x".repeat(1024 * 1024))).await.map(drop)
    };
    for _ in 0..2 {
        let error = long(&session).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidArgument);
        assert!(error.to_string().contains("16 MiB"), "{error}");
    }
    assert_eq!(session.head().items.done, 17, "all of them are done");
}

#[tokio::test]
async fn a_failure_ends_the_each_unless_it_keeps_going() {
    let manager = InMemorySessionManager::new();
    let session = session(&manager).await;
    let ran = AtomicUsize::new(0);
    let error = session
        .each("check", ["a", "b", "c"], async |item| {
            ran.fetch_add(1, Ordering::SeqCst);
            if item.text == "a" { Err::<(), _>("it is bad".into()) } else { Ok(()) }
        })
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "step `check` failed: 1 of 3 items failed, 2 were not run; the first: it is bad"
    );
    assert_eq!(ran.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_failed_item_is_run_again_after_a_delay() {
    let manager = InMemorySessionManager::new();
    let session = session(&manager).await;
    let tries = AtomicUsize::new(0);
    let started = tokio::time::Instant::now();
    let each = session.each("check", ["a"], async |_| {
        if tries.fetch_add(1, Ordering::SeqCst) < 2 { Err("no network".into()) } else { Ok(()) }
    });
    each.retries(2).backoff(Duration::from_secs(10)).await.map(drop).unwrap();
    assert_eq!(tries.load(Ordering::SeqCst), 3);
    assert!(started.elapsed() >= Duration::from_secs(30));
    assert_eq!(session.head().items.failed, 2);
}

#[tokio::test]
async fn while_paused_items_end_but_none_begins() {
    let manager = InMemorySessionManager::new();
    let session = session(&manager).await;
    let gate = tokio::sync::Semaphore::new(0);
    let each = session.each("check", ["a", "b"], async |_| {
        gate.acquire().await.unwrap().forget();
        Ok(())
    });
    let (done, ()) = tokio::join!(each.into_future(), async {
        until(&session, |head| head.items.open == 1).await;
        session.pause(PauseReason::Requested("lunch".to_owned())).await.unwrap();
        gate.add_permits(1);
        until(&session, |head| head.items.done == 1).await;
        assert_eq!(session.head().items.open, 0, "the next one waits");
        session.resume().await.unwrap();
        gate.add_permits(1);
    });
    done.map(drop).unwrap();
}

#[tokio::test]
async fn unknown_items_are_treated_as_asked_for() {
    let manager = InMemorySessionManager::new();
    for (on_unknown, runs) in
        [(OnUnknown::Rerun, true), (OnUnknown::Skip, false), (OnUnknown::Fail, false), (OnUnknown::Ask, true)]
    {
        let session = session(&manager).await;
        let work = session.clone();
        let dying = tokio::spawn(async move {
            work.each("check", ["a"], async |_| std::future::pending::<Result<(), WorkError>>().await)
                .await
                .map(drop)
        });
        until(&session, |head| head.items.open == 1).await;
        std::mem::forget(dying);
        let session = next_attempt(&manager, session, Evidence::LockReleased).await;
        let ran = AtomicUsize::new(0);
        let each = session.each("check", ["a"], async |_| {
            ran.fetch_add(1, Ordering::SeqCst);
            Ok(())
        });
        let answers = async {
            if on_unknown == OnUnknown::Ask {
                until(&session, |head| head.waits.questions == 1).await;
                answer(&manager, session.id(), AnswerTo::Named("check".to_owned()), "rerun").await.unwrap();
            }
        };
        let (done, ()) = tokio::join!(each.if_unknown(on_unknown).into_future(), answers);
        assert_eq!(ran.load(Ordering::SeqCst) == 1, runs, "{on_unknown:?}");
        let code = done.err().map(|error| error.code());
        assert_eq!(code, (on_unknown == OnUnknown::Fail).then_some(ErrorCode::StepUnknown), "{on_unknown:?}");
    }
}

#[tokio::test]
async fn another_fingerprint_is_refused_or_runs_all_again() {
    let manager = InMemorySessionManager::new();
    let session = session(&manager).await;
    let with = async |session: &Session, fingerprint: u32, on_change: OnChange| {
        let ran = AtomicUsize::new(0);
        let keys = Mutex::new(Vec::new());
        let each = session.each("check", ["a", "b"], async |item| {
            ran.fetch_add(1, Ordering::SeqCst);
            keys.lock().unwrap().push(item.key);
            Ok(())
        });
        let result = each.fingerprint(&fingerprint).on_change(on_change).await;
        (ran.into_inner(), keys.into_inner().unwrap(), result.err().map(|error| error.code()))
    };
    let (ran, first_keys, _) = with(&session, 1, OnChange::Refuse).await;
    assert_eq!(ran, 2);
    let session = next_attempt(&manager, session, Evidence::Shutdown).await;
    let (ran, _, code) = with(&session, 2, OnChange::Refuse).await;
    assert_eq!((ran, code), (0, Some(ErrorCode::StepChanged)));
    let session = next_attempt(&manager, session, Evidence::Shutdown).await;
    assert_eq!(with(&session, 2, OnChange::Keep).await.0, 0);
    let session = next_attempt(&manager, session, Evidence::Shutdown).await;
    let (ran, keys, _) = with(&session, 3, OnChange::Rerun).await;
    assert_eq!(ran, 2);
    assert!(keys.iter().all(|key| !first_keys.contains(key)), "run again on purpose");
    let session = next_attempt(&manager, session, Evidence::Shutdown).await;
    Steps::of(&session).decide(Decisions::new().changed("check", OnChange::Rerun));
    assert_eq!(with(&session, 4, OnChange::Refuse).await.0, 2);
}

#[tokio::test]
async fn keys_are_the_same_in_every_attempt_and_retry() {
    let manager = InMemorySessionManager::new();
    let mut session = session(&manager).await;
    let mut all: Vec<Vec<_>> = Vec::new();
    for round in 0..3 {
        let keys = Mutex::new(Vec::new());
        let each = session.each("check", ["a", "a", "b"], async |item| {
            keys.lock().unwrap().push(item.key);
            if round < 2 { Err::<(), _>("no".into()) } else { Ok(()) }
        });
        let _ = each.keep_going().await;
        all.push(keys.into_inner().unwrap());
        session = if round == 0 {
            next_attempt(&manager, session, Evidence::Shutdown).await
        } else {
            retry(&manager, session).await
        };
    }
    assert_eq!(all[0].len(), 3);
    assert!(all.iter().all(|keys| *keys == all[0]), "{all:?}");
    assert!(all[0][0] != all[0][1] && all[0][1] != all[0][2]);
}

#[tokio::test]
async fn a_retry_takes_over_done_and_unknown_items() {
    let manager = InMemorySessionManager::new();
    let session = session(&manager).await;
    let items: Vec<String> = (0..5000).map(|n| format!("{n} {}", "x".repeat(100))).collect();
    let names: Vec<&str> = items.iter().map(String::as_str).collect();
    run(&session, &names, 8, &[names[7]]).await;
    let session = retry(&manager, session).await;
    assert_eq!(run(&session, &names, 8, &[]).await, (vec![items[7].clone()], None));
}

#[tokio::test]
async fn a_requested_pause_holds_the_next_item() {
    let manager = InMemorySessionManager::new();
    let session = session(&manager).await;
    session.set_request_handling(RequestHandling::AtNextCall);
    let gate = tokio::sync::Semaphore::new(0);
    let each = session.each("check", ["a", "b"], async |_| {
        gate.acquire().await.unwrap().forget();
        Ok(())
    });
    let (done, ()) = tokio::join!(each.into_future(), async {
        until(&session, |head| head.items.open == 1).await;
        manager.pause_session(session.id(), "lunch".to_owned()).await.unwrap();
        gate.add_permits(2);
        until(&session, |head| matches!(head.state(), SessionState::Paused { .. })).await;
        assert_eq!((session.head().items.done, session.head().items.open), (1, 0));
        session.resume().await.unwrap();
    });
    done.map(drop).unwrap();
}

#[tokio::test]
async fn a_refused_step_ends_the_each() {
    let manager = InMemorySessionManager::new();
    let session = session(&manager).await;
    let gate = tokio::sync::Semaphore::new(0);
    let each = session.each("check", ["a", "b"], async |_| {
        gate.acquire().await.unwrap().forget();
        Ok(())
    });
    let (done, ()) = tokio::join!(each.into_future(), async {
        until(&session, |head| head.items.open == 1).await;
        session.refuse_step("other", ErrorCode::StepOpen, "it is open").await.unwrap();
        gate.add_permits(2);
    });
    assert!(matches!(done.map(drop), Err(session_workflow::StepError::AfterRefusal { .. })));
    assert_eq!((session.head().items.done, session.head().items.open), (1, 0));
}

/// Each record says up to where the log was flushed before it.
#[tokio::test]
async fn an_item_runs_only_after_its_record_is_flushed() {
    let manager = InMemorySessionManager::new();
    let session = session(&manager).await;
    let each = session.each("check", ["a", "b", "c"], async |_| {
        let begun = session.head().tip.revision;
        session.note("test.note", 1.into(), Durability::Buffered).await?;
        let last = session.read_log(begun).await?.pop().unwrap();
        assert_eq!(last.envelope.flushed, begun);
        Ok(())
    });
    each.await.map(drop).unwrap();
}
