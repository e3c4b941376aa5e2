//! Stores on the move: from backend to backend and through a stream, and every log is byte for byte what it was.

#![cfg(all(feature = "file", feature = "runner", feature = "sled", feature = "sqlite"))]
#![expect(clippy::unwrap_used, reason = "in a test, what is not there is a failure")]

use std::collections::BTreeMap;
use std::path::Path;

use session_testkit::logs::Log;
use session_testkit::random::Random;
use sessionkit::{
    Condition, Durability, ImportCheck, ManagerOptions, MoveOutcome, Output, SessionConfig, SessionFilter,
    SessionId, SessionStorageExt as _, Store,
};

/// Sessions, and records of each on average. `SESSION_MOVES_SESSIONS` and `SESSION_MOVES_RECORDS` ask for others.
const SESSIONS: usize = 60;
const RECORDS: usize = 30;

fn asked(name: &str, usual: usize) -> usize {
    std::env::var(name).map_or(usual, |n| n.parse().unwrap())
}

async fn open(url: String) -> Store {
    sessionkit::builder(&url).options(ManagerOptions::new().recovery(None)).open_store().await.unwrap()
}

async fn lines(store: &Store, id: SessionId) -> Vec<String> {
    let records = store.storage().records_after(id, 0).await.unwrap();
    records.iter().map(|record| record.line().to_owned()).collect()
}

async fn filled(store: &Store) -> BTreeMap<SessionId, Vec<String>> {
    let (sessions, records) =
        (asked("SESSION_MOVES_SESSIONS", SESSIONS), asked("SESSION_MOVES_RECORDS", RECORDS));
    let (mut random, mut all) = (Random::new(3), BTreeMap::new());
    for n in 0..sessions {
        let mut log =
            Log::new(SessionConfig::new("move").name(format!("work-{n}")).label("n", n.to_string()));
        log.started();
        for step in 0..records.saturating_sub(3) {
            match random.below(4) {
                0 => log.iteration(),
                1 => log.checkpoint(serde_json::json!({ "step": step, "text": "é\u{202e}\u{0}" })),
                2 => log.progress(step as u64, records as u64),
                _ => log.noted("x".repeat(random.below(200))),
            };
        }
        match n % 3 {
            0 => log.completed(),
            1 => log.interrupted(),
            _ => log.failed(),
        };
        log.take().send(&**store.storage(), Durability::Flushed).await.unwrap();
        all.insert(log.id(), log.lines().iter().map(ToString::to_string).collect());
    }
    all
}

async fn moved(from: &Store, to: &Store, sessions: usize) {
    let mut migration = from.migrate(to, Output::Included).await.unwrap();
    assert_eq!(migration.total(), sessions);
    while let Some(moved) = migration.next().await {
        assert!(matches!(moved.outcome, Ok(MoveOutcome::Copied { .. })), "{moved:?}");
    }
}

async fn streamed(from: &Store, to: &Store) {
    let page = from.storage().list_all(&SessionFilter::all()).await.unwrap();
    let mut export = from.export(page.heads.iter().map(|head| head.id).collect(), Output::Included);
    let mut stream = Vec::new();
    while let Some(piece) = export.next().await {
        stream.extend(piece);
    }
    assert!(export.failed().is_empty());
    let mut check = ImportCheck::new();
    stream.split_inclusive(|byte| *byte == b'\n').try_for_each(|line| check.line(line)).unwrap();
    let mut import = to.import(check.finish().unwrap()).await.unwrap();
    for line in stream.split_inclusive(|byte| *byte == b'\n') {
        import.line(line).await.unwrap();
    }
    assert_eq!(import.finish().imported.len(), page.heads.len());
}

async fn is_whole(store: &Store, expected: &BTreeMap<SessionId, Vec<String>>) {
    let page = store.storage().list_all(&SessionFilter::all()).await.unwrap();
    assert!(page.unreadable.is_empty(), "{:?}", page.unreadable);
    assert!(page.heads.iter().map(|head| head.id).eq(expected.keys().copied()), "{}", store.url());
    for (id, log) in expected {
        assert!(lines(store, *id).await == *log, "{id} differs in {}", store.url());
    }
    let health = store.maintenance().unwrap().verify_all().await.unwrap();
    assert!(health.failed.is_empty() && health.sessions.len() == expected.len());
    assert!(health.sessions.iter().all(|session| session.condition == Condition::Healthy));
}

/// file, sled, `SQLite`, a stream, file: the last store's logs are the first one's, byte for byte, in the files as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_round_trip_ends_byte_for_byte_where_it_began() {
    let folder = tempfile::tempdir().unwrap();
    let at = |scheme: &str, name: &str| format!("{scheme}:{}", folder.path().join(name).display());
    let first = open(at("file", "first")).await;
    let logs = filled(&first).await;
    let sled = open(at("sled", "second")).await;
    moved(&first, &sled, logs.len()).await;
    is_whole(&sled, &logs).await;
    let sqlite = open(at("sqlite", "third.db")).await;
    moved(&sled, &sqlite, logs.len()).await;
    is_whole(&sqlite, &logs).await;
    let last = open(at("file", "last")).await;
    streamed(&sqlite, &last).await;
    is_whole(&last, &logs).await;
    let file = |store: &str, id: &SessionId| {
        std::fs::read(Path::new(folder.path()).join(store).join(format!("sessions/{id}/events.jsonl")))
            .unwrap()
    };
    let mut bytes = 0;
    for id in logs.keys() {
        assert!(file("first", id) == file("last", id), "the files of {id} differ");
        bytes += file("last", id).len();
    }
    let records: usize = logs.values().map(Vec::len).sum();
    eprintln!("{} sessions, {records} records, {bytes} bytes", logs.len());
}
