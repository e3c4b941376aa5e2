//! Law 4: a future that is dropped, wherever it was, leaves a state that law 1 allows.

use std::future::Future;
use std::task::Poll;

use session_core::{Durability, Expected, SessionId, SessionStorage, StorageError, Tip};

use super::{handles, limit, reads_as, reads_as_gone, there};
use crate::harness::Harness;
use crate::law::{Finding, Outcome, check, same};
use crate::logs::Log;

/// More polls than any call needs on its way; whoever needs more is polled to its end.
const MOST: usize = 64;
/// How often one may find that the dropped call took place after all, a moment later.
const TRIES: usize = 1000;

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
async fn go_on(storage: &dyn SessionStorage, id: SessionId) -> Result<(Log, u64), Finding> {
    for _ in 0..TRIES {
        let mut log = there(storage, id).await?;
        let before = log.revision();
        log.noted("going on");
        match log.take().send(storage, Durability::Flushed).await {
            Ok(_) => return Ok((log, before)),
            Err(StorageError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Finding::violated(format!("{TRIES} appends in a row came too late, and nobody else is there")))
}

pub(crate) async fn law_4_a_dropped_append_happened_or_did_not(harness: &dyn Harness) -> Outcome {
    let handles = handles(harness, 2).await?;
    let [one, two] = handles.as_slice() else { unreachable!("two were asked for") };
    for durability in [Durability::Buffered, Durability::Flushed] {
        for size in [0, 1, 3, 20] {
            let mut log = Log::plain();
            log.started();
            log.take().send(&**one, Durability::Flushed).await?;
            for polls in 0..=MOST {
                let mut after = log.clone();
                for n in 0..size {
                    after.noted(n);
                }
                let step = after.take().expecting(Expected::At(log.tip()));
                let sent = drop_after(step.send(&**one, durability), polls).await;
                let context =
                    |finding: Finding| finding.under(format!("{size} records dropped after {polls} polls"));
                let (now, then) = go_on(&**two, log.id()).await.map_err(context)?;
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
                same!(there.records(), after.up_to(then).records(), "what a drop after {polls} polls left");
                check!(
                    polls > 0 || size == 0 || then == log.revision(),
                    "a call that was never polled did something"
                );
                for storage in [one, two] {
                    reads_as(&**storage, &now).await.map_err(context)?;
                }
                if let Some(answer) = sent {
                    same!(answer?, after.tip(), "the answer to an append that was not dropped");
                    same!(then, after.revision(), "the records after an append that was not dropped");
                    break;
                }
                log = now;
            }
        }
    }
    Ok(())
}

pub(crate) async fn law_4_a_dropped_creation_happened_or_did_not(harness: &dyn Harness) -> Outcome {
    let handles = handles(harness, 2).await?;
    let [one, two] = handles.as_slice() else { unreachable!("two were asked for") };
    for durability in [Durability::Buffered, Durability::Flushed] {
        for expected in [Expected::Absent, Expected::AbsentWithin(limit(1))] {
            for polls in 0..=MOST {
                let mut log = Log::plain();
                log.started().noted(1);
                let sent = drop_after(log.take().expecting(expected).send(&**one, durability), polls).await;
                let mut left = None;
                // Created by the dropped call a moment later, or by this one: after it there is nothing to come.
                for _ in 0..TRIES {
                    let mut rival = log.up_to(1);
                    rival.noted("rival");
                    match rival.whole().expecting(expected).send(&**two, Durability::Flushed).await {
                        Ok(_) => left = Some(rival),
                        Err(StorageError::Conflict { .. }) => {
                            let found = there(&**two, log.id()).await?;
                            same!(
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
                    reads_as(&**storage, &left)
                        .await
                        .map_err(|finding| finding.under(format!("{polls} polls")))?;
                }
                two.delete(left.id(), left.tip()).await?;
                for storage in [one, two] {
                    reads_as_gone(&**storage, left.id()).await?;
                }
                if let Some(answer) = sent {
                    same!(answer?, log.tip(), "the answer to a creation that was not dropped");
                    break;
                }
            }
        }
    }
    Ok(())
}

pub(crate) async fn law_4_a_dropped_deletion_happened_or_did_not(harness: &dyn Harness) -> Outcome {
    let handles = handles(harness, 2).await?;
    let [one, two] = handles.as_slice() else { unreachable!("two were asked for") };
    for polls in 0..=MOST {
        let mut log = Log::plain();
        log.started().noted(1);
        log.take().send(&**one, Durability::Flushed).await?;
        let sent = drop_after(one.delete(log.id(), log.tip()), polls).await;
        let before: Tip = log.tip();
        log.noted("still there");
        let gone = match log.take().send(&**two, Durability::Flushed).await {
            Ok(_) => false,
            Err(StorageError::Conflict { expected, actual: None, .. }) => {
                same!(expected, Some(before), "what a conflict with a deletion says was expected");
                true
            }
            Err(error) => return Err(error.into()),
        };
        check!(gone || sent.is_none(), "an append came after a deletion was acknowledged");
        check!(polls > 0 || !gone, "a deletion that was never polled took place");
        for storage in [one, two] {
            if gone {
                reads_as_gone(&**storage, log.id()).await?;
            } else {
                reads_as(&**storage, &log)
                    .await
                    .map_err(|finding| finding.under(format!("{polls} polls")))?;
            }
        }
        if let Some(answer) = sent {
            answer?;
            break;
        }
    }
    Ok(())
}
