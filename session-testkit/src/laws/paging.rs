//! Law 5 for pages: no gaps and no repeats, for every page size and start.

use session_core::backend::SessionStorage;
use session_core::{
    Durability, Head, SessionConfig, SessionFilter, SessionId, StateName, StorageError, StoredRecord,
};

use super::{all_heads, check_absent, limit, open_handles};
use crate::harness::Harness;
use crate::law::{Outcome, check, check_eq};
use crate::logs::{self, Log};

pub(crate) async fn law_5_records_are_paged_without_gaps_or_repeats(harness: &dyn Harness) -> Outcome {
    let handles = open_handles(harness, 2).await?;
    let [writer, reader] = handles.as_slice() else { unreachable!("two were asked for") };
    let mut log = Log::plain();
    log.started();
    for n in 0..11_usize {
        log.noted("x".repeat(n * n * 10));
        if n % 4 == 0 {
            log.take().send(&**writer, Durability::Buffered).await?;
        }
    }
    log.take().send(&**writer, Durability::Flushed).await?;
    let len = log.records().len();
    for after in 0..len + 3 {
        for size in (1..len + 3).chain([1000, usize::MAX]) {
            let page = reader.records(log.id(), after as u64, limit(size)).await?.records;
            let follows: Vec<StoredRecord> = log.records().iter().skip(after).cloned().collect();
            check!(page.len() <= size, "{} records after {after} on a page of {size}", page.len());
            check!(
                follows.is_empty() == page.is_empty(),
                "{} records after {after} on a page of {size}: only the end of the log is an empty page",
                page.len()
            );
            // A page may be shorter than requested, but must contain what follows.
            check_eq!(
                page.as_slice(),
                follows.get(..page.len()).unwrap_or_default(),
                "a page of {size} after {after}"
            );
        }
    }
    for after in [u64::MAX, u64::MAX - 1, 1 << 32, 1 << 63] {
        check!(reader.records(log.id(), after, limit(5)).await?.records.is_empty(), "records after {after}");
    }
    Ok(())
}

/// Reads all pages of a list, and checks the size and order of each.
async fn pages(
    storage: &dyn SessionStorage,
    filter: &SessionFilter,
    mut after: Option<SessionId>,
    size: usize,
) -> Result<Vec<Head>, crate::law::Finding> {
    let mut all: Vec<Head> = Vec::new();
    loop {
        let page = storage.list(filter, after, limit(size)).await?;
        check!(page.heads.len() <= size, "{} heads on a page of {size}", page.heads.len());
        check!(page.unreadable.is_empty(), "unreadable: {:?}", page.unreadable);
        for head in page.heads {
            check!(after.is_none_or(|after| head.id > after), "{} is listed after {after:?}", head.id);
            after = Some(head.id);
            all.push(head);
        }
        let Some(next) = page.next else { return Ok(all) };
        check!(after.is_none_or(|after| next >= after), "continuing after {next} would repeat {after:?}");
        after = Some(next);
    }
}

pub(crate) async fn law_5_a_list_is_paged_without_gaps_or_repeats(harness: &dyn Harness) -> Outcome {
    let storage = harness.open().await?;
    check_eq!(all_heads(&*storage).await?, Vec::<Head>::new(), "the list of an empty store");
    let mut expected = Vec::new();
    for round in 0..3 {
        for state in StateName::ALL {
            let mut log = logs::in_state(*state, SessionConfig::new("test").name(format!("{state}-{round}")));
            log.take().send(&*storage, Durability::Buffered).await?;
            expected.push(log.head().clone());
        }
    }
    // The lowest and highest ids, and a neighbour.
    for last in [[0; 16], [0xff; 16], std::array::from_fn(|n| u8::from(n == 15))] {
        let mut log = Log::with_id(SessionId::from_bytes(last), SessionConfig::new("test").name("edge"));
        log.take().send(&*storage, Durability::Flushed).await?;
        expected.push(log.head().clone());
    }
    expected.sort_by_key(|head| head.id);
    for filter in
        [SessionFilter::all(), SessionFilter::active(), SessionFilter::all().state(StateName::Failed)]
    {
        let matching: Vec<Head> = expected.iter().filter(|head| filter.matches(head)).cloned().collect();
        for size in (1..expected.len() + 2).chain([1000, usize::MAX]) {
            check_eq!(
                pages(&*storage, &filter, None, size).await?,
                matching,
                "all pages of {size} under {filter:?}"
            );
        }
        // After ids of existing sessions, and after other ids.
        let absent = (0..8).map(|_| SessionId::random()).collect::<Vec<_>>();
        for after in expected.iter().map(|head| head.id).chain(absent) {
            let follows: Vec<Head> = matching.iter().filter(|head| head.id > after).cloned().collect();
            for size in [1, 2, 5, 1000] {
                let all = pages(&*storage, &filter, Some(after), size).await?;
                check_eq!(all, follows, "all pages of {size} after {after} under {filter:?}");
            }
        }
    }
    Ok(())
}

pub(crate) async fn law_5_a_missing_session_is_not_found(harness: &dyn Harness) -> Outcome {
    let storage = harness.open().await?;
    for round in 0..2 {
        for id in [SessionId::random(), SessionId::from_bytes([0; 16]), SessionId::from_bytes([0xff; 16])] {
            check_absent(&*storage, id).await?;
            let answer = storage.delete(id, Log::plain().tip()).await;
            check!(
                matches!(answer, Err(StorageError::NotFound { id: named }) if named == id),
                "expected NotFound for a deletion, not {answer:?}"
            );
        }
        if round == 0 {
            Log::plain().take().send(&*storage, Durability::Flushed).await?;
        }
    }
    Ok(())
}
