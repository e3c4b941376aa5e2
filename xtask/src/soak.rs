//! Proofs that go on round after round, each from another seed, until the time is up: the test programs are built once
//! and then called as they are. The first failure ends it, with the command that has that round again.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::Outcome;
use crate::args::{Args, Usage};
use crate::workspace::cargo;

/// How often a round is looked at, whether it has ended or somebody wants it to.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Begins a line of a test with what it counted: `tally: images=1200 plays=3`.
const TALLY: &str = "tally: ";

/// A test program, and what it is told.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    pub(crate) package: &'static str,
    pub(crate) test: &'static str,
    /// Features that it needs, as Cargo takes them.
    pub(crate) features: &'static str,
    /// The variable that takes the seed.
    pub(crate) seed: &'static str,
    /// Other variables.
    pub(crate) env: Vec<(&'static str, String)>,
}

/// What is shown, and by which programs.
#[derive(Debug, Clone)]
pub(crate) struct Proof {
    /// The command.
    pub(crate) name: &'static str,
    pub(crate) programs: Vec<Program>,
    /// The options that make a round as large as it is, `--plays 8`.
    pub(crate) size: String,
    /// What a failure means.
    pub(crate) harm: &'static str,
}

/// How long, in minutes.
pub(crate) fn minutes(args: &mut Args) -> Result<Option<Duration>, Box<dyn Error>> {
    let Some(minutes) = args.option::<f64>("--minutes")? else { return Ok(None) };
    match Duration::try_from_secs_f64(minutes * 60.0) {
        Ok(time) if !time.is_zero() => Ok(Some(time)),
        _ => Err(Usage::error(format!("`--minutes` cannot be `{minutes}`"))),
    }
}

impl Proof {
    /// One round, its output shown as it comes.
    ///
    /// # Errors
    /// Where it fails.
    pub(crate) fn once(&self, seed: Option<u64>) -> Outcome {
        for program in &self.programs {
            let mut command = program.cargo();
            command.args(["--", "--nocapture"]).envs(program.env.iter().map(|(name, value)| (name, value)));
            if let Some(seed) = seed {
                command.env(program.seed, seed.to_string());
            }
            if !command.status()?.success() {
                return Err(format!("{}: see above for the seed that replays it", self.harm).into());
            }
        }
        Ok(())
    }

    /// Rounds until the time is up, or for ever if that comes later than the first failure. Without a master seed,
    /// there is a new one.
    ///
    /// # Errors
    /// The first failure, and the command that replays it.
    pub(crate) fn soak(&self, time: Duration, master: Option<u64>) -> Outcome {
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&stop))?;
        }
        let built = self.programs.iter().map(Program::build).collect::<Result<Vec<_>, _>>()?;
        let scratch = ScratchFolder::new()?;
        let master = master.unwrap_or_else(new_seed);
        eprintln!(
            "{name}: {:.1} minutes, master seed {master}; all of it again: cargo xtask {name} --minutes M --seed {master} {}",
            time.as_secs_f64() / 60.0,
            self.size,
            name = self.name
        );
        let run = |seed: u64, output: &Path| {
            for (program, built) in self.programs.iter().zip(&built) {
                let mut command = built.command(program, seed);
                command.env("TMPDIR", &scratch.0);
                match watched(command, output, &stop)? {
                    Ended::Well => {}
                    ended @ (Ended::Badly(_) | Ended::Stopped) => return Ok(ended),
                }
            }
            Ok(Ended::Well)
        };
        let result = self.run_rounds(time, master, &scratch.0.join("output"), run);
        if result.is_ok() || stop.load(Ordering::Relaxed) {
            scratch.leave();
        } else {
            eprintln!("what it left is in {}", scratch.0.display());
        }
        result
    }

    fn run_rounds(
        &self,
        time: Duration,
        master: u64,
        output: &Path,
        run: impl Fn(u64, &Path) -> io::Result<Ended>,
    ) -> Outcome {
        let begun = Instant::now();
        let mut totals = Tally::default();
        let mut rounds = 0;
        while begun.elapsed() < time {
            let seed = seed_of(master, rounds);
            rounds += 1;
            drop(File::create(output)?);
            let ended = run(seed, output)?;
            let said = String::from_utf8_lossy(&fs::read(output)?).into_owned();
            let at = begun.elapsed().as_secs();
            match ended {
                Ended::Well => {}
                Ended::Badly(status) => {
                    eprintln!("{said}\n{at:>5} s  round {rounds}, seed {seed}: {status}");
                    return Err(format!(
                        "{} in round {rounds}, after {totals}; again: cargo xtask {} --seed {seed} {}",
                        self.harm, self.name, self.size
                    )
                    .into());
                }
                Ended::Stopped => {
                    return Err(format!("stopped in round {rounds}, after {totals}").into());
                }
            }
            let tally = Tally::read(&said);
            eprintln!("{at:>5} s  round {rounds}, seed {seed}: {tally}");
            totals.add(&tally);
        }
        eprintln!("{}: {rounds} rounds in {} s, no failure: {totals}", self.name, begun.elapsed().as_secs());
        Ok(())
    }
}

