//! `SessionStorageExt` on the memory storage and, where it matters, on a storage without a change feed.

#![expect(clippy::unwrap_used, reason = "in a test, a missing value is a failure")]

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use session_core::backend::{Imported, MemoryStorage, SessionStorage, SessionStorageExt as _};
use session_core::{
    Changes, Commit, Durability, ErrorCode, FileChange, PauseReason, SessionConfig, SessionEvent,
    SessionFilter, SessionId, SessionState, StoredRecord, WorkHistory,
};
use session_testkit::logs::{self, Log};
use session_testkit::{Crash, Damage, Harness as _, Kept, TieredHarness};

/// A poll interval longer than any test, so that only the change feed can wake a watcher.
const NEVER: Duration = Duration::from_secs(3600);
/// A poll interval for storages without a change feed.
const OFTEN: Duration = Duration::from_millis(2);

async fn store(storage: &dyn SessionStorage, log: &mut Log) {
    log.take().send(storage, Durability::Flushed).await.unwrap();
}

#[tokio::test]
async fn a_loaded_session_has_its_full_texts() {
    let storage = MemoryStorage::new();
    let text = "why ".repeat(500);
    let config = SessionConfig::new("import").name("nightly").metadata(json!({ "rows": 7 }));
    let mut log = Log::new(config.clone());
    log.started()
        .checkpoint("first")
        .checkpoint(json!([2]))
        .paused(PauseReason::Limit(text.clone()))
        .interrupted();
    log.noted("unowned").cancel_requested();
    store(&storage, &mut log).await;
    let loaded = storage.load(log.id()).await.unwrap();
    assert_eq!(&loaded.head, log.head());
    assert_eq!(loaded.config, config);
    assert_eq!(loaded.checkpoint, Some(json!([2])));
    assert_eq!(loaded.state, SessionState::Paused { reason: PauseReason::Limit(text.clone()) });
    assert_ne!(loaded.head.state(), &loaded.state, "a head's texts are truncated");
    log.push(SessionEvent::Cancelled { reason: text.clone() });
    store(&storage, &mut log).await;
    let ended = storage.load(log.id()).await.unwrap();
    assert_eq!(ended.state, SessionState::Cancelled { reason: text });
    assert_eq!(storage.load(SessionId::random()).await.unwrap_err().code(), ErrorCode::NotFound);
}

/// Regression: four sums were all that a log knew of the changes, and counts all that there was of commands.
#[tokio::test]
async fn the_history_names_distinct_files_and_last_commands() {
    let storage = MemoryStorage::new();
    let mut log = Log::plain();
    log.started();
    let iterations = 300_u64;
    for number in 1..=iterations {
        log.push(SessionEvent::IterationStarted { number });
        log.push(SessionEvent::CommandExecuted {
            command: format!("cargo test {number}"),
            exit_code: (number % 2 == 0).then_some(1),
            signal: (number % 2 == 1).then_some(9),
            duration_ms: number,
            output_bytes: 7,
            main: false,
            stop: None,
        });
        let mut changes = Changes::new()
            .file(FileChange::modified("src/lib.rs").lines(2, 1))
            .file(FileChange::added(format!("src/{}.rs", number % 50)))
            .commit(Commit::new(format!("{number:040x}"), "Do a part of it"));
        if number == 7 {
            changes = Changes::totals(3, 0, 0, 2);
        }
        log.push(SessionEvent::IterationCompleted { number, changes });
    }
    store(&storage, &mut log).await;
    let history = storage.history(log.id()).await.unwrap();
    assert_eq!((history.distinct_files(), history.unnamed_files), (51, 3));
    assert!(history.files.contains("src/49.rs") && history.files.contains("src/lib.rs"));
    let totals = log.head().totals;
    assert_eq!(totals.files_changed, 2 * (iterations - 1) + 3, "the head sums them up");
    assert_eq!((history.commits.len(), history.other_commits), (100, totals.commits - 100));
    assert_eq!(history.commits.back(), Some(&Commit::new(format!("{iterations:040x}"), "Do a part of it")));
    assert_eq!((history.commands.len(), history.earlier_commands), (100, iterations - 100));
    let first = history.commands.front().unwrap();
    assert_eq!((&*first.command, first.exit_code, first.signal), ("cargo test 201", None, Some(9)));
    assert_eq!((first.duration_ms, first.output_bytes), (201, 7));
    let error = storage.history(SessionId::random()).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::NotFound);
    // The same from records that the caller has.
    let mut folded = WorkHistory::new();
    for stored in storage.records_after(log.id(), 0).await.unwrap() {
        folded.apply(&stored.decode().unwrap());
    }
    assert_eq!(folded, history);
}

