//! Measures first pages of lists: fills a store with 100,000 sessions (or another number), then lists pages of 50 with
//! several filters, right after opening the store and again. Prints milliseconds.
//!
//!     cargo run --release --example listing -p session-storage-sqlite [SESSIONS]

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement program")]

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use session_core::backend::SessionStorage as _;
use session_core::{Durability, SessionConfig, SessionFilter, StateName, Timestamp};
use session_storage_sqlite::{SqliteStorage, SqliteStorageOptions};
use session_testkit::logs::in_state;

const PAGE: NonZeroUsize = NonZeroUsize::new(50).unwrap();
const CONCURRENCY: usize = 64;

#[tokio::main]
async fn main() {
    let sessions: usize = std::env::args().nth(1).map_or(100_000, |text| text.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.db");
    let open = || SqliteStorage::open(SqliteStorageOptions::new(&path)).unwrap();
    let start = Instant::now();
    fill(&open(), sessions).await;
    let size = std::fs::metadata(&path).unwrap().len();
    println!("{sessions} sessions in {:.1} s, {} MB", start.elapsed().as_secs_f64(), size >> 20);
    let middle = Timestamp::from_millis(1_795_253_400_123).unwrap();
    let filters = [
        ("all", SessionFilter::all()),
        ("active (1 %)", SessionFilter::active()),
        ("failed (10 %)", SessionFilter::all().state(StateName::Failed)),
        ("failed or paused", SessionFilter::all().state(StateName::Failed).state(StateName::Paused)),
        ("by name", SessionFilter::all().name("session-7")),
        ("by label (1 %)", SessionFilter::all().label("team", "t7")),
        ("by two labels", SessionFilter::all().label("team", "t7").label("kind", "k3")),
        ("by label and state", SessionFilter::all().label("kind", "k3").state(StateName::Failed)),
        ("updated since, all are", SessionFilter::all().updated_since(middle)),
        ("updated since, few are", SessionFilter::all().updated_since(middle.before(Duration::ZERO))),
        ("active and updated since", SessionFilter::active().updated_since(middle)),
        ("without a match", SessionFilter::all().name("no such name")),
    ];
    for (name, filter) in &filters {
        let start = Instant::now();
        let storage = open();
        let (_, found) = time(&storage, filter).await;
        let first = start.elapsed().as_secs_f64() * 1e3;
        let mut warm = Vec::new();
        for _ in 0..9 {
            warm.push(time(&storage, filter).await.0);
        }
        warm.sort_by(f64::total_cmp);
        println!(
            "{name:<28} {first:>8.2} ms with opening {:>8.2} ms again, {found} found",
            warm.get(4).unwrap(),
        );
    }
}

async fn time(storage: &SqliteStorage, filter: &SessionFilter) -> (f64, usize) {
    let start = Instant::now();
    let page = storage.list(filter, None, PAGE).await.unwrap();
    (start.elapsed().as_secs_f64() * 1e3, page.heads.len())
}

async fn fill(storage: &SqliteStorage, sessions: usize) {
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..CONCURRENCY {
        let storage = storage.clone();
        writers.spawn(async move {
            for number in (writer..sessions).step_by(CONCURRENCY) {
                let state = match number % 100 {
                    0 => StateName::Running,
                    1..=10 => StateName::Failed,
                    11..=15 => StateName::Cancelled,
                    _ => StateName::Completed,
                };
                let config = SessionConfig::new("import")
                    .name(format!("session-{}", number / 10))
                    .label("team", format!("t{}", number % 97))
                    .label("kind", format!("k{}", number % 7));
                let mut log = in_state(state, config);
                log.take().send(&storage, Durability::Flushed).await.unwrap();
            }
        });
    }
    writers.join_all().await;
}