impl Program {
    fn cargo(&self) -> Command {
        let mut command = cargo();
        command.args(["test", "--release", "--package", self.package, "--test", self.test]);
        if !self.features.is_empty() {
            command.args(["--features", self.features]);
        }
        command
    }

    fn build(&self) -> Result<Built, Box<dyn Error>> {
        let output = self
            .cargo()
            .args(["--no-run", "--message-format", "json-render-diagnostics"])
            .stderr(Stdio::inherit())
            .output()?;
        if !output.status.success() {
            return Err(format!("the tests of {} were not built", self.package).into());
        }
        let said = String::from_utf8(output.stdout)?;
        built(&said, self.test).ok_or_else(|| format!("cargo built no test {}", self.test).into())
    }
}

/// A test program on the disk.
#[derive(Debug, PartialEq, Eq)]
struct Built {
    program: PathBuf,
    /// Where Cargo starts it: the folder of its crate.
    folder: PathBuf,
}

impl Built {
    fn command(&self, program: &Program, seed: u64) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--nocapture").current_dir(&self.folder);
        command.envs(program.env.iter().map(|(name, value)| (name, value)));
        command.env(program.seed, seed.to_string());
        command
    }
}

/// The program of a test, as Cargo's messages tell it.
fn built(messages: &str, test: &str) -> Option<Built> {
    messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).find_map(|message| {
        let path = |value: Option<&Value>| value?.as_str().map(PathBuf::from);
        let target = message.get("target")?;
        let kinds = target.get("kind")?.as_array()?;
        let is_it = target.get("name")? == test && kinds.iter().any(|kind| kind == "test");
        let program = path(message.get("executable")).filter(|_| is_it)?;
        Some(Built { program, folder: path(message.get("manifest_path"))?.parent()?.to_owned() })
    })
}

/// How a round ended.
#[derive(Debug)]
enum Ended {
    Well,
    Badly(ExitStatus),
    /// Somebody wanted it to.
    Stopped,
}

/// Runs a program to its end, in a process group of its own, which is killed when this one is told to stop: nothing
/// of a round lives on after Ctrl-C.
fn watched(mut command: Command, output: &Path, stop: &AtomicBool) -> io::Result<Ended> {
    let output = File::options().append(true).open(output)?;
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).process_group(0);
    let mut child = command.spawn()?;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(if status.success() { Ended::Well } else { Ended::Badly(status) });
        }
        if stop.load(Ordering::Relaxed) {
            // It is not reaped yet, so the group is still its own.
            kill_process_group(Pid::from_child(&child), Signal::KILL)?;
            child.wait()?;
            return Ok(Ended::Stopped);
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// The folder for all that the rounds make, short because sockets go into it.
struct ScratchFolder(PathBuf);

impl ScratchFolder {
    fn new() -> io::Result<Self> {
        let folder = std::env::temp_dir().join(format!("soak-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        Ok(Self(folder))
    }

    fn leave(&self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("{} is left: {error}", self.0.display());
        }
    }
}

/// What tests counted, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Tally(BTreeMap<String, u64>);

impl Tally {
    fn read(said: &str) -> Self {
        let mut tally = Self::default();
        // The first line of a test stands behind what its harness says of it.
        let lines = said.lines().filter_map(|line| line.split_once(TALLY));
        for (name, count) in lines.flat_map(|(_, counts)| counts.split(' ')).filter_map(|c| c.split_once('='))
        {
            *tally.0.entry(name.to_owned()).or_default() += count.parse::<u64>().unwrap_or(0);
        }
        tally
    }

    fn add(&mut self, other: &Self) {
        for (name, count) in &other.0 {
            *self.0.entry(name.clone()).or_default() += count;
        }
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = String::new();
        for (name, count) in &self.0 {
            write!(text, "{}{count} {name}", if text.is_empty() { "" } else { ", " })?;
        }
        f.write_str(if text.is_empty() { "nothing" } else { &text })
    }
}

/// A seed that nobody chose, short enough to be typed.
fn new_seed() -> u64 {
    RandomState::new().hash_one(std::process::id()) >> 32
}

/// The seed of a round (`SplitMix64`), short enough to be typed.
const fn seed_of(master: u64, round: u64) -> u64 {
    let mut z = master.wrapping_add(round.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) >> 32
}

#[cfg(test)]
mod tests;