#[tokio::test]
async fn a_loaded_session_has_the_state_of_its_head() {
    let storage = MemoryStorage::new();
    for mut log in logs::of_every_kind() {
        store(&storage, &mut log).await;
        let loaded = storage.load(log.id()).await.unwrap();
        assert_eq!(loaded.state.name(), log.head().state().name());
        assert_eq!(loaded.checkpoint.is_some(), log.head().checkpoint.is_some());
    }
}

#[tokio::test]
async fn heads_are_paged_without_repeats() {
    let storage = MemoryStorage::new();
    let mut ids = Vec::new();
    for n in 0..600 {
        let mut log = Log::plain();
        if n % 2 == 0 {
            log.cancelled();
        }
        store(&storage, &mut log).await;
        ids.push((log.id(), n % 2 == 1));
    }
    ids.sort();
    let (mut pages, mut seen, mut count) = (storage.heads(SessionFilter::active()), Vec::new(), 0);
    while let Some(page) = pages.next_page().await.unwrap() {
        count += 1;
        seen.extend(page.heads.iter().map(|head| head.id));
    }
    assert!(pages.next_page().await.unwrap().is_none(), "there is no page after the last one");
    let active: Vec<SessionId> = ids.iter().filter(|(_, active)| *active).map(|(id, _)| *id).collect();
    assert_eq!(seen, active);
    assert!(count > 1, "more than one page was needed");
    let all = storage.list_all(&SessionFilter::all()).await.unwrap();
    assert_eq!(all.heads.len(), 600);
    assert!(all.next.is_none());
}

#[tokio::test]
async fn an_imported_log_equals_the_original() {
    let (from, to) = (MemoryStorage::new(), TieredHarness::new().open().await.unwrap());
    for mut log in logs::of_every_kind() {
        store(&from, &mut log).await;
        let lines: Vec<String> = from
            .records_after(log.id(), 0)
            .await
            .unwrap()
            .iter()
            .map(|record| record.line().to_owned())
            .collect();
        assert_eq!(to.import(log.id(), &lines).await.unwrap(), Imported::New(log.tip()));
        assert_eq!(to.records_after(log.id(), 0).await.unwrap(), log.records());
        assert_eq!(to.head(log.id()).await.unwrap().as_ref(), Some(log.head()));
        // Importing the same log again is not a conflict, and changes nothing.
        assert_eq!(to.import(log.id(), &lines).await.unwrap(), Imported::AlreadyThere(log.tip()));
        // A shorter or longer version of a stored log is a conflict.
        let mut longer = log.clone();
        longer.grow("more");
        for other in [log.up_to(1), longer] {
            if other.tip() != log.tip() {
                let refused = to.import(log.id(), &other.lines_owned()).await.unwrap_err();
                assert_eq!(refused.code(), ErrorCode::Conflict);
            }
        }
        assert_eq!(to.records_after(log.id(), 0).await.unwrap(), log.records());
    }
}

trait Lines {
    fn lines_owned(&self) -> Vec<String>;
}

impl Lines for Log {
    fn lines_owned(&self) -> Vec<String> {
        self.lines().iter().map(ToString::to_string).collect()
    }
}

