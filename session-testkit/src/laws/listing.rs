//! Law 5 for lists: filters, and concurrent creations and deletions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use session_core::backend::SessionStorageExt as _;
use session_core::{Durability, Head, SessionConfig, SessionFilter, SessionId, StateName, Timestamp};

use super::{all_heads, limit, open_handles};
use crate::harness::Harness;
use crate::law::{Finding, Outcome, check, check_eq};
use crate::logs::{self, Log};

/// Returns the filters to test on these heads.
fn filters(all: &[Head]) -> Vec<SessionFilter> {
    let mut states = vec![SessionFilter::all(), SessionFilter::active()];
    for (at, one) in StateName::ALL.iter().enumerate() {
        states.push(SessionFilter::all().state(*one));
        states.extend(
            StateName::ALL.iter().skip(at).map(|other| SessionFilter::all().state(*other).state(*one)),
        );
    }
    let names: [Option<&str>; 7] =
        [None, Some("a"), Some("A"), Some("a%"), Some("unknown"), Some(""), Some("long")];
    let labels: [&[(&str, &str)]; 6] = [
        &[],
        &[("team", "data")],
        &[("team", "Data")],
        &[("team", "data"), ("round", "1")],
        &[("team", "data"), ("team", "web")],
        &[("empty", "")],
    ];
    let mut instants: Vec<Option<Timestamp>> = vec![None];
    for head in all {
        let millis = head.updated_at.as_millis();
        instants.extend([millis - 1, millis, millis + 1].map(Timestamp::from_millis));
    }
    instants.sort();
    instants.dedup();
    let long = "n".repeat(128);
    let mut filters = Vec::new();
    for state in &states {
        for name in names {
            for some in labels {
                let mut filter = state.clone();
                filter.name = name.map(|name| if name == "long" { long.clone() } else { name.to_owned() });
                filter.labels =
                    some.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
                // Times are combined with every state, and with every name and label, but not with all three.
                let with_instants = state.states.is_empty() || (name.is_none() && some.is_empty());
                for instant in instants.iter().take(if with_instants { usize::MAX } else { 1 }) {
                    filter.updated_since = *instant;
                    filters.push(filter.clone());
                }
            }
        }
    }
    filters
}

pub(crate) async fn law_5_a_filtered_list_contains_exactly_the_matches(harness: &dyn Harness) -> Outcome {
    let storage = harness.open().await?;
    let mut configs = vec![
        SessionConfig::new("test").name("a"),
        SessionConfig::new("test").name("A").label("team", "data"),
        SessionConfig::new("test").name("a%").label("team", "data").label("round", "1"),
        SessionConfig::new("test").name("n".repeat(128)).label("team", "web").label("round", "1"),
    ];
    configs.push(SessionConfig::new("test").name("ab").label("team", "Data").label("empty", ""));
    let mut all = Vec::new();
    for (n, state) in StateName::ALL.iter().cycle().take(3 * StateName::ALL.len()).enumerate() {
        let config = configs.get(n % configs.len()).cloned().unwrap_or_default();
        let mut log = logs::in_state(*state, config);
        for more in 0..n % 4 {
            log.grow(more);
        }
        let durability = if n % 2 == 0 { Durability::Flushed } else { Durability::Buffered };
        // In one round, records are appended one by one, so that what the filters match changes along the way.
        let is_stepwise = n / StateName::ALL.len() == 1;
        for step in if is_stepwise { log.take_each() } else { vec![log.take()] } {
            step.send(&*storage, durability).await?;
        }
        all.push(log.head().clone());
    }
    all.sort_by_key(|head| head.id);
    check_eq!(all_heads(&*storage).await?, all, "the unfiltered list");
    for filter in filters(&all) {
        let expected: Vec<SessionId> =
            all.iter().filter(|head| filter.matches(head)).map(|head| head.id).collect();
        let page = storage.list(&filter, None, limit(1000)).await?;
        let mut found: Vec<SessionId> = page.heads.iter().map(|head| head.id).collect();
        check!(page.unreadable.is_empty(), "unreadable: {:?}", page.unreadable);
        if page.next.is_some() {
            found = storage.list_all(&filter).await?.heads.iter().map(|head| head.id).collect();
        }
        check_eq!(found, expected, "the heads that match {filter:?}");
    }
    Ok(())
}

