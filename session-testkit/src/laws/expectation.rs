//! Law 2 for appends to an existing log: an append needs the stored tip.

use std::sync::Arc;

use session_core::backend::{Batch, Expected, Sum, Tip};
use session_core::{Durability, SessionEvent, StorageError};
use tokio::sync::Barrier;

use super::{all_heads, check_absent, check_conflict, check_reads, limit, open_handles, stored_log};
use crate::harness::Harness;
use crate::law::{Finding, Outcome, check, check_eq};
use crate::logs::{Log, Step};

/// Returns tips that resemble the log's tip but differ from it.
fn wrong_tips(log: &Log, other: &Log) -> Vec<Tip> {
    let Tip { revision, sum } = log.tip();
    let sums = (0..64).map(|bit| Sum::from_u64(sum.as_u64() ^ 1 << bit));
    let mut tips: Vec<Tip> = sums.map(|sum| Tip { revision, sum }).collect();
    tips.extend(
        [0, 1, revision - 1, revision + 1, revision + 1000, u64::MAX].map(|revision| Tip { revision, sum }),
    );
    tips.extend(log.records().iter().map(session_core::StoredRecord::tip));
    tips.extend(other.records().iter().map(session_core::StoredRecord::tip));
    tips.push(Tip { revision, sum: Sum::from_u64(0) });
    tips.retain(|tip| *tip != log.tip());
    tips
}

/// Returns the step of a writer that believes the log ends with `tip`. Its batch follows `tip`, so that only the
/// comparison with the stored tip can refuse it.
fn step_expecting(log: &Log, tip: Tip, event: SessionEvent) -> Option<Step> {
    let mut chain = session_core::backend::Chain::at(log.id(), tip);
    let (at, attempt) = (log.head().updated_at, log.head().lifecycle.attempt);
    let unsealed = session_core::backend::UnsealedRecord { at, attempt, flushed: 0, event };
    let mut head = log.head().clone();
    // No record can follow the highest revision number.
    tip.revision.checked_add(1)?;
    let (stored, _) = chain.seal(unsealed).ok()?;
    head.tip = stored.tip();
    Some(Step { id: log.id(), expected: Expected::At(tip), batch: Batch::new(vec![stored], head) })
}

fn note(n: u64) -> SessionEvent {
    SessionEvent::Noted { kind: "testkit.rival".into(), data: n.into() }
}

pub(crate) async fn law_2_append_needs_the_expected_revision_and_sum(harness: &dyn Harness) -> Outcome {
    let storage = harness.open().await?;
    let (mut log, mut other) = (Log::plain(), Log::plain());
    for log in [&mut log, &mut other] {
        log.started().iteration().noted("so far");
        log.take().send(&*storage, Durability::Flushed).await?;
    }
    for tip in wrong_tips(&log, &other) {
        for durability in [Durability::Buffered, Durability::Flushed] {
            let Some(step) = step_expecting(&log, tip, note(tip.revision)) else { continue };
            let answer = step.send(&*storage, durability).await;
            check_conflict(&answer, log.id(), Some(tip), Some(log.tip()))?;
        }
    }
    for expected in [Expected::Absent, Expected::AbsentWithin(limit(1000))] {
        let answer = log.whole().expecting(expected).send(&*storage, Durability::Flushed).await;
        check_conflict(&answer, log.id(), None, Some(log.tip()))?;
    }
    let absent = Log::plain();
    for tip in [absent.tip(), log.tip(), Tip { revision: 0, sum: Sum::from_u64(0) }] {
        let Some(step) = step_expecting(&absent, tip, note(1)) else { continue };
        let answer = step.send(&*storage, Durability::Flushed).await;
        check_conflict(&answer, absent.id(), Some(tip), None)?;
    }
    check_absent(&*storage, absent.id()).await?;
    check_reads(&*storage, &other).await?;
    log.noted("the right one");
    log.take().send(&*storage, Durability::Flushed).await?;
    check_reads(&*storage, &log).await
}

