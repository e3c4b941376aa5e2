//! Cost of long logs: replay and append.

use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use serde::Deserialize;
use session_core::backend::{Batch, Expected, SessionStorage as _, SessionStorageExt as _};
use session_core::{Durability, SessionEvent, SessionId, Timestamp};
use session_storage_file::{FileStorage, FileStorageOptions};
use tokio::runtime::Runtime;

use crate::Settings;
use crate::appends::runtime;
use crate::events::{self, Log};
use crate::report::{Bound, Section};
use crate::stats::{count, median, micros, millis};

/// Records per append while a log is created.
const BATCH: usize = 1000;

/// Creates a store with one session that has this number of events.
fn long_log(runtime: &Runtime, path: &Path, events: usize) -> (FileStorage, Log) {
    let storage = FileStorage::open(FileStorageOptions::new(path)).expect("a store can be opened");
    let owner = session_core::backend::this_process().expect("the identity of this process can be read");
    let (mut log, first) = Log::begin("long", &owner);
    let id = log.head.id;
    let mut written = first.len();
    runtime.block_on(async {
        let batch = Batch::new(first, log.head.clone());
        storage
            .append(id, Expected::Absent, batch, Durability::Flushed)
            .await
            .expect("a session can be created");
        while written < events {
            let before = log.head.tip;
            let records: Vec<_> =
                (written..events.min(written + BATCH)).map(|_| log.next(events::command())).collect();
            written += records.len();
            let batch = Batch::new(records, log.head.clone());
            let appended = storage.append(id, Expected::At(before), batch, Durability::Flushed).await;
            appended.expect("the append succeeds");
        }
    });
    (storage, log)
}

/// A line as a program without this library would decode it.
#[derive(Deserialize)]
#[expect(dead_code, reason = "only decoding is measured")]
struct Line {
    seq: u64,
    at: Timestamp,
    attempt: u32,
    flushed: u64,
    event: SessionEvent,
    sum: String,
}

/// Measures the replay of complete logs.
pub(crate) fn replay(settings: &Settings) -> Vec<Section> {
    let columns = &["serde_json ms", "replay ms", "ratio", "from slots ms", "events/s"];
    let mut section = Section::new("replay of one log, warm page cache", columns);
    let runtime = runtime();
    for &events in settings.log_lengths {
        eprintln!("replay of {events} events …");
        let path = settings.folder.join(format!("replay-{events}"));
        let (storage, log) = long_log(&runtime, &path, events);
        let id = log.head.id;
        let session = path.join("sessions").join(id.to_string());
        let (lines, slots) = (session.join("events.jsonl"), session.join("head.json"));
        let kept = std::fs::read(&slots).expect("the slots exist");
        drop(storage);
        let (mut plain, mut whole, mut cached) = (Vec::new(), Vec::new(), Vec::new());
        let repeats = (20_000 / events).clamp(1, 50);
        for _ in 0..settings.rounds {
            plain.push(timed(
                repeats,
                || (),
                |()| {
                    let text = std::fs::read_to_string(&lines).expect("the log exists");
                    let decoded =
                        text.lines().filter(|line| serde_json::from_str::<Line>(line).is_ok()).count();
                    assert_eq!(decoded, events);
                },
            ));
            std::fs::remove_file(&slots).expect("slots can be removed");
            whole.push(timed(
                repeats,
                || open_store(&runtime, &path),
                |storage| read_head(&runtime, &storage, id, events),
            ));
            let mut file = std::fs::File::create(&slots).expect("slots can be created");
            file.write_all(&kept).expect("slots can be written");
            cached.push(timed(
                repeats,
                || open_store(&runtime, &path),
                |storage| read_head(&runtime, &storage, id, events),
            ));
        }
        let ratios: Vec<f64> = whole.iter().zip(&plain).map(|(whole, plain)| whole / plain).collect();
        let rate = count(events) / (median(&whole) / 1e3);
        let figures = [median(&plain), median(&whole), median(&ratios), median(&cached), rate];
        section.row(format!("{events} events"), &figures);
        // For ten events, the switch to another thread would dominate.
        if events >= 1000 {
            section.target(
                format!("replay over plain decoding, {events} events"),
                median(&ratios),
                Bound::AtMost(1.5),
            );
        }
        std::fs::remove_dir_all(&path).expect("a store can be removed");
    }
    vec![section]
}

