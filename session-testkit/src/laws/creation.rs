//! Law 2 for creations: a session is created once, and within the limit.

use std::sync::Arc;

use session_core::backend::{Expected, Tip};
use session_core::{Durability, SessionConfig, SessionId, StateName, StorageError};
use tokio::sync::Barrier;

use super::{Handle, all_heads, check_absent, check_conflict, check_reads, limit, open_handles};
use crate::harness::Harness;
use crate::law::{Finding, Outcome, check, check_eq};
use crate::logs::{self, Log};

async fn create_within(storage: &Handle, log: &Log, places: usize) -> Result<Tip, StorageError> {
    log.whole().expecting(Expected::AbsentWithin(limit(places))).send(&**storage, Durability::Flushed).await
}

fn check_limit_reached(answer: &Result<Tip, StorageError>, places: usize) -> Outcome {
    match answer {
        Err(StorageError::MaxSessions { limit }) => {
            check_eq!(*limit, places, "the limit that the error names");
            Ok(())
        }
        other => Err(Finding::violated(format!("expected MaxSessions, not {other:?}"))),
    }
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
        let active: Vec<SessionId> = {
            let heads = all_heads(&**handles.first().expect("there are four")).await?;
            heads.into_iter().filter(|head| !head.state().is_final()).map(|head| head.id).collect()
        };
        let mut ids: Vec<SessionId> = created.iter().map(Log::id).collect();
        ids.sort();
        check_eq!(active, ids, "the active sessions after round {round}");
        for (mut log, storage) in created.into_iter().zip(handles.iter().cycle()) {
            log.take();
            log.cancelled();
            log.take().send(&**storage, Durability::Flushed).await?;
        }
    }
    Ok(())
}

pub(crate) async fn law_2_only_active_sessions_count_towards_the_limit(harness: &dyn Harness) -> Outcome {
    let handles = open_handles(harness, 2).await?;
    let [one, two] = handles.as_slice() else { unreachable!("two were asked for") };
    let mut unended = 0;
    for state in StateName::ALL {
        let mut log = logs::in_state(*state, SessionConfig::new("test").name(state.name()));
        log.take().send(&**one, Durability::Flushed).await?;
        unended += usize::from(!state.is_final());
        let refused = Log::plain();
        check_limit_reached(&create_within(two, &refused, unended).await, unended)
            .map_err(|finding| finding.context(format!("after one more in state {state}")))?;
    }
    // Each kind of end frees one place, through every handle.
    for end in [Log::cancelled, Log::failed, |log: &mut Log| log.started().completed()]
        as [fn(&mut Log) -> &mut Log; 3]
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
