//! Laws 1 and 3 after a crash: acknowledged records survive, and of the rest at most a prefix.

use session_core::backend::{Batch, Expected, SessionStorage, SessionStorageExt as _};
use session_core::{Durability, Head, SessionConfig, StateName};

use super::{Handle, all_heads, check_absent, check_reads, limit, open_handles, stored_log};
use crate::harness::{Crash, Harness, Kept, NotSupported};
use crate::law::{Finding, Outcome, check, check_eq};
use crate::logs::{self, Log};
use crate::random::{Random, seeds};

/// Crashes the store, and opens a new handle.
async fn reopen_after(harness: &dyn Harness, gone: Vec<Handle>, crash: Crash) -> Result<Handle, Finding> {
    harness.crash(crash).await?;
    drop(gone);
    Ok(harness.open().await?)
}

/// Skips the law if the profile promises less than this durability.
fn require_durability(storage: &dyn SessionStorage, durability: Durability) -> Result<(), NotSupported> {
    match storage.profile().durability {
        None => Err(NotSupported("its profile promises nothing beyond the process")),
        Some(promised) if promised < durability => {
            Err(NotSupported("its profile promises nothing for power loss"))
        }
        Some(_) => Ok(()),
    }
}

/// Returns power losses that keep nothing, everything, and random parts.
fn power_losses(random: u64) -> impl Iterator<Item = Crash> {
    let some = seeds(random).into_iter().map(Kept::Some);
    [Kept::Nothing, Kept::Everything].into_iter().chain(some).map(Crash::PowerLoss)
}

pub(crate) async fn law_1_a_crash_leaves_a_prefix_of_unacknowledged_records(
    harness: &dyn Harness,
) -> Outcome {
    let mut storage = harness.open().await?;
    require_durability(&*storage, Durability::Flushed)?;
    let mut log = Log::plain();
    log.take().send(&*storage, Durability::Flushed).await?;
    for (round, crash) in power_losses(40).enumerate() {
        let context = |finding: Finding| finding.context(format!("{crash:?}"));
        log.noted("safe");
        log.take().send(&*storage, Durability::Flushed).await.map_err(|error| context(error.into()))?;
        let safe = log.revision();
        // Buffered batches, and a session that was never flushed: both may lose records, but only from the end.
        let mut passing = Log::plain();
        for n in 0..round % 5 {
            for _ in 0..=n {
                log.noted("x".repeat(n * 100));
                passing.noted(n);
            }
            for log in [&mut log, &mut passing] {
                log.take().send(&*storage, Durability::Buffered).await?;
            }
        }
        // A flushed batch whose future is dropped before it completes.
        let mut whole = log.clone();
        whole.noted("in flight").noted("in flight, too");
        let poll = round % 4;
        let sent = super::dropped::drop_after(whole.take().send(&*storage, Durability::Flushed), poll).await;
        if sent.is_none() || !matches!(sent, Some(Ok(_))) {
            super::dropped::settle(&*storage).await?;
        }
        let acknowledged = if matches!(sent, Some(Ok(_))) { whole.revision() } else { safe };
        storage = reopen_after(harness, vec![storage], crash).await.map_err(context)?;
        let left = stored_log(&*storage, log.id()).await.map_err(context)?;
        check!(
            left.revision() >= acknowledged,
            "{crash:?}: {} records of {acknowledged} that were flushed",
            left.revision()
        );
        check!(left.revision() <= whole.revision(), "{crash:?}: more records than were appended");
        check_eq!(left.records(), whole.up_to(left.revision()).records(), "what {crash:?} left");
        check_reads(&*storage, &left).await.map_err(context)?;
        if storage.head(passing.id()).await?.is_some() {
            let left = stored_log(&*storage, passing.id()).await.map_err(context)?;
            check_eq!(
                left.records(),
                passing.up_to(left.revision()).records(),
                "what {crash:?} left of a buffered session"
            );
            storage.delete(passing.id(), left.tip()).await.map_err(|error| context(error.into()))?;
        } else {
            check_absent(&*storage, passing.id()).await.map_err(context)?;
        }
        log = left;
    }
    Ok(())
}