pub(crate) async fn law_2_a_conflict_reports_the_expected_and_stored_tips(harness: &dyn Harness) -> Outcome {
    let handles = open_handles(harness, 2).await?;
    let [one, two] = handles.as_slice() else { unreachable!("two were asked for") };
    let mut log = Log::plain();
    log.take().send(&**one, Durability::Flushed).await?;
    let mut late = log.clone();
    late.noted("late");
    for round in 0..5 {
        log.noted(round);
        log.take().send(&**one, Durability::Buffered).await?;
        // The same late append, repeated through both handles, must report the current tip each time.
        for storage in [one, two] {
            let answer = late.clone().take().send(&**storage, Durability::Flushed).await;
            check_conflict(&answer, log.id(), Some(late.up_to(1).tip()), Some(log.tip()))?;
        }
    }
    Ok(())
}

pub(crate) async fn law_2_a_conflict_changes_nothing(harness: &dyn Harness) -> Outcome {
    let handles = open_handles(harness, 2).await?;
    let [one, two] = handles.as_slice() else { unreachable!("two were asked for") };
    let (mut log, mut bystander) = (Log::plain(), Log::plain());
    log.started().checkpoint(1).noted("two");
    log.take().send(&**one, Durability::Flushed).await?;
    bystander.take().send(&**one, Durability::Flushed).await?;
    let before = all_heads(&**one).await?;
    // A rival's version of the log from each revision on: valid, but too late.
    for from in 1..log.revision() {
        let mut rival = log.up_to(from);
        if from == 1 {
            rival.started();
        }
        for _ in 0..3 {
            rival.noted("by the rival").checkpoint("rival");
        }
        let answer = rival.take().send(&**two, Durability::Flushed).await;
        check_conflict(&answer, log.id(), log.head_at(from).map(|head| head.tip), Some(log.tip()))?;
        for storage in [one, two] {
            check_reads(&**storage, &log).await?;
            check_reads(&**storage, &bystander).await?;
            check_eq!(all_heads(&**storage).await?, before, "the list after a conflict");
        }
    }
    let rival = Log::with_id(log.id(), session_core::SessionConfig::new("rival").name("rival"));
    check_conflict(&rival.whole().send(&**two, Durability::Flushed).await, log.id(), None, Some(log.tip()))?;
    check_reads(&**one, &log).await?;
    log.noted("next");
    log.take().send(&**two, Durability::Flushed).await?;
    check_reads(&**one, &log).await
}

pub(crate) async fn law_2_a_flush_needs_the_expected_tip(harness: &dyn Harness) -> Outcome {
    let storage = harness.open().await?;
    let (mut log, mut other) = (Log::plain(), Log::plain());
    for log in [&mut log, &mut other] {
        log.noted(1);
        log.take().send(&*storage, Durability::Buffered).await?;
    }
    for durability in [Durability::Buffered, Durability::Flushed] {
        for tip in wrong_tips(&log, &other) {
            let answer = storage.append(log.id(), Expected::At(tip), Batch::empty(), durability).await;
            check_conflict(&answer, log.id(), Some(tip), Some(log.tip()))?;
        }
        for expected in [Expected::Absent, Expected::AbsentWithin(limit(1000))] {
            let answer = storage.append(log.id(), expected, Batch::empty(), durability).await;
            check_conflict(&answer, log.id(), None, Some(log.tip()))?;
            let absent = Log::plain();
            let answer = storage.append(absent.id(), expected, Batch::empty(), durability).await;
            check!(
                matches!(answer, Err(StorageError::InvalidArgument { .. })),
                "a creation without records: expected InvalidArgument, not {answer:?}"
            );
            check_absent(&*storage, absent.id()).await?;
        }
        let absent = Log::plain();
        let answer = storage.append(absent.id(), Expected::At(log.tip()), Batch::empty(), durability).await;
        check_conflict(&answer, absent.id(), Some(log.tip()), None)?;
        check_absent(&*storage, absent.id()).await?;
    }
    check_reads(&*storage, &log).await
}

