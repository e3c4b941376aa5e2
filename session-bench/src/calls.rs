//! What a program waits for in its own process: buffered appends, a manager in memory, a look at a state while others
//! write, and a call while observers sleep or panic.

use std::sync::Arc;
use std::time::{Duration, Instant};

use session_core::{
    EventContext, InMemorySessionManager, ObservableSessionManager, ProgressReport, SessionEvent, SessionId,
    SessionManager, SessionObserver, StorageMaintenance as _,
};
use session_storage_file::{FileStorage, FileStorageOptions};
use tokio::runtime::Runtime;

use crate::Settings;
use crate::appends::{manager, runtime, start};
use crate::events;
use crate::report::{Bound, Section};
use crate::stats::{count, cpu, median, micros, quantile};

/// Calls of one turn.
const CALLS: usize = 2000;
/// Sessions that write while others look.
const WRITERS: usize = 8;

/// Figures of one row over all its turns.
#[derive(Default)]
struct Row {
    rates: Vec<f64>,
    medians: Vec<f64>,
    nearly_worst: Vec<f64>,
    cpu: Vec<f64>,
}

impl Row {
    fn add(&mut self, elapsed: Duration, cpu: Duration, latencies: &[f64]) {
        self.rates.push(count(latencies.len()) / elapsed.as_secs_f64());
        self.medians.push(median(latencies));
        self.nearly_worst.push(quantile(latencies, 0.99));
        self.cpu.push(micros(cpu) / count(latencies.len()));
    }

    fn figures(&self) -> [f64; 4] {
        [&self.rates, &self.medians, &self.nearly_worst, &self.cpu].map(|figures| median(figures))
    }
}

/// How long each of these calls takes, one after another.
async fn calls<F: Future>(row: &mut Row, number: usize, mut call: impl FnMut() -> F) {
    let mut latencies = Vec::with_capacity(number);
    let (began, before) = (Instant::now(), cpu());
    for _ in 0..number {
        let start = Instant::now();
        call().await;
        latencies.push(micros(start.elapsed()));
    }
    row.add(began.elapsed(), cpu().saturating_sub(before), &latencies);
}

fn progress(done: u64) -> SessionEvent {
    let mut report = ProgressReport::default();
    report.completed_steps = Some(done);
    SessionEvent::ProgressReported { report }
}

async fn record(manager: &dyn SessionManager, id: SessionId, event: SessionEvent) {
    manager.record_event(id, event).await.expect("the session keeps it");
}

fn file(settings: &Settings, runtime: &Runtime, name: &str) -> Arc<dyn SessionManager> {
    let path = settings.folder.join(name);
    let storage = FileStorage::open(FileStorageOptions::new(&path)).expect("a store can be opened");
    let owners = storage.owners_dir();
    Arc::new(runtime.block_on(manager(storage, &owners)))
}

/// Calls that flush nothing, and looks while others flush.
pub(crate) fn plain(settings: &Settings) -> Vec<Section> {
    eprintln!("calls within one process …");
    let runtime = runtime();
    let memory: Arc<dyn SessionManager> = Arc::new(InMemorySessionManager::new());
    let file = file(settings, &runtime, "calls");
    let mut rows: [Row; 5] = Default::default();
    runtime.block_on(async {
        let in_memory = start(&memory, 1).await;
        let in_file = start(&file, 1 + WRITERS).await;
        let [one] = in_memory.as_slice() else { unreachable!("one was started") };
        let [first, writers @ ..] = in_file.as_slice() else { unreachable!("some were started") };
        let [appended, noted, buffered, quiet, busy] = &mut rows;
        let mut done = 0;
        for _ in 0..settings.rounds {
            calls(appended, CALLS, || record(&*memory, one.id(), events::command())).await;
            calls(noted, CALLS, || {
                done += 1;
                record(&*memory, one.id(), progress(done))
            })
            .await;
            calls(buffered, CALLS, || {
                done += 1;
                record(&*file, first.id(), progress(done))
            })
            .await;
            calls(quiet, CALLS, || file.get_state(first.id())).await;
            let writing: tokio::task::JoinSet<()> = writers
                .iter()
                .map(|session| {
                    let (id, file) = (session.id(), Arc::clone(&file));
                    async move {
                        loop {
                            record(&*file, id, events::command()).await;
                        }
                    }
                })
                .collect();
            calls(busy, CALLS, || file.get_state(first.id())).await;
            drop(writing);
        }
    });
    let mut section =
        Section::new("calls within one process", &["calls/s", "p50 us", "p99 us", "cpu us/call"]);
    let names = [
        "record_event, in memory",
        "record_event of progress, in memory",
        "record_event of progress, file, buffered",
        "get_state, file",
        "get_state, file, 8 sessions write",
    ];
    for (name, row) in names.iter().zip(&rows) {
        section.row(*name, &row.figures());
    }
    vec![section]
}

/// Takes a millisecond for each event.
struct Sleeper;

impl SessionObserver for Sleeper {
    fn on_event(&self, _: &EventContext, _: &SessionEvent) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Panics at each event.
struct Panicker;

impl SessionObserver for Panicker {
    fn on_event(&self, _: &EventContext, _: &SessionEvent) {
        panic!("as an observer may");
    }
}

/// A durable call while observers misbehave.
pub(crate) fn observed(settings: &Settings) -> Vec<Section> {
    eprintln!("calls under observers …");
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let runtime = runtime();
    let managers: [Arc<dyn SessionManager>; 3] = [
        file(settings, &runtime, "unobserved"),
        {
            let inner = file(settings, &runtime, "sleeping");
            Arc::new(ObservableSessionManager::new(inner).observe("sleeper", Arc::new(Sleeper)))
        },
        {
            let inner = file(settings, &runtime, "panicking");
            Arc::new(ObservableSessionManager::new(inner).observe("panicker", Arc::new(Panicker)))
        },
    ];
    let mut rows: [Row; 3] = Default::default();
    runtime.block_on(async {
        let mut sessions = Vec::new();
        for manager in &managers {
            sessions.extend(start(manager, 1).await);
        }
        for _ in 0..settings.rounds {
            for ((manager, session), row) in managers.iter().zip(&sessions).zip(&mut rows) {
                calls(row, CALLS, || record(&**manager, session.id(), events::command())).await;
            }
        }
    });
    drop(std::panic::take_hook());
    std::panic::set_hook(hook);
    let mut section = Section::new(
        "durable record_event under observers, file",
        &["calls/s", "p50 us", "p99 us", "cpu us/call"],
    );
    for (name, row) in ["no observer", "one that sleeps 1 ms", "one that panics"].iter().zip(&rows) {
        section.row(*name, &row.figures());
    }
    let [none, sleeping, panicking] = &rows;
    for (name, row) in [("a sleeping", sleeping), ("a panicking", panicking)] {
        let ratios: Vec<f64> =
            row.nearly_worst.iter().zip(&none.nearly_worst).map(|(with, without)| with / without).collect();
        section.aim(format!("p99 with {name} observer over none"), median(&ratios), Bound::AtMost(1.2));
    }
    vec![section]
}
