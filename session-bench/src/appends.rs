//! Durable appends by concurrent sessions: this library against the alternatives. Every contender writes the same
//! events and waits for each to be durable. Contenders run one after another, round after round.

mod direct;
mod library;
mod race;
mod raw;
mod rewrite;
mod sqlite;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use session_storage_file::{Disk, RealDisk};
use session_storage_sled::{SledStorage, SledStorageOptions};
use session_storage_sqlite::{SqliteStorage, SqliteStorageOptions};

use self::direct::{CommitMode, DirectEngine};
use self::library::{Backend, Managed};
pub(crate) use self::library::{manager, runtime, start};
use self::race::Round;
use self::raw::{GroupFlush, RawFlush};
use self::rewrite::Rewrite;
use self::sqlite::Sqlite;
use crate::Settings;
use crate::device::{Device, SlowDisk};
use crate::report::{Bound, Section};
use crate::stats::{median, quantile};

/// The duration of a flush of the simulated disk.
const FLUSH: Duration = Duration::from_millis(1);

/// A way to append durably.
trait Contender {
    fn name(&self) -> String;

    /// Prepares this number of events for each session. Not timed.
    fn prepare(&mut self, each: usize);

    /// Appends the prepared events: sequentially within a session, concurrently across sessions.
    fn run(&mut self) -> Round;
}

/// The place where a contender writes.
#[derive(Clone)]
struct Location {
    folder: PathBuf,
    disk: Arc<dyn Disk>,
    device: Option<Arc<Device>>,
}

/// The figures of one contender, one value for each round.
#[derive(Default)]
struct Measured {
    rates: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
    cpu: Vec<f64>,
}

/// Measures on the real disk.
pub(crate) fn real(settings: &Settings) -> Vec<Section> {
    let place = |folder: &Path| Location { folder: folder.into(), disk: Arc::new(RealDisk), device: None };
    for_each_concurrency(settings, "the real disk", &settings.folder, place)
}

/// Measures all backends against direct use of their engines, which shows the cost of the storage traits.
pub(crate) fn backends(settings: &Settings) -> Vec<Section> {
    let levels = settings.concurrency.iter();
    levels.map(|sessions| all_backends(settings, *sessions)).collect()
}

fn all_backends(settings: &Settings, sessions: usize) -> Section {
    eprintln!("durable appends by {sessions} sessions on each backend …");
    let folder = tempfile::tempdir_in(&settings.folder).expect("a folder can be created");
    let at = |name: &str| {
        let folder = folder.path().join(name);
        std::fs::create_dir(&folder).expect("a folder can be created");
        folder
    };
    let sled = SledStorage::open(SledStorageOptions::new(at("sled").join("store")));
    let sqlite = SqliteStorage::open(SqliteStorageOptions::new(at("sqlite").join("sessions.db")));
    let file = Location { folder: at("file"), disk: Arc::new(RealDisk), device: None };
    let mut contenders: Vec<Box<dyn Contender>> = vec![
        Box::new(Backend::file(&file, sessions)),
        Box::new(DirectEngine::sled(&at("sled-direct"), sessions)),
        Box::new(Backend::new(Arc::new(sled.expect("a store can be opened")), sessions)),
        Box::new(DirectEngine::sqlite(&at("sqlite-direct"), sessions, CommitMode::Group)),
        Box::new(Backend::new(Arc::new(sqlite.expect("a store can be opened")), sessions)),
        Box::new(DirectEngine::sqlite(&at("sqlite-single"), sessions, CommitMode::Single)),
    ];
    let title = format!("durable appends by {sessions} concurrent sessions, on each backend");
    let (mut section, measured) = race(settings, &title, &mut contenders);
    let [_, sled_direct, sled, sqlite_direct, sqlite, sqlite_single] = measured.as_slice() else {
        unreachable!("there is one result for each contender")
    };
    section.target(
        "sled backend over direct sled",
        ratio(&sled.rates, &sled_direct.rates),
        Bound::AtLeast(0.8),
    );
    let over = ratio(&sqlite.rates, &sqlite_direct.rates);
    section.target("SQLite backend over direct SQLite", over, Bound::AtLeast(0.8));
    if sessions >= 8 {
        let over = ratio(&sqlite.rates, &sqlite_single.rates);
        section.target("SQLite backend over one transaction per event", over, Bound::AtLeast(2.0));
    }
    section
}

/// Measures on a simulated disk that takes a millisecond for each flush.
pub(crate) fn simulated(settings: &Settings) -> Vec<Section> {
    let place = |folder: &Path| {
        let device = Device::new(FLUSH);
        let disk = Arc::new(SlowDisk(Arc::clone(&device)));
        Location { folder: folder.into(), disk, device: Some(device) }
    };
    for_each_concurrency(settings, "a simulated disk (1 ms per flush)", &settings.memory_folder, place)
}

