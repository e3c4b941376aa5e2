//! Law 3 without crashes: visibility of acknowledged changes, the profile, and change feeds.

use std::time::Duration;

use session_core::backend::Tip;
use session_core::{Durability, SessionId};
use tokio::time::timeout;

use super::{Handle, check_absent, check_reads, open_handles};
use crate::harness::Harness;
use crate::law::{Finding, Outcome, check, check_eq};
use crate::logs::Log;

pub(crate) async fn law_3_acknowledged_changes_are_visible_to_every_handle(harness: &dyn Harness) -> Outcome {
    let mut handles = open_handles(harness, 3).await?;
    for durability in [Durability::Buffered, Durability::Flushed] {
        let mut log = Log::plain();
        for storage in &handles {
            check_absent(&**storage, log.id()).await?;
        }
        for round in 0..9 {
            // Each append uses another handle, after every handle has read the log before it.
            let writer = handles.get(round % handles.len()).expect("the remainder is an index");
            log.take().send(&**writer, durability).await?;
            let newcomer = harness.open().await?;
            for storage in handles.iter().chain([&newcomer]) {
                check_reads(&**storage, &log)
                    .await
                    .map_err(|finding| finding.context(format!("round {round}")))?;
            }
            if round == 4 {
                // Dropping a handle must not remove anything.
                drop(std::mem::replace(handles.first_mut().expect("there are three"), newcomer));
            }
            log.noted(round);
        }
    }
    Ok(())
}

pub(crate) async fn law_3_the_profile_is_named_and_constant(harness: &dyn Harness) -> Outcome {
    let handles = open_handles(harness, 2).await?;
    let [one, two] = handles.as_slice() else { unreachable!("two were asked for") };
    let profile = one.profile();
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    check!(!profile.name.is_empty() && profile.name.chars().all(plain), "the name {:?}", profile.name);
    check_eq!(two.profile(), profile, "the profile of another handle");
    Log::plain().take().send(&**one, Durability::Flushed).await?;
    check_eq!(one.profile(), profile, "the profile after an append");
    let durability = profile.durability.map_or_else(|| "None".to_owned(), |promised| format!("{promised:?}"));
    crate::law::print_line(&format!("profile {}: {durability}, {:?}", profile.name, profile.sharing));
    Ok(())
}

/// Longer than any working feed takes to wake its waiters.
const WAKE_TIMEOUT: Duration = Duration::from_secs(10);

async fn check_wakes(
    storage: &Handle,
    id: SessionId,
    seen: Tip,
    change: impl Future<Output = Outcome>,
) -> Outcome {
    let Some(feed) = storage.change_feed() else {
        return Err(Finding::violated("the change feed has disappeared"));
    };
    let mut wait = std::pin::pin!(feed.changed(id, seen));
    // Polled once before the change, so that it waits. It may return early, because a wake-up is only a hint.
    let early = timeout(Duration::ZERO, &mut wait).await.is_ok();
    change.await?;
    check!(early || timeout(WAKE_TIMEOUT, wait).await.is_ok(), "the waiter was not woken");
    Ok(())
}

pub(crate) async fn law_3_a_change_feed_wakes_every_waiter(harness: &dyn Harness) -> Outcome {
    let handles = open_handles(harness, 2).await?;
    let [writer, waiter] = handles.as_slice() else { unreachable!("two were asked for") };
    if waiter.change_feed().is_none() {
        return Err(crate::harness::NotSupported("the storage has no change feed; its callers poll").into());
    }
    let mut log = Log::plain();
    log.take().send(&**writer, Durability::Flushed).await?;
    for (round, durability) in
        [Durability::Buffered, Durability::Flushed].into_iter().cycle().take(6).enumerate()
    {
        let seen = log.tip();
        log.noted(round);
        let step = log.take();
        let append = async { step.send(&**writer, durability).await.map(drop).map_err(Finding::from) };
        check_wakes(waiter, log.id(), seen, append).await?;
        // A change from before the wait must wake, too: no change between reading and waiting may be missed.
        let feed =
            waiter.change_feed().ok_or_else(|| Finding::violated("the change feed has disappeared"))?;
        let late = timeout(WAKE_TIMEOUT, feed.changed(log.id(), seen)).await;
        check!(late.is_ok(), "a change from before the wait did not wake the waiter");
    }
    let (id, tip) = (log.id(), log.tip());
    let delete = async { writer.delete(id, tip).await.map_err(Finding::from) };
    check_wakes(waiter, id, tip, delete).await
}