/// Opens a store, with nothing cached in the process.
fn open_store(runtime: &Runtime, path: &Path) -> FileStorage {
    let storage = FileStorage::open(FileStorageOptions::new(path)).expect("a store can be opened");
    // Starts the reader thread.
    let none = runtime.block_on(storage.head(SessionId::random())).expect("a head can be read");
    assert!(none.is_none());
    storage
}

/// Reads the head: the fold of the log, or the head from the slots.
fn read_head(runtime: &Runtime, storage: &FileStorage, id: SessionId, events: usize) {
    let head = runtime.block_on(storage.head(id)).expect("a head can be read").expect("the session exists");
    assert_eq!(head.tip.revision, events as u64);
}

/// Returns the time of one call in milliseconds, without its setup.
fn timed<T>(repeats: usize, setup: impl Fn() -> T, call: impl Fn(T)) -> f64 {
    let took = (0..repeats).map(|_| {
        let prepared = setup();
        let start = Instant::now();
        call(prepared);
        start.elapsed()
    });
    millis(took.sum()) / count(repeats)
}

/// Measures appends to logs of different lengths, and the size of an event on disk.
pub(crate) fn append(settings: &Settings) -> Vec<Section> {
    let runtime = runtime();
    let lengths = settings.append_lengths;
    eprintln!("appends to logs of {lengths:?} events …");
    let mut logs: Vec<_> = lengths
        .iter()
        .map(|events| long_log(&runtime, &settings.folder.join(format!("history-{events}")), *events))
        .collect();
    let mut times = vec![Vec::new(); logs.len()];
    // The logs alternate with every append, so that changes of the disk's speed affect both.
    for _ in 0..settings.rounds * 200 {
        for ((storage, log), times) in logs.iter_mut().zip(&mut times) {
            let before = log.head.tip;
            let record = log.next(events::command());
            let batch = Batch::new(vec![record], log.head.clone());
            let start = Instant::now();
            let appending = storage.append(log.head.id, Expected::At(before), batch, Durability::Flushed);
            runtime.block_on(appending).expect("the append succeeds");
            times.push(micros(start.elapsed()));
        }
    }
    let mut section = Section::new("durable append, one session, by history", &["p50 us"]);
    for (events, times) in lengths.iter().zip(&times) {
        section.row(format!("after {events} events"), &[median(times)]);
    }
    if let [short, long] = times.as_slice() {
        let ratio = median(long) / median(short);
        section.target(
            format!("after {} events over after {}", lengths[1], lengths[0]),
            ratio,
            Bound::AtMost(1.3),
        );
    }
    vec![section, bytes(&runtime, &logs)]
}

fn bytes(runtime: &Runtime, logs: &[(FileStorage, Log)]) -> Section {
    let mut section = Section::new("bytes on disk", &["bytes"]);
    let Some((storage, log)) = logs.last() else { return section };
    let folder = storage.path().join("sessions").join(log.head.id.to_string());
    let size = |name: &str| std::fs::metadata(folder.join(name)).map_or(0, |metadata| metadata.len());
    let records = runtime.block_on(storage.records_after(log.head.id, 0)).expect("a log can be read").len();
    let event = serde_json::to_vec(&events::command()).expect("an event can be serialized").len();
    #[expect(clippy::cast_precision_loss, reason = "a log is far below 2^52 bytes")]
    section.row("log, per event", &[size("events.jsonl") as f64 / count(records)]);
    section.row("event alone, as JSON", &[count(event)]);
    #[expect(clippy::cast_precision_loss, reason = "slots have a fixed size")]
    section.row("slots, per session", &[size("head.json") as f64]);
    section
}
