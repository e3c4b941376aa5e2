//! Law 6: a flush that failed is not believed, by anyone, whatever is said afterwards.

use std::sync::Arc;

use session_core::{Batch, Durability, Expected, StorageError};

use super::{Handle, check_reads, open_handles, stored_log};
use crate::harness::{Crash, Harness, Kept};
use crate::law::{Finding, Outcome, check, check_eq};
use crate::logs::Log;

/// How many calls a store may refuse until it is itself again, on a disk that works.
const MAX_REFUSALS: usize = 20;

/// What somebody does who was told that a flush failed.
#[derive(Debug, Clone, Copy)]
enum NextCall {
    /// Nothing: the power goes.
    None,
    /// Asks for the flush alone, again.
    RetryFlush,
    /// Appends what comes next, flushed.
    AppendFlushed,
    /// Appends something buffered first.
    AppendBuffered,
}

/// Does it until something is acknowledged as flushed; returns the log up to there.
async fn until_acknowledged(
    harness: &dyn Harness,
    mut storage: Handle,
    log: &Log,
    next: NextCall,
) -> Result<Log, Finding> {
    if matches!(next, NextCall::None) {
        return Ok(log.clone());
    }
    for _ in 0..MAX_REFUSALS {
        // What is there is known only from the log.
        let mut log = stored_log(&*storage, log.id()).await?;
        let before = log.tip();
        let durability = match next {
            NextCall::None | NextCall::RetryFlush => Durability::Flushed,
            NextCall::AppendFlushed => {
                log.noted("going on");
                Durability::Flushed
            }
            NextCall::AppendBuffered => {
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
                check_eq!(tip, log.tip(), "the answer after a failed flush");
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
        "one flush failed, and {MAX_REFUSALS} calls later the session is still not itself"
    )))
}

pub(crate) async fn law_6_a_failed_flush_is_never_acknowledged(harness: &dyn Harness) -> Outcome {
    for next in [NextCall::None, NextCall::RetryFlush, NextCall::AppendFlushed, NextCall::AppendBuffered] {
        for by_another in [false, true] {
            for buffered_before in [0, 1, 4] {
                let context = |finding: Finding| {
                    finding.context(format!(
                        "{next:?}, by another: {by_another}, {buffered_before} buffered before"
                    ))
                };
                let handles = open_handles(harness, 2).await?;
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
                let mut pending = log.clone();
                pending.noted("at stake");
                let answer = pending.take().send(&**one, Durability::Flushed).await;
                let storage = if by_another { two } else { one };
                let acknowledged = if answer.is_ok() { &pending } else { &log };
                let mut known = until_acknowledged(harness, Arc::clone(storage), acknowledged, next)
                    .await
                    .map_err(context)?;
                check!(
                    known.revision() >= acknowledged.revision(),
                    "{} records are left of {} that were acknowledged, though the power stayed",
                    known.revision(),
                    acknowledged.revision()
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
                let left = stored_log(&*storage, log.id()).await.map_err(context)?;
                let flushed = match next {
                    NextCall::None if answer.is_err() => 1,
                    NextCall::None
                    | NextCall::RetryFlush
                    | NextCall::AppendFlushed
                    | NextCall::AppendBuffered => known.revision(),
                };
                check!(
                    left.revision() >= flushed,
                    "{next:?}: {} records are left of {flushed}",
                    left.revision()
                );
                // A storage may have taken back what was at stake. Once something was acknowledged after it, it stays so.
                let whole = if matches!(next, NextCall::None) { &pending } else { &known };
                check_eq!(
                    left.records(),
                    whole.up_to(left.revision()).records(),
                    "what is left after {next:?}"
                );
                check_reads(&*storage, &left).await.map_err(context)?;
                known = left;
                check_reads(&*storage, &bystander).await.map_err(context)?;
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

pub(crate) async fn law_6_a_creation_can_be_retried_after_a_failed_flush(harness: &dyn Harness) -> Outcome {
    for by_another in [false, true] {
        let handles = open_handles(harness, 2).await?;
        let [one, two] = handles.as_slice() else { unreachable!("two were asked for") };
        let mut log = Log::plain();
        log.started();
        harness.fail_next_flush().await?;
        let first = log.whole().send(&**one, Durability::Flushed).await;
        let mut storage = Arc::clone(if by_another { two } else { one });
        let mut known = None;
        if first.is_err() {
            for _ in 0..MAX_REFUSALS {
                match log.whole().send(&*storage, Durability::Flushed).await {
                    Ok(_) => {
                        known = Some(log.clone());
                        break;
                    }
                    Err(StorageError::Conflict { actual: Some(_), .. }) => {
                        let next = NextCall::RetryFlush;
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
        check_reads(&*storage, &known).await?;
    }
    Ok(())
}
