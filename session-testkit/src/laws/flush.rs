//! Law 6: nothing is acknowledged on top of a failed flush, by any handle.

use std::sync::Arc;

use session_core::backend::{Batch, Expected};
use session_core::{Durability, StorageError};

use super::{Handle, check_reads, open_handles, stored_log};
use crate::harness::{Crash, Harness, Kept};
use crate::law::{Finding, Outcome, check, check_eq};
use crate::logs::Log;

/// Calls that a store may refuse after a failed flush, on a disk that works again.
const MAX_REFUSALS: usize = 20;

/// The next call of a writer whose flush failed.
#[derive(Debug, Clone, Copy)]
enum NextCall {
    /// No call: power loss follows.
    None,
    /// Flushes again, without new records.
    RetryFlush,
    /// Appends the next record, flushed.
    AppendFlushed,
    /// Appends the next record buffered, and then flushes.
    AppendBuffered,
}

/// Repeats the call until it is acknowledged as flushed, and returns the log up to there.
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
        // After a failure, only the log shows what is stored.
        let mut log = stored_log(&*storage, log.id()).await?;
        let before = log.tip();
        let durability = match next {
            NextCall::None | NextCall::RetryFlush => Durability::Flushed,
            NextCall::AppendFlushed => {
                log.noted("next");
                Durability::Flushed
            }
            NextCall::AppendBuffered => {
                log.noted("next");
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
                check_eq!(tip, log.tip(), "the result after a failed flush");
                return Ok(log);
            }
            Err(StorageError::NotFound { .. } | StorageError::InvalidArgument { .. }) => {
                return Err(Finding::violated(format!("a failed flush must not be reported as {answer:?}")));
            }
            // Another refusal: a handle may stay closed, the store may not.
            Err(_) => storage = harness.open().await?,
        }
    }
    Err(Finding::violated(format!(
        "one flush failed, and the session is still unusable {MAX_REFUSALS} calls later"
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
                pending.noted("pending");
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
                // The failed flush must only affect its session.
                bystander.noted("flushed");
                bystander
                    .take()
                    .send(&**two, Durability::Flushed)
                    .await
                    .map_err(|error| context(error.into()))?;
                harness.crash(Crash::PowerLoss(Kept::Nothing)).await?;
                drop(handles);
                let storage = harness.open().await?;
                // Power loss may leave a part of what was never acknowledged as flushed.
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
                // A storage may have removed the pending record, but not after acknowledging something behind it.
                let whole = if matches!(next, NextCall::None) { &pending } else { &known };
                check_eq!(
                    left.records(),
                    whole.up_to(left.revision()).records(),
                    "what is left after {next:?}"
                );
                check_reads(&*storage, &left).await.map_err(context)?;
                known = left;
                check_reads(&*storage, &bystander).await.map_err(context)?;
                known.noted("continued");
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
            return Err(Finding::violated("one flush failed, and the session cannot be created any more"));
        };
        harness.crash(Crash::PowerLoss(Kept::Nothing)).await?;
        drop((handles, storage));
        let storage = harness.open().await?;
        check_reads(&*storage, &known).await?;
    }
    Ok(())
}