pub(crate) async fn law_3_flushed_changes_survive_power_loss(harness: &dyn Harness) -> Outcome {
    let mut storage = harness.open().await?;
    require_durability(&*storage, Durability::Flushed)?;
    let mut all = Vec::new();
    let mut random = Random::new(7);
    for crash in power_losses(8) {
        let mut gone = Vec::new();
        for state in StateName::ALL {
            let mut log = logs::in_state(*state, SessionConfig::new("test").name(state.name()));
            for step in log.take_each() {
                let durability = if random.one_in(2) { Durability::Flushed } else { Durability::Buffered };
                step.send(&*storage, durability).await?;
            }
            // The flush also covers what was buffered before.
            storage.append(log.id(), Expected::At(log.tip()), Batch::empty(), Durability::Flushed).await?;
            all.push(log);
            let mut deleted = Log::plain();
            deleted.take().send(&*storage, Durability::Flushed).await?;
            storage.delete(deleted.id(), deleted.tip()).await?;
            gone.push(deleted.id());
        }
        storage = reopen_after(harness, vec![storage], crash).await?;
        all.sort_by_key(Log::id);
        let expected: Vec<Head> = all.iter().map(|log| log.head().clone()).collect();
        check_eq!(all_heads(&*storage).await?, expected, "the list after {crash:?}");
        for log in &all {
            check_eq!(
                storage.records_after(log.id(), 0).await?,
                log.records(),
                "the records after {crash:?}"
            );
        }
        for id in gone {
            check_absent(&*storage, id)
                .await
                .map_err(|finding| finding.context(format!("deleted before {crash:?}")))?;
        }
        // Every session must accept appends and count towards the limit.
        for log in &mut all {
            log.grow("after the power loss");
            log.take().send(&*storage, Durability::Flushed).await?;
        }
        let held = all.iter().filter(|log| log.head().holds_place()).count();
        let full = Log::plain()
            .take()
            .expecting(Expected::AbsentWithin(limit(held)))
            .send(&*storage, Durability::Flushed);
        check!(
            full.await.is_err(),
            "after {crash:?} fewer than {held} sessions that hold a place are counted"
        );
    }
    Ok(())
}

pub(crate) async fn law_3_a_flush_covers_records_that_others_buffered(harness: &dyn Harness) -> Outcome {
    let mut all = Vec::new();
    let first = open_handles(harness, 3).await?;
    require_durability(&**first.first().expect("three were asked for"), Durability::Flushed)?;
    drop(first);
    for flush_is_empty in [false, true] {
        let handles = open_handles(harness, 3).await?;
        let [one, two, three] = handles.as_slice() else { unreachable!("three were asked for") };
        let mut log = Log::plain();
        log.take().send(&**one, Durability::Buffered).await?;
        for n in 0..5 {
            log.noted(n);
            log.take().send(if n % 2 == 0 { &**two } else { &**one }, Durability::Buffered).await?;
        }
        if !flush_is_empty {
            log.noted("flushed");
        }
        let step = log.take().expecting(Expected::At(log.up_to(6).tip()));
        check_eq!(step.send(&**three, Durability::Flushed).await?, log.tip(), "the result of the flush");
        all.push(log);
        let storage = reopen_after(harness, handles, Crash::PowerLoss(Kept::Nothing)).await?;
        for log in &all {
            check_reads(&*storage, log).await?;
        }
    }
    Ok(())
}

pub(crate) async fn law_3_buffered_changes_survive_a_kill(harness: &dyn Harness) -> Outcome {
    let mut logs = Vec::new();
    for round in 0..5 {
        let handles = open_handles(harness, 2).await?;
        let [one, two] = handles.as_slice() else { unreachable!("two were asked for") };
        require_durability(&**one, Durability::Buffered)?;
        let mut log = Log::plain();
        log.started();
        for n in 0..round {
            log.noted(n);
        }
        for (n, step) in log.take_each().into_iter().enumerate() {
            step.send(if n % 2 == 0 { &**one } else { &**two }, Durability::Buffered).await?;
        }
        logs.push(log);
        // A batch in flight when the process dies: stored, not stored, or a prefix.
        let mut whole = logs.first().expect("one was pushed").clone();
        whole.noted("in flight").noted("in flight, too");
        drop(super::dropped::drop_after(whole.take().send(&**one, Durability::Buffered), round).await);
        super::dropped::settle(&**two).await?;
        let storage = reopen_after(harness, handles, Crash::Kill).await?;
        let first = stored_log(&*storage, whole.id()).await?;
        check_eq!(
            first.records(),
            whole.up_to(first.revision()).records(),
            "what a kill left of a batch in flight"
        );
        check!(first.revision() >= whole.revision() - 2, "a kill removed acknowledged records");
        if let Some(log) = logs.first_mut() {
            *log = first;
        }
        for log in &mut logs {
            check_reads(&*storage, log).await?;
            log.noted("after the kill");
            log.take().send(&*storage, Durability::Buffered).await?;
        }
    }
    Ok(())
}
