//! Law 2 for creations: a session is created once, and within the limit.

use std::sync::Arc;

use session_core::backend::{Expected, Tip};
use session_core::{Durability, Head, PauseReason, SessionConfig, SessionId, StateName, StorageError};
use tokio::sync::Barrier;

use super::{
    Handle, all_heads, check_absent, check_conflict, check_limit_reached, check_reads, limit, open_handles,
};
use crate::harness::Harness;
use crate::law::{Finding, Outcome, check, check_eq};
use crate::logs::{self, Log};

async fn create_within(storage: &Handle, log: &Log, places: usize) -> Result<Tip, StorageError> {
    log.whole().expecting(Expected::AbsentWithin(limit(places))).send(&**storage, Durability::Flushed).await
}

pub(crate) async fn law_2_a_session_is_created_once(harness: &dyn Harness) -> Outcome {
    const ROUNDS: usize = 10;
    const CREATORS: usize = 8;
    let handles = open_handles(harness, CREATORS).await?;
    for round in 0..ROUNDS {
        let (id, start) = (SessionId::random(), Arc::new(Barrier::new(CREATORS)));
        let creators: Vec<_> = handles
            .iter()
            .enumerate()
            .map(|(n, storage)| {
                let (storage, start) = (Arc::clone(storage), Arc::clone(&start));
                tokio::spawn(async move {
                    let mut log = Log::with_id(id, SessionConfig::new("test").name(format!("creator-{n}")));
                    log.started();
                    let step = log.take();
                    let step =
                        if n % 2 == 0 { step } else { step.expecting(Expected::AbsentWithin(limit(1000))) };
                    start.wait().await;
                    let answer = step.send(&*storage, Durability::Flushed).await;
                    (log, answer)
                })
            })
            .collect();
        let (mut winners, mut losers) = (Vec::new(), Vec::new());
        for creator in creators {
            let (log, answer) = creator.await?;
            if answer.is_ok() { winners.push(log) } else { losers.push(answer) }
        }
        let [winner] = winners.as_slice() else {
            return Err(Finding::violated(format!(
                "round {round}: {} creators of one session",
                winners.len()
            )));
        };
        for loser in &losers {
            check_conflict(loser, id, None, Some(winner.tip()))?;
        }
        for storage in &handles {
            check_reads(&**storage, winner).await?;
        }
    }
    Ok(())
}

pub(crate) async fn law_2_the_session_limit_is_enforced(harness: &dyn Harness) -> Outcome {
    const PLACES: usize = 4;
    let handles = open_handles(harness, 2).await?;
    let [one, two] = handles.as_slice() else { unreachable!("two were asked for") };
    for taken in 0..PLACES {
        let log = Log::plain();
        for tight in 1..=taken {
            check_limit_reached(&create_within(one, &log, tight).await, tight)?;
        }
        check_absent(&**two, log.id()).await?;
        create_within(one, &log, PLACES).await?;
        check_reads(&**two, &log).await?;
    }
    for storage in [one, two] {
        let refused = Log::plain();
        check_limit_reached(&create_within(storage, &refused, PLACES).await, PLACES)?;
        check_absent(&**storage, refused.id()).await?;
        check_eq!(all_heads(&**storage).await?.len(), PLACES, "sessions within the limit");
    }
    // The limit belongs to the call: a creation without one, or with a higher one, is not bound by it.
    Log::plain().take().send(&**one, Durability::Flushed).await?;
    create_within(two, &Log::plain(), PLACES + 2).await?;
    check_limit_reached(&create_within(two, &Log::plain(), PLACES + 2).await, PLACES + 2)
}

pub(crate) async fn law_2_racing_creations_never_exceed_the_limit(harness: &dyn Harness) -> Outcome {
    const PLACES: usize = 4;
    const ROUNDS: usize = 6;
    const CREATORS: usize = 20;
    let handles = open_handles(harness, 4).await?;
    for round in 0..ROUNDS {
        let start = Arc::new(Barrier::new(CREATORS));
        let creators: Vec<_> = handles
            .iter()
            .cycle()
            .take(CREATORS)
            .map(|storage| {
                let (storage, start, log) = (Arc::clone(storage), Arc::clone(&start), Log::plain());
                tokio::spawn(async move {
                    start.wait().await;
                    let answer = create_within(&storage, &log, PLACES).await;
                    (log, answer)
                })
            })
            .collect();
        let mut created = Vec::new();
        for creator in creators {
            let (log, answer) = creator.await?;
            if answer.is_ok() {
                created.push(log);
            } else {
                check_limit_reached(&answer, PLACES)?;
            }
        }
        check_eq!(created.len(), PLACES, "sessions created in round {round} of a race for {PLACES} places");
        let held: Vec<SessionId> = {
            let heads = all_heads(&**handles.first().expect("there are four")).await?;
            heads.into_iter().filter(Head::holds_place).map(|head| head.id).collect()
        };
        let mut ids: Vec<SessionId> = created.iter().map(Log::id).collect();
        ids.sort();
        check_eq!(held, ids, "the sessions that hold a place after round {round}");
        for (mut log, storage) in created.into_iter().zip(handles.iter().cycle()) {
            log.take();
            log.cancelled();
            log.take().send(&**storage, Durability::Flushed).await?;
        }
    }
    Ok(())
}

