//! Law 4: a future that is dropped, wherever it was, leaves a state that law 1 allows.

use std::future::Future;
use std::task::Poll;

use session_core::{Durability, Expected, SessionId, SessionStorage, StorageError, Tip};

use super::{check_absent, check_reads, limit, open_handles, stored_log};
use crate::harness::Harness;
use crate::law::{Finding, Outcome, check, check_eq};
use crate::logs::Log;

/// More polls than any call needs on its way; whoever needs more is polled to its end.
const MAX_POLLS: usize = 64;
/// How often one may find that the dropped call took place after all, a moment later.
const MAX_TRIES: usize = 1000;

/// Polls a call, whenever it asks for it, and drops it after this many polls that did not finish it.
pub(super) async fn drop_after<T>(call: impl Future<Output = T>, polls: usize) -> Option<T> {
    let mut call = Box::pin(call);
    let mut left = polls;
    std::future::poll_fn(move |cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match call.as_mut().poll(cx) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Gives what a dropped call may have left running in the background the time that two more calls take.
pub(super) async fn settle(storage: &dyn SessionStorage) -> Outcome {
    let mut log = Log::plain();
    log.take().send(storage, Durability::Flushed).await?;
    storage.delete(log.id(), log.tip()).await?;
    Ok(())
}

/// Appends to whatever the log is now, until nothing comes in between. What a dropped call left running is then done
/// or will never be stored.
async fn append_next(storage: &dyn SessionStorage, id: SessionId) -> Result<(Log, u64), Finding> {
    for _ in 0..MAX_TRIES {
        let mut log = stored_log(storage, id).await?;
        let before = log.revision();
        log.noted("going on");
        match log.take().send(storage, Durability::Flushed).await {
            Ok(_) => return Ok((log, before)),
            Err(StorageError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Finding::violated(format!("{MAX_TRIES} appends in a row came too late, and nobody else is there")))
}

pub(crate) async fn law_4_a_dropped_append_leaves_a_prefix_of_its_batch(harness: &dyn Harness) -> Outcome {
    let handles = open_handles(harness, 2).await?;
    let [one, two] = handles.as_slice() else { unreachable!("two were asked for") };
    for durability in [Durability::Buffered, Durability::Flushed] {
        for size in [0, 1, 3, 20] {
            let mut log = Log::plain();
            log.started();
            log.take().send(&**one, Durability::Flushed).await?;
            for polls in 0..=MAX_POLLS {
                let mut after = log.clone();
                for n in 0..size {
                    after.noted(n);
                }
                let step = after.take().expecting(Expected::At(log.tip()));
                let sent = drop_after(step.send(&**one, durability), polls).await;
                let context =
                    |finding: Finding| finding.context(format!("{size} records dropped after {polls} polls"));
                let (now, then) = append_next(&**two, log.id()).await.map_err(context)?;
                let there = now.up_to(then);
                check!(
                    then >= log.revision(),
                    "after {polls} polls {then} records of {} are left",
                    log.revision()
                );
                check!(
                    then <= after.revision(),
                    "after {polls} polls there are records that nobody appended"
                );
                check_eq!(
                    there.records(),
                    after.up_to(then).records(),
                    "what a drop after {polls} polls left"
                );
                check!(
                    polls > 0 || size == 0 || then == log.revision(),
                    "a call that was never polled did something"
                );
                for storage in [one, two] {
                    check_reads(&**storage, &now).await.map_err(context)?;
                }
                if let Some(answer) = sent {
                    check_eq!(answer?, after.tip(), "the answer to an append that was not dropped");
                    check_eq!(then, after.revision(), "the records after an append that was not dropped");
                    break;
                }
                log = now;
            }
        }
    }
    Ok(())
}

pub(crate) async fn law_4_a_dropped_creation_leaves_the_session_or_nothing(harness: &dyn Harness) -> Outcome {
    let handles = open_handles(harness, 2).await?;
    let [one, two] = handles.as_slice() else { unreachable!("two were asked for") };
    for durability in [Durability::Buffered, Durability::Flushed] {
        for expected in [Expected::Absent, Expected::AbsentWithin(limit(1))] {
            for polls in 0..=MAX_POLLS {
                let mut log = Log::plain();
                log.started().noted(1);
                let sent = drop_after(log.take().expecting(expected).send(&**one, durability), polls).await;
                let mut left = None;
                // Created by the dropped call a moment later, or by this one: after it there is nothing to come.
                for _ in 0..MAX_TRIES {
                    let mut rival = log.up_to(1);
                    rival.noted("rival");
                    match rival.whole().expecting(expected).send(&**two, Durability::Flushed).await {
                        Ok(_) => left = Some(rival),
                        Err(StorageError::Conflict { .. }) => {
                            let found = stored_log(&**two, log.id()).await?;
                            check_eq!(
                                found.records(),
                                log.up_to(found.revision()).records(),
                                "what a drop after {polls} polls left"
                            );
                            left = Some(found);
                        }
                        // The dropped call holds the place and is not yet to be seen, or not gone yet.
                        Err(StorageError::MaxSessions { .. }) => continue,
                        Err(error) => return Err(error.into()),
                    }
                    break;
                }
                let Some(left) = left else {
                    return Err(Finding::violated(format!(
                        "dropped after {polls} polls, its place is lost for ever"
                    )));
                };
                for storage in [one, two] {
                    check_reads(&**storage, &left)
                        .await
                        .map_err(|finding| finding.context(format!("{polls} polls")))?;
                }
                two.delete(left.id(), left.tip()).await?;
                for storage in [one, two] {
                    check_absent(&**storage, left.id()).await?;
                }
                if let Some(answer) = sent {
                    check_eq!(answer?, log.tip(), "the answer to a creation that was not dropped");
                    break;
                }
            }
        }
    }
    Ok(())
}

pub(crate) async fn law_4_a_dropped_deletion_is_complete_or_has_no_effect(harness: &dyn Harness) -> Outcome {
    let handles = open_handles(harness, 2).await?;
    let [one, two] = handles.as_slice() else { unreachable!("two were asked for") };
    for polls in 0..=MAX_POLLS {
        let mut log = Log::plain();
        log.started().noted(1);
        log.take().send(&**one, Durability::Flushed).await?;
        let sent = drop_after(one.delete(log.id(), log.tip()), polls).await;
        let before: Tip = log.tip();
        log.noted("still there");
        let gone = match log.take().send(&**two, Durability::Flushed).await {
            Ok(_) => false,
            Err(StorageError::Conflict { expected, actual: None, .. }) => {
                check_eq!(expected, Some(before), "what a conflict with a deletion says was expected");
                true
            }
            Err(error) => return Err(error.into()),
        };
        check!(gone || sent.is_none(), "an append came after a deletion was acknowledged");
        check!(polls > 0 || !gone, "a deletion that was never polled took place");
        for storage in [one, two] {
            if gone {
                check_absent(&**storage, log.id()).await?;
            } else {
                check_reads(&**storage, &log)
                    .await
                    .map_err(|finding| finding.context(format!("{polls} polls")))?;
            }
        }
        if let Some(answer) = sent {
            answer?;
            break;
        }
    }
    Ok(())
}