#[tokio::test]
async fn a_damaged_log_is_not_imported() {
    let storage = MemoryStorage::new();
    let mut log = Log::plain();
    log.started().noted("a").iteration().completed();
    let lines = log.lines_owned();
    let mut cases: Vec<(String, Vec<Vec<u8>>)> = Vec::new();
    for at in 0..lines.len() {
        let bytes = |lines: &[String]| lines.iter().map(|line| line.clone().into_bytes()).collect::<Vec<_>>();
        for bit in [0, 100, 333] {
            let mut flipped = bytes(&lines);
            let line = &mut flipped[at];
            let byte = bit / 8 % line.len();
            line[byte] ^= 1 << (bit % 8);
            cases.push((format!("bit {bit} of line {at} flipped"), flipped));
        }
        if at + 1 < lines.len() {
            let mut dropped = bytes(&lines);
            dropped.remove(at);
            cases.push((format!("line {at} dropped"), dropped));
            let mut swapped = bytes(&lines);
            swapped.swap(at, at + 1);
            cases.push((format!("line {at} swapped"), swapped));
        }
        let mut doubled = bytes(&lines);
        doubled.insert(at, lines[at].clone().into_bytes());
        cases.push((format!("line {at} doubled"), doubled));
    }
    for (what, lines) in cases {
        let refused = storage.import(log.id(), &lines).await.expect_err(&what);
        assert_eq!(refused.code(), ErrorCode::Corrupt, "{what}: {refused}");
        assert!(storage.head(log.id()).await.unwrap().is_none(), "{what}");
    }
    // Under another id, the first checksum is already wrong.
    let foreign = storage.import(SessionId::random(), &lines).await.unwrap_err();
    assert_eq!(foreign.code(), ErrorCode::Corrupt);
    let none: [&str; 0] = [];
    assert_eq!(storage.import(log.id(), &none).await.unwrap_err().code(), ErrorCode::InvalidArgument);
}

