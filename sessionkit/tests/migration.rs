//! Migration of a store from backend to backend and through an export, with every log and all output byte for byte the
//! same.

#![cfg(all(feature = "file", feature = "runner", feature = "sled", feature = "sqlite", target_os = "linux"))]
#![expect(clippy::unwrap_used, reason = "in a test, a missing value is a failure")]

use std::collections::BTreeMap;
use std::path::Path;

use session_testkit::logs::{self, Log};
use session_testkit::random::Random;
use sessionkit::backend::SessionStorageExt as _;
use sessionkit::manager::{Clock as _, Durability, SystemClock};
use sessionkit::runner::{Chunk, OutputLimits, OutputStream};
use sessionkit::storage::{Condition, ImportCheck, MigrationOutcome, Output};
use sessionkit::{ManagerOptions, SessionConfig, SessionFilter, SessionId, Store};

/// Sessions, and the average number of records of each. `SESSION_MOVES_SESSIONS` and `SESSION_MOVES_RECORDS` set other
/// numbers.
const SESSIONS: usize = 60;
const RECORDS: usize = 30;

fn env_or(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |n| n.parse().unwrap())
}

async fn open(url: String) -> Store {
    sessionkit::builder(&url).options(ManagerOptions::new().recovery(None)).open_store().await.unwrap()
}

async fn lines(store: &Store, id: SessionId) -> Vec<String> {
    let records = store.storage().records_after(id, 0).await.unwrap();
    records.iter().map(|record| record.line().to_owned()).collect()
}

/// Returns the output of a session: of each chunk its stream, its offsets and its bytes.
fn output(store: &Store, id: SessionId) -> Vec<(OutputStream, u64, u64, Vec<u8>)> {
    let page = store.output().unwrap().read(id, 0, usize::MAX).unwrap();
    let of = |chunk: Chunk| (chunk.stream, chunk.offset, chunk.stream_offset, chunk.bytes);
    page.chunks.into_iter().map(of).collect()
}

/// Writes output of all streams in turn.
fn print(store: &Store, id: SessionId, random: &mut Random) {
    let mut writer = store.output().unwrap().writer(id, OutputLimits::default()).unwrap();
    for round in 0..random.below(4) {
        for stream in OutputStream::ALL {
            let line = format!("{round} of {}\r\n", stream.name()).repeat(1 + random.below(5));
            writer.append(stream, 1, SystemClock.now(), line.as_bytes()).unwrap();
        }
    }
}

async fn fill(store: &Store) -> BTreeMap<SessionId, Vec<String>> {
    let (sessions, records) =
        (env_or("SESSION_MOVES_SESSIONS", SESSIONS), env_or("SESSION_MOVES_RECORDS", RECORDS));
    let (mut random, mut all) = (Random::new(3), BTreeMap::new());
    for n in 0..sessions {
        let mut log =
            Log::new(SessionConfig::new("move").name(format!("work-{n}")).label("n", n.to_string()));
        log.started();
        for step in 0..records.saturating_sub(3) {
            match random.below(5) {
                0 => log.iteration(),
                3 => log.completed_step(),
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
        print(store, log.id(), &mut random);
        all.insert(log.id(), log.lines().iter().map(ToString::to_string).collect());
    }
    // One of them lacks records of steps that it takes over. Sessions whose process may be alive are not migrated.
    for mut log in logs::of_every_kind() {
        if log.head().responsible_process().is_some() {
            continue;
        }
        log.take().send(&**store.storage(), Durability::Flushed).await.unwrap();
        all.insert(log.id(), log.lines().iter().map(ToString::to_string).collect());
    }
    assert!(all_lacking(store).await > 0);
    all
}

/// Returns the number of sessions that cannot start, because they lack records of steps that they take over.
async fn all_lacking(store: &Store) -> usize {
    let page = store.storage().list_all(&SessionFilter::all()).await.unwrap();
    page.heads.iter().filter(|head| head.lifecycle.to_inherit > 0 && !head.state().is_final()).count()
}

async fn migrate(from: &Store, to: &Store, sessions: usize) {
    let mut migration = from.migrate(to, Output::Included).await.unwrap();
    assert_eq!(migration.total(), sessions);
    while let Some(session) = migration.next().await {
        assert!(matches!(session.outcome, Ok(MigrationOutcome::Copied { .. })), "{session:?}");
    }
}

async fn export_and_import(from: &Store, to: &Store) {
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

async fn check_store(store: &Store, expected: &BTreeMap<SessionId, Vec<String>>) {
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

/// From files to sled, to `SQLite`, and through an export to files again: the log files of the first and the last store
/// are the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_round_trip_through_all_backends_keeps_every_byte() {
    let folder = tempfile::tempdir().unwrap();
    let at = |scheme: &str, name: &str| format!("{scheme}:{}", folder.path().join(name).display());
    let first = open(at("file", "first")).await;
    let logs = fill(&first).await;
    let sled = open(at("sled", "second")).await;
    migrate(&first, &sled, logs.len()).await;
    check_store(&sled, &logs).await;
    let sqlite = open(at("sqlite", "third.db")).await;
    migrate(&sled, &sqlite, logs.len()).await;
    check_store(&sqlite, &logs).await;
    let last = open(at("file", "last")).await;
    export_and_import(&sqlite, &last).await;
    check_store(&last, &logs).await;
    for id in logs.keys() {
        for store in [&sled, &sqlite, &last] {
            assert!(output(store, *id) == output(&first, *id), "{id} differs in {}", store.url());
        }
    }
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