fn for_each_concurrency(
    settings: &Settings,
    disk: &str,
    parent: &Path,
    place: impl Fn(&Path) -> Location,
) -> Vec<Section> {
    let mut sections = Vec::new();
    for &sessions in settings.concurrency {
        eprintln!("durable appends by {sessions} sessions on {disk} …");
        let folder = tempfile::tempdir_in(parent).expect("a folder can be created");
        let title = format!("durable appends by {sessions} concurrent sessions, on {disk}");
        sections.push(compete(settings, &title, sessions, &|name| {
            let folder = folder.path().join(name);
            std::fs::create_dir(&folder).expect("a folder can be created");
            place(&folder)
        }));
    }
    sections
}

fn compete(settings: &Settings, title: &str, sessions: usize, place: &dyn Fn(&str) -> Location) -> Section {
    let mut contenders: Vec<Box<dyn Contender>> = vec![
        Box::new(RawFlush::new(&place("raw"), sessions)),
        Box::new(GroupFlush::new(&place("group"), sessions)),
        Box::new(Sqlite::new(&place("sqlite"), sessions)),
        Box::new(Rewrite::new(&place("rewrite-100"), sessions, 100)),
        Box::new(Rewrite::new(&place("rewrite-1000"), sessions, 1000)),
        Box::new(Backend::file(&place("backend"), sessions)),
        Box::new(Managed::new(&place("manager"), sessions)),
    ];
    let (mut section, measured) = race(settings, title, &mut contenders);
    let [raw, _, sqlite, _, rewrite, backend, manager] = measured.as_slice() else {
        unreachable!("there is one result for each contender")
    };
    section.target("manager over backend", ratio(&manager.rates, &backend.rates), Bound::AtLeast(0.75));
    match sessions {
        1 => {
            let latency = ratio(&backend.p50, &raw.p50);
            section.target("p50 of backend over raw flush", latency, Bound::AtMost(1.6));
        }
        8 => {
            section.target("backend over SQLite", ratio(&backend.rates, &sqlite.rates), Bound::AtLeast(2.5));
        }
        64 => {
            section.target("backend over SQLite", ratio(&backend.rates, &sqlite.rates), Bound::AtLeast(3.5));
        }
        _ => {}
    }
    let rate = ratio(&backend.rates, &rewrite.rates);
    section.target("backend over rewriting 1000 events", rate, Bound::AtLeast(20.0));
    section
}

/// Runs the contenders alternately, round after round.
fn race(settings: &Settings, title: &str, contenders: &mut [Box<dyn Contender>]) -> (Section, Vec<Measured>) {
    let mut measured: Vec<Measured> = contenders.iter().map(|_| Measured::default()).collect();
    let each: Vec<usize> = contenders
        .iter_mut()
        .map(|contender| {
            contender.prepare(2);
            let warm_up = contender.run();
            let one = warm_up.elapsed.as_secs_f64() / 2.0;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "at most some thousands"
            )]
            let fit = (settings.turn_time.as_secs_f64() / one) as usize;
            fit.clamp(1, 5000)
        })
        .collect();
    for _ in 0..settings.rounds {
        for ((contender, measured), each) in contenders.iter_mut().zip(&mut measured).zip(&each) {
            contender.prepare(*each);
            let round = contender.run();
            measured.add(&round);
        }
    }
    let columns = &["events/s", "p50 us", "p99 us", "cpu us/event"];
    let mut section = Section::new(title, columns);
    for (contender, measured) in contenders.iter().zip(&measured) {
        let figures = [&measured.rates, &measured.p50, &measured.p99, &measured.cpu];
        section.row(contender.name(), &figures.map(|figures| median(figures)));
    }
    (section, measured)
}

impl Measured {
    fn add(&mut self, round: &Round) {
        let events = crate::stats::count(round.latencies.len());
        self.rates.push(events / round.elapsed.as_secs_f64());
        self.p50.push(median(&round.latencies));
        self.p99.push(quantile(&round.latencies, 0.99));
        self.cpu.push(crate::stats::micros(round.cpu) / events);
    }
}

/// Returns the median of the ratios of each round. A temporary slowdown of the machine affects both contenders.
fn ratio(measured: &[f64], baseline: &[f64]) -> f64 {
    let ratios: Vec<f64> =
        measured.iter().zip(baseline).map(|(measured, baseline)| measured / baseline).collect();
    median(&ratios)
}