/// Seals an event as a line with a valid checksum, without asking the state machine.
fn sealed(log: &Log, event: &str) -> StoredRecord {
    let (seq, at, attempt) = (log.revision() + 1, log.head().updated_at, log.head().lifecycle.attempt);
    let body = format!(r#"{{"seq":{seq},"at":"{at}","attempt":{attempt},"flushed":0,"event":{event}"#);
    let mut covered = log.tip().sum.as_u64().to_be_bytes().to_vec();
    covered.extend_from_slice(body.as_bytes());
    let sum = xxhash_rust::xxh3::xxh3_64(&covered);
    StoredRecord::from_storage(seq, format!(r#"{body},"sum":"{sum:016x}"}}"#)).unwrap()
}

#[tokio::test]
async fn an_import_distinguishes_invalid_from_newer_logs() {
    let storage = MemoryStorage::new();
    let log = Log::plain();
    for (event, code) in [
        (r#"{"completed":{"summary":{}}}"#, ErrorCode::InvalidLog),
        (r#"{"teleported":{"to":"moon"}}"#, ErrorCode::UnsupportedFormat),
        (r#"{"noted":{"kind":17}}"#, ErrorCode::Corrupt),
    ] {
        let mut lines = log.lines_owned();
        lines.push(sealed(&log, event).line().to_owned());
        let refused = storage.import(log.id(), &lines).await.unwrap_err();
        assert_eq!(refused.code(), code, "{event}: {refused}");
        assert!(storage.head(log.id()).await.unwrap().is_none(), "{event}");
    }
}

#[tokio::test]
async fn a_watch_returns_each_record_once() {
    let feed: Arc<dyn SessionStorage> = Arc::new(MemoryStorage::new());
    let plain = TieredHarness::new().open().await.unwrap();
    for (storage, poll) in [(feed, NEVER), (plain, OFTEN)] {
        let mut log = Log::plain();
        log.started();
        store(&*storage, &mut log).await;
        for after in [0, 1, 2] {
            let mut whole = log.clone();
            let watcher = {
                let (storage, id) = (Arc::clone(&storage), log.id());
                tokio::spawn(async move {
                    let (mut seen, mut watch) = (Vec::new(), storage.watch(id, after, poll));
                    while seen.last().is_none_or(|last: &StoredRecord| !last.line().contains("the last one"))
                    {
                        seen.extend(watch.next().await.unwrap());
                    }
                    seen
                })
            };
            for n in 0..300 {
                whole.noted(n);
                if n % 7 == 0 {
                    store(&*storage, &mut whole).await;
                    tokio::task::yield_now().await;
                }
            }
            whole.noted("the last one");
            store(&*storage, &mut whole).await;
            let seen = watcher.await.unwrap();
            assert_eq!(seen, whole.records()[usize::try_from(after).unwrap()..]);
            storage.delete(whole.id(), whole.tip()).await.unwrap();
            log.whole().send(&*storage, Durability::Flushed).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_watch_reports_a_replaced_log() {
    let storage = MemoryStorage::new();
    let mut log = Log::plain();
    log.started().noted(1);
    store(&storage, &mut log).await;
    // A log as long as, longer or shorter than the first must never be mistaken for its continuation.
    for more in [1, 3, 0] {
        let mut watch = storage.watch(log.id(), 0, OFTEN);
        assert_eq!(watch.next().await.unwrap(), log.records());
        storage.delete(log.id(), log.tip()).await.unwrap();
        let mut other = Log::with_id(log.id(), SessionConfig::new("other"));
        other.started();
        for n in 0..more {
            other.noted(n);
        }
        store(&storage, &mut other).await;
        assert_eq!(watch.next().await.unwrap_err().code(), ErrorCode::Conflict, "{more} more");
        log = other;
    }
    let mut watch = storage.watch(log.id(), log.revision(), NEVER);
    storage.delete(log.id(), log.tip()).await.unwrap();
    assert_eq!(watch.next().await.unwrap_err().code(), ErrorCode::NotFound);
}

#[tokio::test]
async fn a_watch_reports_damage() {
    let harness = TieredHarness::new();
    let mut log = Log::plain();
    log.started().noted(1).noted(2);
    store(&*harness.open().await.unwrap(), &mut log).await;
    harness.damage(log.id(), Damage::Cut { after: 2 }).await.unwrap();
    let storage = harness.open().await.unwrap();
    let mut watch = storage.watch(log.id(), 0, OFTEN);
    assert_eq!(watch.next().await.unwrap().len(), 2);
    assert_eq!(watch.next().await.unwrap_err().code(), ErrorCode::Corrupt);
}

/// A reader may see records that are not flushed yet. A caller that acts on the end of a session must not act on one
/// that power loss would undo.
#[tokio::test]
async fn a_flushed_head_survives_power_loss() {
    for reported in [false, true] {
        let harness = TieredHarness::new();
        let storage = harness.open().await.unwrap();
        let mut log = Log::plain();
        log.started();
        store(&*storage, &mut log).await;
        log.completed();
        log.take().send(&*storage, Durability::Buffered).await.unwrap();
        let other = harness.open().await.unwrap();
        assert!(other.head(log.id()).await.unwrap().unwrap().state().is_final(), "it can be read already");
        if reported {
            assert_eq!(other.flushed_head(log.id()).await.unwrap(), *log.head());
        }
        drop((storage, other));
        harness.crash(Crash::PowerLoss(Kept::Nothing)).await.unwrap();
        let head = harness.open().await.unwrap().head(log.id()).await.unwrap().unwrap();
        assert_eq!(head.state().is_final(), reported);
    }
    let missing = MemoryStorage::new().flushed_head(SessionId::random()).await;
    assert_eq!(missing.unwrap_err().code(), ErrorCode::NotFound);
}

#[tokio::test]
async fn one_record_is_read_by_its_revision() {
    let storage = MemoryStorage::new();
    let mut log = Log::plain();
    log.started().noted(1);
    store(&storage, &mut log).await;
    for record in log.records() {
        assert_eq!(storage.record(log.id(), record.revision()).await.unwrap().as_ref(), Some(record));
    }
    for revision in [0, 4, u64::MAX] {
        assert_eq!(storage.record(log.id(), revision).await.unwrap(), None);
    }
}
