//! Laws 7 and 8: damage is never silent, and does not affect other sessions.

use std::collections::BTreeSet;

use session_core::backend::{SessionStorage, SessionStorageExt as _};
use session_core::{Durability, SessionConfig, SessionFilter, SessionId, StateName};

use super::{all_heads, check_absent, check_reads, limit, open_handles};
use crate::harness::{Damage, Harness};
use crate::law::{Finding, Outcome, check, check_eq};
use crate::logs::{self, Log};
use crate::random::Random;

/// Returns each kind of damage to each record of a log of this length.
fn all_damage(len: u64) -> Vec<Damage> {
    let mut all = Vec::new();
    let mut random = Random::new(len);
    for revision in 1..=len {
        // Bits of the first byte, and random ones.
        all.extend([0, 7].map(|bit| Damage::Flip { revision, bit }));
        all.extend((0..6).map(|_| Damage::Flip { revision, bit: random.below(1 << 20) }));
        all.extend([Damage::Lose { revision }, Damage::Cut { after: revision - 1 }]);
        // Not the last record: if it is duplicated, everything acknowledged is still there.
        if revision < len {
            all.extend([Damage::Double { revision }, Damage::Swap { revision }]);
        }
    }
    all
}

/// Checks that every read of a damaged session returns what was acknowledged, or an error.
async fn check_nothing_hidden(storage: &dyn SessionStorage, log: &Log) -> Outcome {
    let id = log.id();
    for size in [1, 3, 1000] {
        let mut read = Vec::new();
        loop {
            let Ok(page) = storage.records(id, read.len() as u64, limit(size)).await else { break };
            if page.records.is_empty() {
                check!(read.len() >= log.records().len(), "the log silently ends at revision {}", read.len());
                break;
            }
            read.extend(page.records);
            let known = log.records().get(..read.len().min(log.records().len())).unwrap_or_default();
            check_eq!(read.get(..known.len()).unwrap_or_default(), known, "records of a damaged log");
            if read.len() > log.records().len() {
                break;
            }
        }
    }
    if let Ok(head) = storage.head(id).await {
        let Some(head) = head else {
            return Err(Finding::violated("a damaged session has silently disappeared"));
        };
        let prefix = log.head_at(head.tip.revision);
        check!(
            head.tip.revision > log.revision() || prefix == Some(&head),
            "a head that never existed: {head:?}"
        );
    }
    let page = storage.list_all(&SessionFilter::all()).await?;
    let listed = page.heads.iter().any(|head| head.id == id);
    let named = page.unreadable.iter().any(|(unreadable, _)| *unreadable == id);
    check!(listed || named, "a damaged session is silently missing in the list");
    Ok(())
}

/// Stores a log of some records, each flushed, and leaves no handle open.
async fn store(harness: &dyn Harness, log: &mut Log) -> Outcome {
    let storage = harness.open().await?;
    for step in log.take_each() {
        step.send(&*storage, Durability::Flushed).await?;
    }
    Ok(())
}

pub(crate) async fn law_7_damage_is_never_silent(harness: &dyn Harness) -> Outcome {
    const RECORDS: u64 = 5;
    for damage in all_damage(RECORDS) {
        let context = |finding: Finding| finding.context(format!("{damage:?}"));
        let mut log = Log::plain();
        log.started().checkpoint("a").iteration();
        check_eq!(log.revision(), RECORDS, "the records of our own log");
        store(harness, &mut log).await?;
        harness.damage(log.id(), damage).await?;
        let handles = open_handles(harness, 2).await?;
        for storage in &handles {
            check_nothing_hidden(&**storage, &log).await.map_err(context)?;
        }
        // An append may succeed or fail, but must not hide the damage.
        for storage in &handles {
            let mut more = log.clone();
            more.noted("more");
            drop(more.take().send(&**storage, Durability::Flushed).await);
            check_nothing_hidden(&**storage, &log)
                .await
                .map_err(|finding| context(finding.context("after an append")))?;
        }
    }
    Ok(())
}