pub(crate) async fn law_2_sessions_with_an_owner_or_a_start_to_come_hold_places(
    harness: &dyn Harness,
) -> Outcome {
    let handles = open_handles(harness, 2).await?;
    let [one, two] = handles.as_slice() else { unreachable!("two were asked for") };
    let mut unended = 0;
    for (name, expected, log) in logs_by_place() {
        let mut log = log;
        log.take().send(&**one, Durability::Flushed).await?;
        check_eq!(log.head().holds_place(), expected, "the place of a session that is {name}");
        unended += usize::from(expected);
        let refused = Log::plain();
        check_limit_reached(&create_within(two, &refused, unended).await, unended)
            .map_err(|finding| finding.context(format!("after one more that is {name}")))?;
        // No more than these hold a place.
        let created = Log::plain();
        create_within(two, &created, unended + 1)
            .await
            .map_err(|error| Finding::from(error).context(format!("after one more that is {name}")))?;
        one.delete(created.id(), created.tip()).await?;
    }
    // Each kind of end, and the loss of the owner, frees one place, through every handle.
    for end in [
        Log::cancelled,
        Log::failed,
        |log: &mut Log| log.started().completed(),
        |log: &mut Log| log.started().interrupted(),
    ] as [fn(&mut Log) -> &mut Log; 4]
    {
        let mut log = Log::plain();
        create_within(one, &log, unended + 1).await?;
        check_limit_reached(&create_within(two, &Log::plain(), unended + 1).await, unended + 1)?;
        log.take();
        end(&mut log);
        log.take().send(&**two, Durability::Flushed).await?;
        let next = Log::plain();
        create_within(one, &next, unended + 1).await?;
        check_limit_reached(&create_within(one, &Log::plain(), unended + 1).await, unended + 1)?;
        two.delete(next.id(), next.tip()).await?;
    }
    create_within(one, &Log::plain(), unended + 1).await?;
    check!(all_heads(&**one).await?.len() > unended + 1, "ended sessions have disappeared");
    Ok(())
}

