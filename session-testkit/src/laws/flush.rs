//! Law 6: a flush that failed is not believed, by anyone, whatever is said afterwards.

use std::sync::Arc;

use session_core::{Batch, Durability, Expected, StorageError};

use super::{Handle, handles, reads_as, there};
use crate::harness::{Crash, Harness, Kept};
use crate::law::{Finding, Outcome, check, same};
use crate::logs::Log;

/// How many calls a store may refuse until it is itself again, on a disk that works.
const REFUSALS: usize = 20;

/// What somebody does who was told that a flush failed.
#[derive(Debug, Clone, Copy)]
enum Next {
    /// Nothing: the power goes.
    Nothing,
    /// Asks for the flush alone, again.
    FlushesAgain,
    /// Appends what comes next, flushed.
    GoesOn,
    /// Appends something buffered first.
    GoesOnBuffered,
}

/// Does it until something is acknowledged as flushed; returns the log up to there.
async fn until_acknowledged(
    harness: &dyn Harness,
    mut storage: Handle,
    log: &Log,
    next: Next,
) -> Result<Log, Finding> {
    if matches!(next, Next::Nothing) {
        return Ok(log.clone());
    }
    for _ in 0..REFUSALS {
        // What is there is known only from the log.
        let mut log = there(&*storage, log.id()).await?;
        let before = log.tip();
        let durability = match next {
            Next::Nothing | Next::FlushesAgain => Durability::Flushed,
            Next::GoesOn => {
                log.noted("going on");
                Durability::Flushed
            }
            Next::GoesOnBuffered => {
                log.noted("going on");
                Durability::Buffered
            }
        };
        let mut answer = log.take().expecting(Expected::At(before)).send(&*storage, durability).await;
        if durability == Durability::Buffered && answer.is_ok() {
            answer =
                storage.append(log.id(), Expected::At(log.tip()), Batch::empty(), Durability::Flushed).await;
        }
        match answer {
            Ok(tip) => {
                same!(tip, log.tip(), "the answer after a failed flush");
                return Ok(log);
            }
            Err(StorageError::NotFound { .. } | StorageError::InvalidArgument { .. }) => {
                return Err(Finding::violated(format!("a failed flush is no {answer:?}")));
            }
            // Told again that it does not work: a handle may be closed for good, the store may not.
            Err(_) => storage = harness.open().await?,
        }
    }
    Err(Finding::violated(format!(
        "one flush failed, and {REFUSALS} calls later the session is still not itself"
    )))
}

pub(crate) async fn law_6_a_flush_that_failed_is_never_believed(harness: &dyn Harness) -> Outcome {
    for next in [Next::Nothing, Next::FlushesAgain, Next::GoesOn, Next::GoesOnBuffered] {
        for by_another in [false, true] {
            for buffered_before in [0, 1, 4] {
                let context = |finding: Finding| {
                    finding.under(format!(
                        "{next:?}, by another: {by_another}, {buffered_before} buffered before"
                    ))
                };
                let handles = handles(harness, 2).await?;
                let [one, two] = handles.as_slice() else { unreachable!("two were asked for") };
                let (mut log, mut bystander) = (Log::plain(), Log::plain());
                for log in [&mut log, &mut bystander] {
                    log.take().send(&**one, Durability::Flushed).await?;
                }
                for n in 0..buffered_before {
                    log.noted(n);
                    log.take().send(&**one, Durability::Buffered).await?;
                }
                harness.fail_next_flush().await?;
                let mut at_stake = log.clone();
                at_stake.noted("at stake");
                let answer = at_stake.take().send(&**one, Durability::Flushed).await;
                let storage = if by_another { two } else { one };
                let told = if answer.is_ok() { &at_stake } else { &log };
                let mut known =
                    until_acknowledged(harness, Arc::clone(storage), told, next).await.map_err(context)?;
                check!(
                    known.revision() >= told.revision(),
                    "{} records are left of {} that were acknowledged, though the power stayed",
                    known.revision(),
                    told.revision()
                );
                // The failed flush belongs to one session; others flush as if nothing had happened.
                bystander.noted("flushed");
                bystander
                    .take()
                    .send(&**two, Durability::Flushed)
                    .await
                    .map_err(|error| context(error.into()))?;
                harness.crash(Crash::PowerLoss(Kept::Nothing)).await?;
                drop(handles);
                let storage = harness.open().await?;
                // Of what was buffered or at stake and never acknowledged as flushed, power loss may leave a part.
                let left = there(&*storage, log.id()).await.map_err(context)?;
                let flushed = match next {
                    Next::Nothing if answer.is_err() => 1,
                    Next::Nothing | Next::FlushesAgain | Next::GoesOn | Next::GoesOnBuffered => {
                        known.revision()
                    }
                };
                check!(
                    left.revision() >= flushed,
                    "{next:?}: {} records are left of {flushed}",
                    left.revision()
                );
                // A storage may have taken back what was at stake. Once something was acknowledged after it, it stays so.
                let whole = if matches!(next, Next::Nothing) { &at_stake } else { &known };
                same!(left.records(), whole.up_to(left.revision()).records(), "what is left after {next:?}");
                reads_as(&*storage, &left).await.map_err(context)?;
                known = left;
                reads_as(&*storage, &bystander).await.map_err(context)?;
                known.noted("and on");
                known
                    .take()
                    .send(&*storage, Durability::Flushed)
                    .await
                    .map_err(|error| context(error.into()))?;
            }
        }
    }
    Ok(())
}

pub(crate) async fn law_6_a_creation_whose_flush_failed_can_be_made_again(harness: &dyn Harness) -> Outcome {
    for by_another in [false, true] {
        let handles = handles(harness, 2).await?;
        let [one, two] = handles.as_slice() else { unreachable!("two were asked for") };
        let mut log = Log::plain();
        log.started();
        harness.fail_next_flush().await?;
        let first = log.whole().send(&**one, Durability::Flushed).await;
        let mut storage = Arc::clone(if by_another { two } else { one });
        let mut known = None;
        if first.is_err() {
            for _ in 0..REFUSALS {
                match log.whole().send(&*storage, Durability::Flushed).await {
                    Ok(_) => {
                        known = Some(log.clone());
                        break;
                    }
                    Err(StorageError::Conflict { actual: Some(_), .. }) => {
                        let next = Next::FlushesAgain;
                        known = Some(until_acknowledged(harness, Arc::clone(&storage), &log, next).await?);
                        break;
                    }
                    Err(_) => storage = harness.open().await?,
                }
            }
        } else {
            known = Some(log.clone());
        }
        let Some(known) = known else {
            return Err(Finding::violated("one flush failed, and the session can never be created"));
        };
        harness.crash(Crash::PowerLoss(Kept::Nothing)).await?;
        drop((handles, storage));
        let storage = harness.open().await?;
        reads_as(&*storage, &known).await?;
    }
    Ok(())
}