pub(crate) async fn law_8_damage_to_one_session_does_not_affect_others(harness: &dyn Harness) -> Outcome {
    let mut others: Vec<Log> = Vec::new();
    for state in StateName::ALL {
        let mut log =
            logs::in_state(*state, SessionConfig::new("test").name(state.name()).label("state", "healthy"));
        store(harness, &mut log).await?;
        others.push(log);
    }
    others.sort_by_key(Log::id);
    let mut damaged = BTreeSet::new();
    for damage in all_damage(3) {
        let context = |finding: Finding| finding.context(format!("{damage:?} of another session"));
        let mut log = Log::plain();
        log.started().noted("to be damaged");
        store(harness, &mut log).await?;
        harness.damage(log.id(), damage).await?;
        damaged.insert(log.id());
        let storage = harness.open().await?;
        for other in &mut others {
            other.grow("continues");
            other.take().send(&*storage, Durability::Flushed).await.map_err(|error| context(error.into()))?;
            let records =
                storage.records_after(other.id(), 0).await.map_err(|error| context(error.into()))?;
            check_eq!(records, other.records(), "the records of a session while another is damaged");
            check_eq!(storage.head(other.id()).await?.as_ref(), Some(other.head()), "its head");
        }
        // No damaged session has this label, so the list must contain exactly the others.
        let filter = SessionFilter::all().label("state", "healthy");
        let page = storage.list_all(&filter).await.map_err(|error| context(error.into()))?;
        let found: Vec<SessionId> = page.heads.iter().map(|head| head.id).collect();
        let expected: Vec<SessionId> = others.iter().map(Log::id).collect();
        check_eq!(found, expected, "the list with {damage:?}");
        check!(page.unreadable.iter().all(|(id, _)| damaged.contains(id)), "others are unreadable too");
        let mut newcomer = Log::plain();
        newcomer.take().send(&*storage, Durability::Flushed).await.map_err(|error| context(error.into()))?;
        storage.delete(newcomer.id(), newcomer.tip()).await.map_err(|error| context(error.into()))?;
    }
    Ok(())
}

pub(crate) async fn law_8_changes_to_one_session_do_not_affect_others(harness: &dyn Harness) -> Outcome {
    const ROUNDS: usize = 120;
    let handles = open_handles(harness, 3).await?;
    let mut random = Random::new(8);
    // Ids that differ in one bit, with equal names and labels.
    let id = |n: usize| SessionId::from_bytes(std::array::from_fn(|at| u8::from(at == n * 2)));
    let config = SessionConfig::new("test").name("the same").label("the", "same");
    let mut logs: Vec<Option<Log>> = (0..8).map(|_| None).collect();
    for round in 0..ROUNDS {
        let at = random.below(logs.len());
        let storage = handles.get(random.below(handles.len())).expect("below the length");
        let slot = logs.get_mut(at).expect("below the length");
        match slot {
            None => {
                let mut log = Log::with_id(id(at), config.clone());
                log.take().send(&**storage, Durability::Buffered).await?;
                *slot = Some(log);
            }
            Some(log) if random.one_in(5) => {
                storage.delete(log.id(), log.tip()).await?;
                *slot = None;
            }
            Some(log) => {
                log.noted(round);
                log.take()
                    .send(&**storage, if round % 9 == 0 { Durability::Flushed } else { Durability::Buffered })
                    .await?;
            }
        }
        if round % 10 == 0 || round == ROUNDS - 1 {
            for (at, log) in logs.iter().enumerate() {
                match log {
                    Some(log) => check_reads(&**storage, log).await?,
                    None => check_absent(&**storage, id(at)).await?,
                }
            }
            check_eq!(
                all_heads(&**storage).await?.len(),
                logs.iter().flatten().count(),
                "sessions in round {round}"
            );
        }
    }
    Ok(())
}
