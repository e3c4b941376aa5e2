//! What the command costs: whole processes, timed from outside, as a user waits for them.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use session_core::{SessionManager as _, StorageMaintenance as _};

use crate::Settings;
use crate::appends::{manager, runtime, start};
use crate::listing;
use crate::report::{Bound, Section};
use crate::stats::{median, millis, quantile};

/// Rounds for each that is short: processes differ more than calls.
const TIMES_ROUNDS: usize = 7;
/// What is captured in one run.
const CAPTURED_MIB: usize = 64;

fn quiet(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SESSIONCTL_"))
    {
        command.env_remove(name);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn timed(command: &mut Command) -> Duration {
    let start = Instant::now();
    let status = command.status().expect("a program can be run");
    let took = start.elapsed();
    assert!(status.success(), "{command:?}: {status}");
    took
}

/// One command, with the command whose time is no part of its cost.
struct Row {
    name: &'static str,
    command: Command,
    over: Option<usize>,
    /// What it should cost at most, in milliseconds.
    budget: Option<f64>,
    times: Vec<Duration>,
}

impl Row {
    const fn new(name: &'static str, command: Command, over: Option<usize>, budget: Option<f64>) -> Self {
        Self { name, command, over, budget, times: Vec::new() }
    }
}

/// `sessionctl`, beside running the same program without it.
pub(crate) fn costs(settings: &Settings) -> Vec<Section> {
    let Some(sessionctl) = &settings.sessionctl else {
        eprintln!("not run: what the command costs, without --sessionctl PATH");
        return Vec::new();
    };
    let folder = tempfile::tempdir_in(&settings.folder).expect("a folder can be made");
    let (small, large) = (folder.path().join("small"), folder.path().join("large"));
    eprintln!("what the command costs …");
    let runtime = runtime();
    listing::fill(&runtime, &large, 10_000, 0);
    // They stay active for as long as this process keeps them.
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
        Row::new("run -- true, over true, in a new store", ctl(&small, &run), Some(0), Some(15.0)),
        Row::new("run -- true, over true, among 10000 ended", ctl(&large, &run), Some(0), Some(15.0)),
        Row::new("ls, of 20 active among 10000 ended", ctl(&large, &["ls"]), None, Some(20.0)),
    ];
    for round in 0..settings.rounds * TIMES_ROUNDS + 5 {
        for row in &mut rows {
            let took = timed(&mut row.command);
            // The first ones only warm up.
            if round >= 5 {
                row.times.push(took);
            }
        }
    }
    let mut section = Section::new("processes, as a user waits for them", &["p50 ms", "p90 ms", "best ms"]);
    let all: Vec<Vec<f64>> =
        rows.iter().map(|row| row.times.iter().map(|time| millis(*time)).collect()).collect();
    for (row, times) in rows.iter().zip(&all) {
        let over = row.over.and_then(|at| all.get(at)).map_or(0.0, |times| median(times));
        let cost = |share| quantile(times, share) - over;
        section.row(row.name, &[cost(0.5), cost(0.9), cost(0.0)]);
        if let Some(budget) = row.budget {
            section.aim(format!("ms for {}", row.name), cost(0.5), Bound::AtMost(budget));
        }
    }
    vec![section, capture(settings, folder.path(), ctl(&small, &["run", "--"]))]
}

/// A program that prints a lot, captured by us and by `tee`.
fn capture(settings: &Settings, folder: &Path, mut ours: Command) -> Section {
    let program = format!(
        "yes 'all work and no play makes a line of sixty four bytes, so to say' | head -c {CAPTURED_MIB}M"
    );
    let mut alone = quiet("sh");
    alone.args(["-c", &format!("{program} | cat")]);
    let mut tee = quiet("sh");
    tee.args(["-c", &format!("{program} | tee '{}'", folder.join("captured").display())]);
    ours.args(["sh", "-c", &program]);
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..settings.rounds {
        for (command, times) in [&mut alone, &mut tee, &mut ours].into_iter().zip(&mut times) {
            times.push(millis(timed(command)));
        }
    }
    let title = format!("{CAPTURED_MIB} MiB of a program's output, captured");
    let mut section = Section::new(title, &["ms", "MiB/s"]);
    for (name, times) in ["only piped (cat)", "tee", "sessionctl run"].iter().zip(&times) {
        let ms = median(times);
        section.row(*name, &[ms, crate::stats::count(CAPTURED_MIB) / (ms / 1e3)]);
    }
    section
}
