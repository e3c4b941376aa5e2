//! Law 4: a dropped future leaves a state that law 1 allows.

use std::future::Future;
use std::task::Poll;

use session_core::backend::{Expected, SessionStorage, Tip};
use session_core::{Durability, SessionId, StorageError};

use super::{check_absent, check_reads, limit, open_handles, stored_log};
use crate::harness::Harness;
use crate::law::{Finding, Outcome, check, check_eq};
use crate::logs::Log;

/// More polls than any call needs.
const MAX_POLLS: usize = 64;
/// Retries while the dropped call may still complete in the background.
const MAX_TRIES: usize = 1000;

/// Polls a call until it completes, or drops it after this many polls.
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

/// Creates and deletes another session, which gives a dropped call time to complete in the background.
pub(super) async fn settle(storage: &dyn SessionStorage) -> Outcome {
    let mut log = Log::plain();
    log.take().send(storage, Durability::Flushed).await?;
    storage.delete(log.id(), log.tip()).await?;
    Ok(())
}

/// Appends to the stored log until there is no conflict. After that, the dropped call has taken effect or never will.
async fn append_next(storage: &dyn SessionStorage, id: SessionId) -> Result<(Log, u64), Finding> {
    for _ in 0..MAX_TRIES {
        let mut log = stored_log(storage, id).await?;
        let before = log.revision();
        log.noted("next");
        match log.take().send(storage, Durability::Flushed).await {
            Ok(_) => return Ok((log, before)),
            Err(StorageError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Finding::violated(format!("{MAX_TRIES} conflicts in a row without another writer")))
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
                    "after {polls} polls there are records that were never appended"
                );
                check_eq!(
                    there.records(),
                    after.up_to(then).records(),
                    "what a drop after {polls} polls left"
                );
                check!(
                    polls > 0 || size == 0 || then == log.revision(),
                    "a call that was never polled had an effect"
                );
                for storage in [one, two] {
                    check_reads(&**storage, &now).await.map_err(context)?;
                }
                if let Some(answer) = sent {
                    check_eq!(answer?, after.tip(), "the result of an append that was not dropped");
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
                // Created by the dropped call in the background, or by this one: after it the dropped call has no
                // effect.
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
                        // The dropped call still holds the place in the background.
                        Err(StorageError::MaxSessions { .. }) => continue,
                        Err(error) => return Err(error.into()),
                    }
                    break;
                }
                let Some(left) = left else {
                    return Err(Finding::violated(format!(
                        "dropped after {polls} polls, its place is never freed"
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
                    check_eq!(answer?, log.tip(), "the result of a creation that was not dropped");
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
        log.noted("exists");
        let gone = match log.take().send(&**two, Durability::Flushed).await {
            Ok(_) => false,
            Err(StorageError::Conflict { expected, actual: None, .. }) => {
                check_eq!(expected, Some(before), "the expected tip that a conflict with a deletion reports");
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
