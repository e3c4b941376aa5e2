//! The seeded loop over the fuzz targets, on stable: `cargo xtask fuzz` calls it.

use std::error::Error;
use std::fs;
use std::io::Write as _;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use session_fuzz::{Fate, TARGETS, Target, corpus, mutate};

/// Cases of each target where neither cases nor minutes are given.
const CASES: u64 = 20_000;
/// How many cases a target gets at a time.
const TURN: u64 = 500;
/// How often it says how far it is.
const SAYS: Duration = Duration::from_secs(10);

const USAGE: &str = "usage: cargo xtask fuzz [TARGET…] [--cases N] [--minutes M] [--seed S]
       cargo xtask fuzz TARGET --input FILE   runs one input, such as a failure has left
       cargo xtask fuzz --corpus              writes valid inputs to fuzz/corpus, for cargo fuzz";

/// What was asked for.
#[derive(Debug, Default)]
struct Wanted {
    targets: Vec<&'static Target>,
    cases: Option<u64>,
    time: Option<Duration>,
    seed: Option<u64>,
    input: Option<PathBuf>,
    corpus: bool,
}

/// What became of a target's cases.
#[derive(Debug, Default)]
struct Tally {
    accepted: u64,
    refused: u64,
    spent: Duration,
    slowest: Duration,
}

fn main() -> ExitCode {
    let wanted = match Wanted::read(std::env::args().skip(1)) {
        Ok(wanted) => wanted,
        Err(error) => {
            say(&format!("{error}\n{USAGE}"));
            return ExitCode::from(2);
        }
    };
    let done = if wanted.corpus { write_corpus() } else { wanted.run() };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn say(line: &str) {
    // Whoever does not listen any more is told nothing.
    let _ = writeln!(std::io::stderr(), "{line}");
}

impl Wanted {
    fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let mut wanted = Self::default();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("`{argument}` needs a value"));
            match argument.as_str() {
                "--cases" => wanted.cases = Some(value()?.parse()?),
                "--seed" => wanted.seed = Some(value()?.parse()?),
                "--minutes" => {
                    wanted.time = Some(Duration::try_from_secs_f64(value()?.parse::<f64>()? * 60.0)?);
                }
                "--input" => wanted.input = Some(value()?.into()),
                "--corpus" => wanted.corpus = true,
                name => {
                    let found = TARGETS.iter().find(|target| target.name == name);
                    wanted.targets.push(found.ok_or_else(|| {
                        let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
                        format!("there is no target `{name}`; there are {}", names.join(", "))
                    })?);
                }
            }
        }
        if wanted.input.is_some() && wanted.targets.len() != 1 {
            return Err("an input is one of one target".into());
        }
        if wanted.targets.is_empty() {
            wanted.targets = TARGETS.iter().collect();
        }
        Ok(wanted)
    }

    fn run(&self) -> Result<(), Box<dyn Error>> {
        if let (Some(path), [target]) = (&self.input, self.targets.as_slice()) {
            let fate = (target.run)(&fs::read(path)?);
            say(&format!("{}: {fate:?}", target.name));
            return Ok(());
        }
        let seed = self.seed.unwrap_or_else(new_seed);
        let cases = self.cases.unwrap_or(if self.time.is_some() { u64::MAX } else { CASES });
        say(&format!("fuzz: seed {seed}"));
        let begun = Instant::now();
        let mut told = begun;
        let mut tallies: Vec<Tally> = self.targets.iter().map(|_| Tally::default()).collect();
        let mut next = 0;
        while next < cases && self.time.is_none_or(|time| begun.elapsed() < time) {
            let turn = next..cases.min(next.saturating_add(TURN));
            for (target, tally) in self.targets.iter().zip(&mut tallies) {
                for case in turn.clone() {
                    one(target, seed.wrapping_add(case), tally)?;
                    if case % 64 == 0 && self.time.is_some_and(|time| begun.elapsed() >= time) {
                        break;
                    }
                }
            }
            next = turn.end;
            if told.elapsed() >= SAYS {
                told = Instant::now();
                let all: u64 = tallies.iter().map(Tally::cases).sum();
                say(&format!(
                    "{:>5} s  {all} cases, up to seed {}",
                    begun.elapsed().as_secs(),
                    seed.wrapping_add(next)
                ));
            }
        }
        for (target, tally) in self.targets.iter().zip(&tallies) {
            say(&tally.told(target.name));
        }
        Ok(())
    }
}

/// One case of a target.
fn one(target: &Target, seed: u64, tally: &mut Tally) -> Result<(), String> {
    let input = mutate::input(target.name, seed);
    let begun = Instant::now();
    let fate = catch_unwind(|| (target.run)(&input)).map_err(|_| failed(target.name, seed, &input))?;
    let took = begun.elapsed();
    tally.spent += took;
    tally.slowest = tally.slowest.max(took);
    match fate {
        Fate::Accepted => tally.accepted += 1,
        Fate::Refused => tally.refused += 1,
    }
    Ok(())
}

/// Keeps the input, and says how to have it again.
fn failed(target: &str, seed: u64, input: &[u8]) -> String {
    let path = root().join(format!("target/fuzz/{target}-{seed}"));
    let kept = fs::create_dir_all(root().join("target/fuzz")).and_then(|()| fs::write(&path, input));
    let kept = kept.map_or_else(|error| format!("not kept: {error}"), |()| path.display().to_string());
    format!(
        "{target} failed, seed {seed}; the input: {kept}\nagain: cargo xtask fuzz {target} --seed {seed} --cases 1"
    )
}

impl Tally {
    const fn cases(&self) -> u64 {
        self.accepted + self.refused
    }

    fn told(&self, name: &str) -> String {
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

/// Valid inputs as files, for libFuzzer to begin with.
fn write_corpus() -> Result<(), Box<dyn Error>> {
    for target in TARGETS {
        let folder = root().join("fuzz/corpus").join(target.name);
        fs::create_dir_all(&folder)?;
        let all = corpus::of(target.name);
        for (at, input) in all.iter().enumerate() {
            fs::write(folder.join(format!("valid-{at}")), input)?;
        }
        say(&format!("{}: {} inputs", folder.display(), all.len()));
    }
    Ok(())
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is a folder of the workspace")
}

/// A seed that nobody chose, short enough to be typed.
fn new_seed() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(std::process::id()) >> 32
}
