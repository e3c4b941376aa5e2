//! The seeded loop over the fuzz targets on stable Rust, which `cargo xtask fuzz` runs.

use std::error::Error;
use std::fs;
use std::io::Write as _;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use session_fuzz::{InputOutcome, TARGETS, Target, corpus, mutate};

/// Cases of each target if neither cases nor minutes are given.
const CASES: u64 = 20_000;
/// Cases that a target runs before the next target's turn.
const BATCH: u64 = 500;
/// Interval between reports of progress.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

const USAGE: &str = "usage: cargo xtask fuzz [TARGET…] [--cases N] [--minutes M] [--seed S]
       cargo xtask fuzz TARGET --input FILE   run one input, such as that of a failure
       cargo xtask fuzz --corpus              write valid inputs to fuzz/corpus, for cargo fuzz";

/// The parsed command line.
#[derive(Debug, Default)]
struct Arguments {
    targets: Vec<&'static Target>,
    cases: Option<u64>,
    time: Option<Duration>,
    seed: Option<u64>,
    input: Option<PathBuf>,
    corpus: bool,
}

/// Results and times of a target's cases.
#[derive(Debug, Default)]
struct Tally {
    accepted: u64,
    refused: u64,
    spent: Duration,
    slowest: Duration,
}

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(error) => {
            print_line(&format!("{error}\n{USAGE}"));
            return ExitCode::from(2);
        }
    };
    let done = if arguments.corpus { write_corpus() } else { arguments.run() };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print_line(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn print_line(line: &str) {
    // An error means that stderr is closed.
    let _ = writeln!(std::io::stderr(), "{line}");
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let mut arguments = Self::default();
        while let Some(argument) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("`{argument}` needs a value"));
            match argument.as_str() {
                "--cases" => arguments.cases = Some(value()?.parse()?),
                "--seed" => arguments.seed = Some(value()?.parse()?),
                "--minutes" => {
                    arguments.time = Some(Duration::try_from_secs_f64(value()?.parse::<f64>()? * 60.0)?);
                }
                "--input" => arguments.input = Some(value()?.into()),
                "--corpus" => arguments.corpus = true,
                name => {
                    let found = TARGETS.iter().find(|target| target.name == name);
                    arguments.targets.push(found.ok_or_else(|| {
                        let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
                        format!("unknown target `{name}`: choose from {}", names.join(", "))
                    })?);
                }
            }
        }
        if arguments.input.is_some() && arguments.targets.len() != 1 {
            return Err("--input needs exactly one target".into());
        }
        if arguments.targets.is_empty() {
            arguments.targets = TARGETS.iter().collect();
        }
        Ok(arguments)
    }

    fn run(&self) -> Result<(), Box<dyn Error>> {
        if let (Some(path), [target]) = (&self.input, self.targets.as_slice()) {
            let outcome = (target.run)(&fs::read(path)?);
            print_line(&format!("{}: {outcome:?}", target.name));
            return Ok(());
        }
        let seed = self.seed.unwrap_or_else(random_seed);
        let cases = self.cases.unwrap_or(if self.time.is_some() { u64::MAX } else { CASES });
        print_line(&format!("fuzz: seed {seed}"));
        let start = Instant::now();
        let mut last_report = start;
        let mut tallies: Vec<Tally> = self.targets.iter().map(|_| Tally::default()).collect();
        let mut next = 0;
        while next < cases && self.time.is_none_or(|time| start.elapsed() < time) {
            let batch = next..cases.min(next.saturating_add(BATCH));
            for (target, tally) in self.targets.iter().zip(&mut tallies) {
                for case in batch.clone() {
                    run_case(target, seed.wrapping_add(case), tally)?;
                    if case % 64 == 0 && self.time.is_some_and(|time| start.elapsed() >= time) {
                        break;
                    }
                }
            }
            next = batch.end;
            if last_report.elapsed() >= REPORT_INTERVAL {
                last_report = Instant::now();
                let all: u64 = tallies.iter().map(Tally::cases).sum();
                print_line(&format!(
                    "{:>5} s  {all} cases, up to seed {}",
                    start.elapsed().as_secs(),
                    seed.wrapping_add(next)
                ));
            }
        }
        for (target, tally) in self.targets.iter().zip(&tallies) {
            print_line(&tally.summary(target.name));
        }
        Ok(())
    }
}

/// Runs one case of a target.
fn run_case(target: &Target, seed: u64, tally: &mut Tally) -> Result<(), String> {
    let input = mutate::input(target.name, seed);
    let start = Instant::now();
    let outcome =
        catch_unwind(|| (target.run)(&input)).map_err(|_| save_failure(target.name, seed, &input))?;
    let took = start.elapsed();
    tally.spent += took;
    tally.slowest = tally.slowest.max(took);
    match outcome {
        InputOutcome::Accepted => tally.accepted += 1,
        InputOutcome::Refused => tally.refused += 1,
    }
    Ok(())
}

/// Saves the input, and returns a message with the command that reproduces the failure.
fn save_failure(target: &str, seed: u64, input: &[u8]) -> String {
    let path = root().join(format!("target/fuzz/{target}-{seed}"));
    let saved = fs::create_dir_all(root().join("target/fuzz")).and_then(|()| fs::write(&path, input));
    let saved = saved.map_or_else(|error| format!("not saved: {error}"), |()| path.display().to_string());
    format!(
        "{target} failed, seed {seed}; input: {saved}\nreproduce: cargo xtask fuzz {target} --seed {seed} --cases 1"
    )
}

impl Tally {
    const fn cases(&self) -> u64 {
        self.accepted + self.refused
    }

    fn summary(&self, name: &str) -> String {
        let Self { accepted, refused, spent, slowest } = self;
        let cases = self.cases();
        let each = spent.as_micros() / u128::from(cases.max(1));
        let rate = 1_000_000 / each.max(1);
        format!(
            "{name:14} {cases:>8} cases, {rate:>6}/s: {accepted} accepted, {refused} refused; slowest {} ms",
            slowest.as_millis()
        )
    }
}

/// Writes valid inputs to files, as the initial corpus of libFuzzer.
fn write_corpus() -> Result<(), Box<dyn Error>> {
    for target in TARGETS {
        let folder = root().join("fuzz/corpus").join(target.name);
        fs::create_dir_all(&folder)?;
        let all = corpus::of(target.name);
        for (at, input) in all.iter().enumerate() {
            fs::write(folder.join(format!("valid-{at}")), input)?;
        }
        print_line(&format!("{}: {} inputs", folder.display(), all.len()));
    }
    Ok(())
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is a folder of the workspace")
}

/// Returns a random seed, short enough to type.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(std::process::id()) >> 32
}
