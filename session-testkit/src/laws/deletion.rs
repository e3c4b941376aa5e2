//! Law 2 for deletions: they need the tip, are permanent, and free the id.

use std::sync::Arc;

use session_core::backend::{Expected, Sum, Tip};
use session_core::{Durability, SessionConfig, SessionId, StorageError};

use super::{all_heads, check_absent, check_conflict, check_reads, limit, open_handles};
use crate::harness::Harness;
use crate::law::{Finding, Outcome, check, check_eq};
use crate::logs::{self, Log};

fn check_not_found<T: std::fmt::Debug>(answer: &Result<T, StorageError>, session: SessionId) -> Outcome {
    match answer {
        Err(StorageError::NotFound { id }) => {
            check_eq!(*id, session, "the session that NotFound names");
            Ok(())
        }
        other => Err(Finding::violated(format!("expected NotFound, not {other:?}"))),
    }
}

pub(crate) async fn law_2_a_deletion_needs_the_tip(harness: &dyn Harness) -> Outcome {
    let handles = open_handles(harness, 2).await?;
    let [one, two] = handles.as_slice() else { unreachable!("two were asked for") };
    let mut log = Log::plain();
    log.started().noted(1).completed();
    log.take().send(&**one, Durability::Flushed).await?;
    let Tip { revision, sum } = log.tip();
    let mut wrong: Vec<Tip> =
        (0..64).map(|bit| Sum::from_u64(sum.as_u64() ^ 1 << bit)).map(|sum| Tip { revision, sum }).collect();
    wrong.extend([0, revision - 1, revision + 1, u64::MAX].map(|revision| Tip { revision, sum }));
    wrong.extend(log.up_to(revision - 1).records().iter().map(session_core::StoredRecord::tip));
    for tip in wrong {
        check_conflict(&two.delete(log.id(), tip).await, log.id(), Some(tip), Some(log.tip()))?;
    }
    for storage in [one, two] {
        check_reads(&**storage, &log).await?;
    }
    two.delete(log.id(), log.tip()).await?;
    check_not_found(&two.delete(log.id(), log.tip()).await, log.id())
}

pub(crate) async fn law_2_a_deleted_session_stays_deleted(harness: &dyn Harness) -> Outcome {
    let handles = open_handles(harness, 2).await?;
    let [one, two] = handles.as_slice() else { unreachable!("two were asked for") };
    let mut others = Vec::new();
    for mut log in logs::of_every_kind() {
        let mut other = Log::plain();
        for log in [&mut log, &mut other] {
            log.take().send(&**one, Durability::Flushed).await?;
        }
        check_reads(&**two, &log).await?;
        one.delete(log.id(), log.tip()).await?;
        // Appends to another session must not restore the deleted one.
        other.noted("continues");
        other.take().send(&**two, Durability::Flushed).await?;
        let newcomer = harness.open().await?;
        for storage in [one, two, &newcomer] {
            check_absent(&**storage, log.id()).await?;
            check_not_found(&storage.delete(log.id(), log.tip()).await, log.id())?;
            let answer = log.clone().grow("late").take().send(&**storage, Durability::Flushed).await;
            check_conflict(&answer, log.id(), Some(log.tip()), None)?;
            check_absent(&**storage, log.id()).await?;
        }
        others.push(other);
    }
    let listed: Vec<SessionId> = all_heads(&**two).await?.iter().map(|head| head.id).collect();
    let mut expected: Vec<SessionId> = others.iter().map(Log::id).collect();
    expected.sort();
    check_eq!(listed, expected, "the sessions that are left");
    for other in &others {
        check_reads(&**one, other).await?;
    }
    Ok(())
}

pub(crate) async fn law_2_a_deleted_id_can_be_created_again(harness: &dyn Harness) -> Outcome {
    let handles = open_handles(harness, 2).await?;
    let [one, two] = handles.as_slice() else { unreachable!("two were asked for") };
    let id = SessionId::from_key("again and again");
    let mut last: Option<Log> = None;
    for generation in 0..6_u64 {
        let config = SessionConfig::new("test")
            .name(format!("generation-{generation}"))
            .label("generation", generation.to_string());
        let mut log = Log::with_id(id, config);
        // Each log is shorter than the one before, so that leftovers of the longer one would show.
        for n in generation..6 {
            log.noted(n);
        }
        let expected = if generation % 2 == 0 { Expected::Absent } else { Expected::AbsentWithin(limit(1)) };
        let tip = log.take().expecting(expected).send(&**one, Durability::Flushed).await?;
        check_eq!(tip.revision, 7 - generation, "the revision of generation {generation}");
        for storage in [one, two] {
            check_reads(&**storage, &log).await?;
        }
        if let Some(last) = last {
            // A writer that still holds a tip of the deleted log, at the same revision.
            let mut late = last.up_to(log.revision());
            let known = late.tip();
            late.noted("late");
            for storage in [one, two] {
                let answer = late
                    .clone()
                    .take()
                    .expecting(Expected::At(known))
                    .send(&**storage, Durability::Flushed)
                    .await;
                check_conflict(&answer, id, Some(known), Some(log.tip()))?;
                check_conflict(&storage.delete(id, known).await, id, Some(known), Some(log.tip()))?;
                check_reads(&**storage, &log).await?;
            }
        }
        log.noted("the last note");
        log.take().send(&**two, Durability::Flushed).await?;
        for storage in [one, two] {
            check_reads(&**storage, &log).await?;
        }
        two.delete(id, log.tip()).await?;
        last = Some(log);
        for storage in [one, two] {
            check_absent(&**storage, id).await?;
        }
    }
    Ok(())
}

pub(crate) async fn law_2_either_a_racing_deletion_or_append_wins(harness: &dyn Harness) -> Outcome {
    const ROUNDS: u64 = 40;
    let handles = open_handles(harness, 2).await?;
    let [one, two] = handles.as_slice() else { unreachable!("two were asked for") };
    for round in 0..ROUNDS {
        let mut log = Log::plain();
        log.take().send(&**one, Durability::Flushed).await?;
        let (id, tip) = (log.id(), log.tip());
        log.noted(round);
        let step = log.take();
        let (appender, deleter) = if round % 2 == 0 { (one, two) } else { (two, one) };
        let (appender, deleter) = (Arc::clone(appender), Arc::clone(deleter));
        let append = tokio::spawn(async move { step.send(&*appender, Durability::Flushed).await });
        let delete = tokio::spawn(async move { deleter.delete(id, tip).await });
        let (append, delete) = (append.await?, delete.await?);
        check!(append.is_ok() != delete.is_ok(), "round {round}: append {append:?}, delete {delete:?}");
        if append.is_ok() {
            check_conflict(&delete, id, Some(tip), Some(log.tip()))?;
        } else {
            check_conflict(&append, id, Some(tip), None)?;
        }
        for storage in [one, two] {
            if append.is_ok() {
                check_reads(&**storage, &log).await?;
            } else {
                check_absent(&**storage, id).await?;
            }
        }
        if append.is_ok() {
            one.delete(id, log.tip()).await?;
        }
    }
    Ok(())
}
