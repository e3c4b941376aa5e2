//! What the command costs: whole processes, timed from outside, as a user waits for them. `cargo xtask bench` runs it.
//!
//! All rows are measured in turn, round after round, so that whatever else the machine does meets all of them alike; the
//! median counts. There are no thresholds here that fail on a busy machine: a row says what it should cost beside what
//! it does.

#![expect(clippy::unwrap_used, reason = "a measurement that cannot be made is a failure")]
#![expect(clippy::print_stdout, reason = "the table is what it is for")]

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use sessionkit::{ManagerOptions, Session, SessionConfig, SessionSummary, Store};

const BINARY: &str = env!("CARGO_BIN_EXE_sessionctl");
/// Rounds that count, after some that only warm up.
const ROUNDS: usize = 51;
const WARM_UP: usize = 5;
/// What is in the large store.
const ENDED: usize = 10_000;
const ACTIVE: usize = 20;
/// Sessions that are made at once: a flush of one waits while others write.
const AT_ONCE: usize = 16;

/// Something to measure.
struct Row {
    name: &'static str,
    command: Command,
    /// The row whose time is no part of this one's cost.
    over: Option<usize>,
    /// What it should cost at most; nothing for what is only a measure for others.
    budget: Option<Duration>,
    times: Vec<Duration>,
}

impl Row {
    fn new(name: &'static str, command: Command, over: Option<usize>, budget_ms: Option<u64>) -> Self {
        Self { name, command, over, budget: budget_ms.map(Duration::from_millis), times: Vec::new() }
    }

    fn once(&mut self) -> Duration {
        let start = Instant::now();
        let status = self.command.status().unwrap();
        let took = start.elapsed();
        assert!(status.success(), "{}: {status}", self.name);
        took
    }

    fn at(&self, share: f64) -> Duration {
        let mut times = self.times.clone();
        times.sort_unstable();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a place among a few dozen"
        )]
        let place = ((times.len() - 1) as f64 * share) as usize;
        times.get(place).copied().unwrap()
    }
}

fn main() -> ExitCode {
    let mut json = false;
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--json" => json = true,
            // What Cargo tells every benchmark.
            "--bench" => {}
            _ => {
                eprintln!("`{argument}` is not understood here; there is `--json`");
                return ExitCode::from(2);
            }
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let (small, large) = (folder.path().join("small"), folder.path().join("large"));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    eprintln!("making {ENDED} sessions that have ended and {ACTIVE} that run …");
    let _running = runtime.block_on(fill(&large));
    let ctl = |store: &Path, words: &[&str]| {
        let mut command = quiet(BINARY);
        command.args(words).env("SESSIONCTL_STORE", format!("file:{}", store.display()));
        command.env("XDG_RUNTIME_DIR", folder.path());
        command
    };
    let run = ["run", "--", "true"];
    let mut rows = [
        Row::new("true", quiet("true"), None, None),
        Row::new("run -- true, over `true`, in a new store", ctl(&small, &run), Some(0), Some(15)),
        Row::new("run -- true, over `true`, among 10,000 ended", ctl(&large, &run), Some(0), Some(15)),
        Row::new("ls, of 20 active among 10,000 ended", ctl(&large, &["ls"]), None, Some(20)),
    ];
    eprintln!("measuring {ROUNDS} rounds …");
    for round in 0..WARM_UP + ROUNDS {
        for row in &mut rows {
            let took = row.once();
            if round >= WARM_UP {
                row.times.push(took);
            }
        }
    }
    if json {
        print_json(&rows);
    } else {
        print_table(&rows);
    }
    ExitCode::SUCCESS
}

fn quiet(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SESSIONCTL_"))
    {
        command.env_remove(name);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Fills a store, and returns what keeps the active sessions' owner alive.
async fn fill(path: &Path) -> (Store, Vec<Session>) {
    let url = format!("file:{}", path.display());
    let options = ManagerOptions::new().recovery(None);
    let store = sessionkit::builder(&url).options(options).open_store().await.unwrap();
    let mut makers = tokio::task::JoinSet::new();
    for maker in 0..AT_ONCE {
        let manager = std::sync::Arc::clone(store.manager());
        makers.spawn(async move {
            for number in (maker..ENDED).step_by(AT_ONCE) {
                let id = manager.create_session(config(number)).await.unwrap();
                let session = manager.start_session(id).await.unwrap();
                session.complete(SessionSummary::new()).await.unwrap();
            }
        });
    }
    while let Some(made) = makers.join_next().await {
        made.unwrap();
    }
    let mut running = Vec::new();
    for number in ENDED..ENDED + ACTIVE {
        let id = store.manager().create_session(config(number)).await.unwrap();
        running.push(store.manager().start_session(id).await.unwrap());
    }
    (store, running)
}

fn config(number: usize) -> SessionConfig {
    SessionConfig::new("import").name(format!("import-{number}"))
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// What a row costs, at the median of what it is measured over.
fn cost(rows: &[Row], row: &Row, share: f64) -> f64 {
    let over = row.over.and_then(|at| rows.get(at)).map_or(Duration::ZERO, |over| over.at(0.5));
    millis(row.at(share).saturating_sub(over))
}

fn print_table(rows: &[Row]) {
    println!("{:<46} {:>8} {:>8} {:>8} {:>8}", "milliseconds", "median", "90 %", "best", "at most");
    for row in rows {
        let [median, most, best] = [0.5, 0.9, 0.0].map(|share| cost(rows, row, share));
        let budget = row.budget.map_or(String::new(), |budget| format!("{:.0}", millis(budget)));
        let over = row.budget.is_some_and(|budget| median > millis(budget));
        let mark = if over { "  OVER" } else { "" };
        println!("{:<46} {median:>8.2} {most:>8.2} {best:>8.2} {budget:>8}{mark}", row.name);
    }
}

fn print_json(rows: &[Row]) {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            let [median, most, best] = [0.5, 0.9, 0.0].map(|share| cost(rows, row, share));
            json!({
                "name": row.name, "median_ms": median, "p90_ms": most, "best_ms": best,
                "budget_ms": row.budget.map(millis), "rounds": row.times.len(),
            })
        })
        .collect();
    println!("{}", serde_json::to_string_pretty(&rows).unwrap());
}