pub(crate) async fn law_2_a_batch_that_does_not_follow_is_refused(harness: &dyn Harness) -> Outcome {
    let storage = harness.open().await?;
    let mut log = Log::plain();
    log.started().noted(1);
    log.take().send(&*storage, Durability::Flushed).await?;
    let stored = log.clone();
    for n in 0..4 {
        log.noted(n);
    }
    let ahead: Vec<Step> = log.take_each().into_iter().skip(1).collect();
    let again = stored.whole();
    for step in ahead.into_iter().chain([again]) {
        let answer = step.expecting(Expected::At(stored.tip())).send(&*storage, Durability::Flushed).await;
        check!(
            matches!(answer, Err(StorageError::InvalidArgument { .. })),
            "a hole or a repeat: expected InvalidArgument, not {answer:?}"
        );
        check_reads(&*storage, &stored).await?;
    }
    let mut absent = Log::plain();
    absent.noted(1);
    for expected in [Expected::Absent, Expected::AbsentWithin(limit(1000))] {
        for step in absent.clone().take_each().into_iter().skip(1) {
            let answer = step.expecting(expected).send(&*storage, Durability::Flushed).await;
            check!(
                matches!(answer, Err(StorageError::InvalidArgument { .. })),
                "a log without its first record: expected InvalidArgument, not {answer:?}"
            );
        }
    }
    check_absent(&*storage, absent.id()).await
}

pub(crate) async fn law_2_concurrent_appends_are_stored_exactly_once(harness: &dyn Harness) -> Outcome {
    const WRITERS: u64 = 8;
    const EACH: u64 = 12;
    let mut log = Log::plain();
    let first = harness.open().await?;
    log.started();
    log.take().send(&*first, Durability::Flushed).await?;
    let start = Arc::new(Barrier::new(usize::try_from(WRITERS).unwrap_or(1)));
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let (storage, mut log, start) = (harness.open().await?, log.clone(), Arc::clone(&start));
        writers.push(tokio::spawn(async move {
            start.wait().await;
            let mut acknowledged = Vec::new();
            while acknowledged.len() < usize::try_from(EACH).unwrap_or(0) {
                let mut next = log.clone();
                next.noted(writer * EACH + acknowledged.len() as u64);
                let durability =
                    if next.revision() % 2 == 0 { Durability::Flushed } else { Durability::Buffered };
                match next.take().send(&*storage, durability).await {
                    Ok(tip) => {
                        check_eq!(tip, next.tip(), "the result of a writer's append");
                        acknowledged.push(tip);
                        log = next;
                    }
                    Err(StorageError::Conflict { actual, .. }) => {
                        check!(actual != Some(log.tip()), "a conflict with exactly what was expected");
                        log = stored_log(&*storage, log.id()).await?;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(acknowledged)
        }));
    }
    let mut acknowledged = Vec::new();
    for writer in writers {
        acknowledged.extend(writer.await??);
    }
    acknowledged.sort_by_key(|tip| tip.revision);
    let stored = stored_log(&*first, log.id()).await?;
    let tips: Vec<Tip> = stored.records().iter().skip(2).map(session_core::StoredRecord::tip).collect();
    check_eq!(acknowledged, tips, "the acknowledged tips, compared with the stored ones");
    check_reads(&*first, &stored).await
}

pub(crate) async fn law_2_exactly_one_of_two_racing_appends_wins(harness: &dyn Harness) -> Outcome {
    const ROUNDS: u64 = 60;
    let handles = open_handles(harness, 2).await?;
    let [one, two] = handles.as_slice() else { unreachable!("two were asked for") };
    let mut log = Log::plain();
    log.take().send(&**one, Durability::Flushed).await?;
    for round in 0..ROUNDS {
        let rivals = [(one, "one"), (two, "two")].map(|(storage, name)| {
            let (storage, mut log) = (Arc::clone(storage), log.clone());
            for n in 0..=round % 3 {
                log.noted(format!("{name} {round} {n}"));
            }
            tokio::spawn(async move {
                let answer = log.take().send(&*storage, Durability::Flushed).await;
                (log, answer)
            })
        });
        let (mut winners, mut losers) = (Vec::new(), Vec::new());
        for rival in rivals {
            let (log, answer) = rival.await?;
            if answer.is_ok() { winners.push(log) } else { losers.push(answer) }
        }
        let ([winner], [loser]) = (winners.as_slice(), losers.as_slice()) else {
            return Err(Finding::violated(format!("round {round}: {} of two rivals won", winners.len())));
        };
        check_conflict(loser, log.id(), Some(log.tip()), Some(winner.tip()))?;
        log = winner.clone();
        check_reads(&**one, &log).await?;
        check_reads(&**two, &log).await?;
    }
    Ok(())
}