pub(crate) async fn law_5_a_list_shows_each_lasting_session_exactly_once(harness: &dyn Harness) -> Outcome {
    const ROUNDS: usize = 25;
    let handles = open_handles(harness, 4).await?;
    let [lister, churners @ ..] = handles.as_slice() else { unreachable!("four were asked for") };
    let mut lasting = BTreeMap::new();
    for n in 0..20 {
        let mut log = Log::new(SessionConfig::new("test").name(format!("lasting-{n}")));
        log.take().send(&**lister, Durability::Buffered).await?;
        lasting.insert(log.id(), log);
    }
    for size in [1, 3] {
        let mut removed = before_all_others();
        removed.take().send(&**lister, Durability::Buffered).await?;
        check_list(&**lister, &lasting, size, Some(removed)).await?;
    }
    let done = Arc::new(AtomicBool::new(false));
    let churn: Vec<_> = churners
        .iter()
        .enumerate()
        .map(|(n, storage)| {
            let (storage, done) = (Arc::clone(storage), Arc::clone(&done));
            let mut mine: Vec<Log> = lasting.values().skip(n).step_by(churners.len()).cloned().collect();
            tokio::spawn(async move {
                while !done.load(Ordering::Relaxed) {
                    // One session is created, appended to, ended and deleted; a lasting one is appended to.
                    let mut log = Log::plain();
                    for durability in [Durability::Buffered, Durability::Flushed] {
                        log.noted("passing");
                        log.take().send(&*storage, durability).await?;
                    }
                    log.cancelled();
                    log.take().send(&*storage, Durability::Buffered).await?;
                    storage.delete(log.id(), log.tip()).await?;
                    mine.rotate_left(1);
                    if let Some(log) = mine.first_mut() {
                        log.noted("lasting");
                        log.take().send(&*storage, Durability::Buffered).await?;
                    }
                    tokio::task::yield_now().await;
                }
                Ok::<_, Finding>(mine)
            })
        })
        .collect();
    let mut outcome = Ok(());
    for size in [1, 3, 1000].into_iter().cycle().take(ROUNDS) {
        outcome = check_list(&**lister, &lasting, size, None).await;
        if outcome.is_err() {
            break;
        }
        tokio::task::yield_now().await;
    }
    done.store(true, Ordering::Relaxed);
    let mut left = Vec::new();
    for churner in churn {
        left.extend(churner.await??);
    }
    outcome?;
    left.sort_by_key(Log::id);
    let left: Vec<Head> = left.iter().map(|log| log.head().clone()).collect();
    check_eq!(all_heads(&**lister).await?, left, "the list after all changes");
    Ok(())
}

/// Creates a log whose id is lower than almost all random ids, so that a list starts with it.
fn before_all_others() -> Log {
    let random = SessionId::random().to_string();
    let id = format!("00000000{}", random.split_at(8).1).parse().expect("only digits were changed");
    Log::with_id(id, SessionConfig::new("test").name("passing"))
}

/// Reads the list page by page and checks that every lasting session is on it. After the first page, `removed`, which
/// was on that page, is deleted: the sessions behind it move up by one place and must still be listed.
async fn check_list(
    storage: &dyn session_core::backend::SessionStorage,
    lasting: &BTreeMap<SessionId, Log>,
    size: usize,
    mut removed: Option<Log>,
) -> Outcome {
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = storage.list(&SessionFilter::all(), after, limit(size)).await?;
        check!(page.unreadable.is_empty(), "unreadable during concurrent changes: {:?}", page.unreadable);
        seen.extend(page.heads.iter().map(|head| head.id));
        after = page.next;
        if let Some(removed) = removed.take() {
            storage.delete(removed.id(), removed.tip()).await?;
        }
        if after.is_none() {
            break;
        }
    }
    check!(seen.is_sorted_by(|one, two| one < two), "not ascending, or listed twice: {seen:?}");
    let missing: Vec<&SessionId> = lasting.keys().filter(|id| seen.binary_search(id).is_err()).collect();
    check!(
        missing.is_empty(),
        "sessions that existed throughout are missing on pages of {size}: {missing:?}"
    );
    Ok(())
}
