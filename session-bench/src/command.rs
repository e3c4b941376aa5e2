//! Cost of the command: wall time of complete processes, as a user waits for them.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use session_core::SessionManager as _;
use session_core::maintenance::StorageMaintenance as _;

use crate::Settings;
use crate::appends::{manager, runtime, start};
use crate::listing;
use crate::process::quiet;
use crate::report::{Bound, Section};
use crate::stats::{median, millis, quantile};

/// Factor for the number of rounds, because times of processes vary more than those of calls.
const ROUNDS_FACTOR: usize = 7;
/// The captured output of one run, in MiB.
const CAPTURED_MIB: usize = 64;

fn timed(command: &mut Command) -> Duration {
    let start = Instant::now();
    let status = command.status().expect("a program can be run");
    let took = start.elapsed();
    assert!(status.success(), "{command:?}: {status}");
    took
}

/// A command, with the baseline whose time is subtracted from its own.
struct Row {
    name: &'static str,
    command: Command,
    baseline: Option<usize>,
    /// The target for its cost, in milliseconds.
    budget: Option<f64>,
    times: Vec<Duration>,
}

impl Row {
    const fn new(name: &'static str, command: Command, baseline: Option<usize>, budget: Option<f64>) -> Self {
        Self { name, command, baseline, budget, times: Vec::new() }
    }
}

/// Measures `sessionctl` against running the same program without it.
pub(crate) fn costs(settings: &Settings) -> Vec<Section> {
    let Some(sessionctl) = &settings.sessionctl else {
        eprintln!("not run: cost of the command, because --sessionctl PATH is missing");
        return Vec::new();
    };
    let folder = tempfile::tempdir_in(&settings.folder).expect("a folder can be created");
    let (small, large) = (folder.path().join("small"), folder.path().join("large"));
    let asking = folder.path().join("asking");
    eprintln!("cost of the command …");
    let runtime = runtime();
    listing::fill(&runtime, &large, 10_000, 0);
    listing::fill_asking(&runtime, &asking, 10_000, 1_000);
    // The sessions stay active while this process holds them.
    let _running = runtime.block_on(async {
        let storage = listing::open(&large);
        let owners = storage.owners_dir();
        start(&manager(storage, &owners).await.to_shared(), 20).await
    });
    let ctl = |store: &Path, words: &[&str]| {
        let mut command = quiet(sessionctl);
        command.args(words).env("SESSIONCTL_STORE", format!("file:{}", store.display()));
        command.env("XDG_RUNTIME_DIR", folder.path());
        command
    };
    let run = ["run", "--", "true"];
    let mut rows = [
        Row::new("true", quiet("true"), None, None),
        Row::new("run -- true minus true, in a new store", ctl(&small, &run), Some(0), Some(15.0)),
        Row::new("run -- true minus true, with 10000 ended sessions", ctl(&large, &run), Some(0), Some(15.0)),
        Row::new("ls, 20 active and 10000 ended sessions", ctl(&large, &["ls"]), None, Some(20.0)),
        Row::new("answers, 1000 questions in 10000 sessions", ctl(&asking, &["answers"]), None, Some(50.0)),
    ];
    for round in 0..settings.rounds * ROUNDS_FACTOR + 5 {
        for row in &mut rows {
            let took = timed(&mut row.command);
            // The first rounds warm up.
            if round >= 5 {
                row.times.push(took);
            }
        }
    }
    let mut section = Section::new("wall time of processes", &["p50 ms", "p90 ms", "best ms"]);
    let all: Vec<Vec<f64>> =
        rows.iter().map(|row| row.times.iter().map(|time| millis(*time)).collect()).collect();
    for (row, times) in rows.iter().zip(&all) {
        let baseline = row.baseline.and_then(|at| all.get(at)).map_or(0.0, |times| median(times));
        let cost = |share| quantile(times, share) - baseline;
        section.row(row.name, &[cost(0.5), cost(0.9), cost(0.0)]);
        if let Some(budget) = row.budget {
            section.target(format!("{}, ms", row.name), cost(0.5), Bound::AtMost(budget));
        }
    }
    vec![section, capture(settings, folder.path(), ctl(&small, &["run", "--"]))]
}

/// Measures the capture of a program's output by `sessionctl run` and by `tee`.
fn capture(settings: &Settings, folder: &Path, mut sessionctl: Command) -> Section {
    let program = format!(
        "yes 'all work and no play makes a line of sixty four bytes, so to say' | head -c {CAPTURED_MIB}M"
    );
    let mut alone = quiet("sh");
    alone.args(["-c", &format!("{program} | cat")]);
    let mut tee = quiet("sh");
    tee.args(["-c", &format!("{program} | tee '{}'", folder.join("captured").display())]);
    sessionctl.args(["sh", "-c", &program]);
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..settings.rounds {
        for (command, times) in [&mut alone, &mut tee, &mut sessionctl].into_iter().zip(&mut times) {
            times.push(millis(timed(command)));
        }
    }
    let title = format!("{CAPTURED_MIB} MiB of a program's output, captured");
    let mut section = Section::new(title, &["ms", "MiB/s"]);
    for (name, times) in ["pipe only (cat)", "tee", "sessionctl run"].iter().zip(&times) {
        let ms = median(times);
        section.row(*name, &[ms, crate::stats::count(CAPTURED_MIB) / (ms / 1e3)]);
    }
    section
}
