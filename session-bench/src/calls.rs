//! Calls within one process: buffered appends, a manager in memory, reads of a state during writes, and appends while
//! observers sleep or panic.

use std::sync::Arc;
use std::time::{Duration, Instant};

use session_core::maintenance::StorageMaintenance as _;
use session_core::{
    CancelRequest, EventContext, InMemorySessionManager, ObservableSessionManager, ProgressReport,
    SessionEvent, SessionId, SessionManager, SessionObserver,
};
use session_storage_file::{FileStorage, FileStorageOptions};
use tokio::runtime::Runtime;

use crate::Settings;
use crate::appends::{manager, runtime, start};
use crate::events;
use crate::report::{Bound, Section};
use crate::stats::{count, cpu, median, micros, quantile};

/// Calls in each round.
const CALLS: usize = 2000;
/// Sessions that write during the reads.
const WRITERS: usize = 8;

/// The figures of one row, one value for each round.
#[derive(Default)]
struct Row {
    rates: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
    cpu: Vec<f64>,
}

impl Row {
    fn add(&mut self, elapsed: Duration, cpu: Duration, latencies: &[f64]) {
        self.rates.push(count(latencies.len()) / elapsed.as_secs_f64());
        self.p50.push(median(latencies));
        self.p99.push(quantile(latencies, 0.99));
        self.cpu.push(micros(cpu) / count(latencies.len()));
    }

    fn figures(&self) -> [f64; 4] {
        [&self.rates, &self.p50, &self.p99, &self.cpu].map(|figures| median(figures))
    }
}

/// Measures sequential calls.
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
    manager.record_event(id, event).await.expect("the event is recorded");
}

fn file(settings: &Settings, runtime: &Runtime, name: &str) -> Arc<dyn SessionManager> {
    let path = settings.folder.join(name);
    let storage = FileStorage::open(FileStorageOptions::new(&path)).expect("a store can be opened");
    let owners = storage.owners_dir();
    Arc::new(runtime.block_on(manager(storage, &owners)))
}

/// Measures calls without flushes, and reads during flushes of other sessions.
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
        let [command_memory, progress_memory, progress_file, state_file, state_busy] = &mut rows;
        let mut done = 0;
        for _ in 0..settings.rounds {
            calls(command_memory, CALLS, || record(&*memory, one.id(), events::command())).await;
            calls(progress_memory, CALLS, || {
                done += 1;
                record(&*memory, one.id(), progress(done))
            })
            .await;
            calls(progress_file, CALLS, || {
                done += 1;
                record(&*file, first.id(), progress(done))
            })
            .await;
            calls(state_file, CALLS, || file.get_state(first.id())).await;
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
            calls(state_busy, CALLS, || file.get_state(first.id())).await;
            drop(writing);
        }
    });
    let mut section =
        Section::new("calls within one process", &["calls/s", "p50 us", "p99 us", "cpu us/call"]);
    let names = [
        "record_event, in memory",
        "record_event (progress), in memory",
        "record_event (progress), file, buffered",
        "get_state, file",
        "get_state, file, during writes of 8 sessions",
    ];
    for (name, row) in names.iter().zip(&rows) {
        section.row(*name, &row.figures());
    }
    vec![section]
}

/// Sessions that are cancelled in each round.
const CANCELS: usize = 200;

/// Measures the time from a cancel by id to the callback of the work's token, in one process: by the manager that owns
/// the session, and by another one on the same store.
pub(crate) fn cancelled(settings: &Settings) -> Vec<Section> {
    eprintln!("cancels …");
    let runtime = runtime();
    let owner = file(settings, &runtime, "cancels");
    let other = file(settings, &runtime, "cancels");
    let mut section = Section::new(
        "from a cancel by id to the work's token, in one process",
        &["cancels/s", "p50 us", "p99 us", "cpu us/cancel"],
    );
    for (name, canceller) in [("the owning manager", &owner), ("another manager, file", &other)] {
        let mut row = Row::default();
        for _ in 0..settings.rounds {
            runtime.block_on(async {
                let sessions = start(&owner, CANCELS).await;
                let mut latencies = Vec::with_capacity(CANCELS);
                let (began, before) = (Instant::now(), cpu());
                for session in &sessions {
                    let token = session.cancellation();
                    let (sender, reached) = tokio::sync::oneshot::channel();
                    let guard = token.on_cancelled(move |_| {
                        // The receiver is waiting.
                        let _ = sender.send(Instant::now());
                    });
                    let asked = Instant::now();
                    let request = CancelRequest::new("enough", "bench");
                    canceller.cancel_session(session.id(), request).await.expect("it can be cancelled");
                    let reached = reached.await.expect("the token is cancelled");
                    latencies.push(micros(reached.saturating_duration_since(asked)));
                    drop(guard);
                }
                row.add(began.elapsed(), cpu().saturating_sub(before), &latencies);
            });
        }
        section.row(name, &row.figures());
        section.target(format!("p99 of a cancel by {name} (us)"), median(&row.p99), Bound::AtMost(10_000.0));
    }
    vec![section]
}

/// An observer that sleeps a millisecond at each event.
struct Sleeper;

impl SessionObserver for Sleeper {
    fn on_event(&self, _: &EventContext, _: &SessionEvent) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// An observer that panics at each event.
struct Panicker;

impl SessionObserver for Panicker {
    fn on_event(&self, _: &EventContext, _: &SessionEvent) {
        panic!("the observer panics on purpose");
    }
}

/// Measures durable calls with misbehaving observers.
pub(crate) fn observed(settings: &Settings) -> Vec<Section> {
    eprintln!("calls with observers …");
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
        "durable record_event with observers, file",
        &["calls/s", "p50 us", "p99 us", "cpu us/call"],
    );
    for (name, row) in ["no observer", "observer sleeps 1 ms", "observer panics"].iter().zip(&rows) {
        section.row(*name, &row.figures());
    }
    let [none, sleeping, panicking] = &rows;
    for (name, row) in [("a sleeping", sleeping), ("a panicking", panicking)] {
        let ratios: Vec<f64> = row.p99.iter().zip(&none.p99).map(|(with, without)| with / without).collect();
        section.target(format!("p99 with {name} observer over none"), median(&ratios), Bound::AtMost(1.2));
    }
    vec![section]
}
