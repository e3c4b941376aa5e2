//! Durable appends by many sessions at once: our ways, and what one would use instead. Every contender writes the same
//! events, waits for each to be durable, and has the machine for itself for a moment, round after round.

mod direct;
mod ours;
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

use self::direct::{AtOnce, ByHand};
use self::ours::{Backend, Managed};
pub(crate) use self::ours::{manager, runtime, start};
use self::race::Round;
use self::raw::{GroupFlush, RawFlush};
use self::rewrite::Rewrite;
use self::sqlite::Sqlite;
use crate::Settings;
use crate::device::{Device, SlowDisk};
use crate::report::{Bound, Section};
use crate::stats::{median, quantile};

/// How long a flush of the simulated disk takes.
const FLUSH: Duration = Duration::from_millis(1);

/// A way to append durably.
trait Contender {
    fn name(&self) -> String;

    /// Makes ready for so many events of each session. Not timed.
    fn prepare(&mut self, each: usize);

    /// Appends them, each session one after another and all sessions at once.
    fn run(&mut self) -> Round;
}

/// Where a contender writes.
#[derive(Clone)]
struct Place {
    folder: PathBuf,
    disk: Arc<dyn Disk>,
    device: Option<Arc<Device>>,
}

/// What was measured of one contender.
#[derive(Default)]
struct Measured {
    rates: Vec<f64>,
    medians: Vec<f64>,
    nearly_worst: Vec<f64>,
    cpu: Vec<f64>,
}

/// On the disk that is there.
pub(crate) fn real(settings: &Settings) -> Vec<Section> {
    let place = |folder: &Path| Place { folder: folder.into(), disk: Arc::new(RealDisk), device: None };
    at_all_widths(settings, "the disk that is here", &settings.folder, place)
}

/// All backends, beside the engines below them used by hand: what our traits cost.
pub(crate) fn backends(settings: &Settings) -> Vec<Section> {
    let widths = settings.widths.iter();
    widths.map(|sessions| all_backends(settings, *sessions)).collect()
}

fn all_backends(settings: &Settings, sessions: usize) -> Section {
    eprintln!("durable appends by {sessions} sessions on each backend …");
    let folder = tempfile::tempdir_in(&settings.folder).expect("a folder can be made");
    let at = |name: &str| {
        let folder = folder.path().join(name);
        std::fs::create_dir(&folder).expect("a folder can be made");
        folder
    };
    let sled = SledStorage::open(SledStorageOptions::new(at("sled").join("store")));
    let sqlite = SqliteStorage::open(SqliteStorageOptions::new(at("sqlite").join("sessions.db")));
    let file = Place { folder: at("file"), disk: Arc::new(RealDisk), device: None };
    let mut contenders: Vec<Box<dyn Contender>> = vec![
        Box::new(Backend::file(&file, sessions)),
        Box::new(ByHand::sled(&at("sled-by-hand"), sessions)),
        Box::new(Backend::new(Arc::new(sled.expect("a store can be opened")), sessions)),
        Box::new(ByHand::sqlite(&at("sqlite-by-hand"), sessions, AtOnce::All)),
        Box::new(Backend::new(Arc::new(sqlite.expect("a store can be opened")), sessions)),
        Box::new(ByHand::sqlite(&at("sqlite-each"), sessions, AtOnce::Each)),
    ];
    let title = format!("durable appends by {sessions} sessions at once, on each backend");
    let (mut section, measured) = race(settings, &title, &mut contenders);
    let [_, sled_by_hand, sled, sqlite_by_hand, sqlite, one_by_one] = measured.as_slice() else {
        unreachable!("there are as many as contenders")
    };
    section.aim(
        "sled backend over sled by hand",
        ratio(&sled.rates, &sled_by_hand.rates),
        Bound::AtLeast(0.8),
    );
    let over = ratio(&sqlite.rates, &sqlite_by_hand.rates);
    section.aim("SQLite backend over SQLite by hand", over, Bound::AtLeast(0.8));
    if sessions >= 8 {
        let over = ratio(&sqlite.rates, &one_by_one.rates);
        section.aim("SQLite backend over a transaction an event", over, Bound::AtLeast(2.0));
    }
    section
}

/// On a disk that takes a millisecond for each flush.
pub(crate) fn simulated(settings: &Settings) -> Vec<Section> {
    let place = |folder: &Path| {
        let device = Device::new(FLUSH);
        let disk = Arc::new(SlowDisk(Arc::clone(&device)));
        Place { folder: folder.into(), disk, device: Some(device) }
    };
    at_all_widths(settings, "a disk of 1 ms a flush", &settings.memory_folder, place)
}

fn at_all_widths(
    settings: &Settings,
    disk: &str,
    parent: &Path,
    place: impl Fn(&Path) -> Place,
) -> Vec<Section> {
    let mut sections = Vec::new();
    for &sessions in settings.widths {
        eprintln!("durable appends by {sessions} sessions on {disk} …");
        let folder = tempfile::tempdir_in(parent).expect("a folder can be made");
        let title = format!("durable appends by {sessions} sessions at once, on {disk}");
        sections.push(compete(settings, &title, sessions, &|name| {
            let folder = folder.path().join(name);
            std::fs::create_dir(&folder).expect("a folder can be made");
            place(&folder)
        }));
    }
    sections
}

fn compete(settings: &Settings, title: &str, sessions: usize, place: &dyn Fn(&str) -> Place) -> Section {
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
        unreachable!("there are as many as contenders")
    };
    section.aim("manager over backend", ratio(&manager.rates, &backend.rates), Bound::AtLeast(0.75));
    match sessions {
        1 => {
            let worse = ratio(&backend.medians, &raw.medians);
            section.aim("p50 of the backend over a raw flush's", worse, Bound::AtMost(1.6));
        }
        8 => {
            section.aim("backend over SQLite", ratio(&backend.rates, &sqlite.rates), Bound::AtLeast(2.5));
        }
        64 => {
            section.aim("backend over SQLite", ratio(&backend.rates, &sqlite.rates), Bound::AtLeast(3.5));
        }
        _ => {}
    }
    let better = ratio(&backend.rates, &rewrite.rates);
    section.aim("backend over rewriting 1000 events", better, Bound::AtLeast(20.0));
    section
}

/// Lets each have its turn, round after round.
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
            let fit = (settings.slice.as_secs_f64() / one) as usize;
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
        let figures = [&measured.rates, &measured.medians, &measured.nearly_worst, &measured.cpu];
        section.row(contender.name(), &figures.map(|figures| median(figures)));
    }
    (section, measured)
}

impl Measured {
    fn add(&mut self, round: &Round) {
        let events = crate::stats::count(round.latencies.len());
        self.rates.push(events / round.elapsed.as_secs_f64());
        self.medians.push(median(&round.latencies));
        self.nearly_worst.push(quantile(&round.latencies, 0.99));
        self.cpu.push(crate::stats::micros(round.cpu) / events);
    }
}

/// The middle of the ratios of each round: what slows the machine down for a while slows both.
fn ratio(ours: &[f64], baseline: &[f64]) -> f64 {
    let ratios: Vec<f64> = ours.iter().zip(baseline).map(|(ours, baseline)| ours / baseline).collect();
    median(&ratios)
}