/// Returns a log for each kind of session, with its name, and `true` if it holds a place.
fn logs_by_place() -> Vec<(&'static str, bool, Log)> {
    let mut all: Vec<(&'static str, bool, Log)> = StateName::ALL
        .iter()
        .map(|state| {
            let log = logs::in_state(*state, SessionConfig::new("test").name(state.name()));
            (state.name(), log.head().lifecycle.owner.is_some() || *state == StateName::Created, log)
        })
        .collect();
    let mut more = |name, holds_place, change: fn(&mut Log) -> &mut Log| {
        let mut log = Log::plain();
        change(log.started());
        all.push((name, holds_place, log));
    };
    more("interrupted", false, Log::interrupted);
    more("paused without an owner", false, |log| {
        log.paused(PauseReason::Requested("later".to_owned())).interrupted()
    });
    more("resumed", true, |log| log.interrupted().resumed());
    all
}

/// Stores a session that has lost its owner.
async fn unowned(storage: &Handle) -> Result<Log, StorageError> {
    let mut log = Log::plain();
    log.started().interrupted();
    log.take().send(&**storage, Durability::Flushed).await?;
    Ok(log)
}

async fn resume_within(storage: &Handle, log: &mut Log, places: usize) -> Result<Tip, StorageError> {
    let tip = log.tip();
    let step = log.resumed().take();
    step.expecting(Expected::AtWithin(tip, limit(places))).send(&**storage, Durability::Flushed).await
}

pub(crate) async fn law_2_a_resumed_session_needs_a_place(harness: &dyn Harness) -> Outcome {
    const PLACES: usize = 3;
    let handles = open_handles(harness, 2).await?;
    let [one, two] = handles.as_slice() else { unreachable!("two were asked for") };
    let lost = unowned(one).await?;
    let mut created = Vec::new();
    for taken in 0..PLACES {
        for tight in 1..=taken {
            check_limit_reached(&resume_within(two, &mut lost.clone(), tight).await, tight)?;
        }
        check_reads(&**one, &lost).await?;
        let log = Log::plain();
        create_within(one, &log, PLACES).await?;
        created.push(log);
    }
    check_limit_reached(&resume_within(one, &mut lost.clone(), PLACES).await, PLACES)?;
    // A wrong tip is a conflict, whether there is a place or not.
    let behind = lost.up_to(2).tip();
    let mut stale = lost.up_to(2);
    stale.take();
    let step = stale.noted("stale").take().expecting(Expected::AtWithin(behind, limit(1)));
    let answer = step.send(&**two, Durability::Flushed).await;
    check_conflict(&answer, lost.id(), Some(behind), Some(lost.tip()))?;
    check_reads(&**two, &lost).await?;
    // The place of another session is free once that has lost its owner, too.
    let mut other = created.pop().expect("some were created");
    other.take();
    other.started().interrupted();
    other.take().send(&**two, Durability::Flushed).await?;
    let mut resumed = lost;
    check_eq!(resume_within(two, &mut resumed, PLACES).await?, resumed.tip(), "the result of a resume");
    check_reads(&**one, &resumed).await?;
    check_limit_reached(&create_within(one, &Log::plain(), PLACES).await, PLACES)?;
    check_limit_reached(&resume_within(one, &mut other.clone(), PLACES).await, PLACES)?;
    // Its own place is not counted, and a resume without a limit is not bound by one.
    let tip = resumed.tip();
    let step = resumed.noted("with its place").take().expecting(Expected::AtWithin(tip, limit(PLACES)));
    check_eq!(step.send(&**one, Durability::Flushed).await?, resumed.tip(), "the result of an append");
    let tip = other.tip();
    let step = other.resumed().take().expecting(Expected::At(tip));
    check_eq!(step.send(&**one, Durability::Flushed).await?, other.tip(), "the result of a resume");
    check_reads(&**two, &other).await
}

pub(crate) async fn law_2_racing_resumes_never_exceed_the_limit(harness: &dyn Harness) -> Outcome {
    const PLACES: usize = 4;
    const ROUNDS: usize = 6;
    const RIVALS: usize = 16;
    let handles = open_handles(harness, 4).await?;
    for round in 0..ROUNDS {
        let start = Arc::new(Barrier::new(RIVALS));
        let mut rivals = Vec::new();
        for (n, storage) in handles.iter().cycle().take(RIVALS).enumerate() {
            let mut log = if n % 4 == 0 { Log::plain() } else { unowned(storage).await? };
            let (storage, start) = (Arc::clone(storage), Arc::clone(&start));
            rivals.push(tokio::spawn(async move {
                start.wait().await;
                let answer = match n % 4 {
                    0 => create_within(&storage, &log, PLACES).await,
                    _ => resume_within(&storage, &mut log, PLACES).await,
                };
                (log, answer)
            }));
        }
        let mut won = Vec::new();
        for rival in rivals {
            let (log, answer) = rival.await?;
            if answer.is_ok() {
                won.push(log);
            } else {
                check_limit_reached(&answer, PLACES)?;
            }
        }
        check_eq!(won.len(), PLACES, "sessions that got a place in round {round}");
        for (mut log, storage) in won.into_iter().zip(handles.iter().cycle()) {
            log.take();
            log.cancelled();
            log.take().send(&**storage, Durability::Flushed).await?;
        }
    }
    Ok(())
}

pub(crate) async fn law_2_an_existing_session_is_a_conflict_even_at_the_limit(
    harness: &dyn Harness,
) -> Outcome {
    let storage = harness.open().await?;
    let mut log = Log::plain();
    log.take().send(&*storage, Durability::Flushed).await?;
    for places in [1, 2] {
        let answer = create_within(&storage, &log, places).await;
        check_conflict(&answer, log.id(), None, Some(log.tip()))?;
        let rival = Log::with_id(log.id(), SessionConfig::new("rival").name("rival"));
        let answer = create_within(&storage, &rival, places).await;
        check_conflict(&answer, log.id(), None, Some(log.tip()))?;
    }
    check_reads(&*storage, &log).await
}
