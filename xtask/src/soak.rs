//! Proofs: test programs that run once at a given size, or round after round with new seeds until the time is up. They
//! are built once and then started without Cargo. The first failure ends a proof, and the error names the command that
//! repeats it.

mod program;
mod tally;

use std::error::Error;
use std::fmt;
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
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use self::program::Executable;
pub(crate) use self::program::{Program, Seed, Target};
use self::tally::Tally;
use crate::args::{Args, Usage};
use crate::console::Outcome;

/// Interval between two checks of a running program for its end, and of this process for a signal.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A property and the programs that test it.
#[derive(Debug, Clone)]
pub(crate) struct Proof {
    /// The command that runs it, without `cargo xtask`: `crash`, or `proofs machine`.
    pub(crate) command: String,
    pub(crate) programs: Vec<Program>,
    /// The options that give a round its size, `--plays 8`. May be empty.
    pub(crate) size: String,
    /// The meaning of a failure.
    pub(crate) failure: &'static str,
}

/// Reads `--minutes`.
///
/// # Errors
/// [`Usage`] unless it is a positive number.
pub(crate) fn minutes(args: &mut Args) -> Result<Option<Duration>, Box<dyn Error>> {
    let Some(minutes) = args.option::<f64>("--minutes")? else { return Ok(None) };
    match Duration::try_from_secs_f64(minutes * 60.0) {
        Ok(time) if !time.is_zero() => Ok(Some(time)),
        _ => Err(Usage::error(format!("`--minutes` cannot be `{minutes}`"))),
    }
}

impl Proof {
    /// Returns the command that repeats one round.
    pub(crate) fn reproduction(&self, seed: u64) -> String {
        let seed = if self.has_seed() { format!("--seed {seed}") } else { String::new() };
        format!("cargo xtask {} {seed} {}", self.command, self.size)
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// Returns `true` if the cases depend on a seed, `false` if all of them are enumerated.
    pub(crate) fn has_seed(&self) -> bool {
        self.programs.iter().any(|program| program.seed != Seed::None)
    }

    /// Runs one round and shows its output as it comes.
    ///
    /// # Errors
    /// The first failure, and the command that repeats it.
    pub(crate) fn once(&self, seed: u64) -> Outcome {
        let again = self.reproduction(seed);
        if self.has_seed() {
            eprintln!("{}: seed {seed}; again: {again}", self.command);
        } else {
            eprintln!("{}: enumerates all cases, no seed", self.command);
        }
        let executables = program::build(&self.programs)?;
        self.check_obstacles(&executables)?;
        for (program, executable) in self.programs.iter().zip(&executables) {
            if !executable.command(program, Some(seed)).status()?.success() {
                return Err(format!("{}; again: {again}", self.failure).into());
            }
        }
        Ok(())
    }

    /// Runs rounds until the time is up. Without a master seed, there is a new one.
    ///
    /// # Errors
    /// The first failure, and the command that repeats it.
    pub(crate) fn soak(&self, time: Duration, master: Option<u64>) -> Outcome {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&stop))?;
            // A handler cannot be removed: once the rounds are over, it does what the signal does by default.
            signal_hook::flag::register_conditional_default(signal, Arc::clone(&done))?;
        }
        let executables = program::build(&self.programs)?;
        self.check_obstacles(&executables)?;
        let scratch = ScratchFolder::new()?;
        let master = master.unwrap_or_else(new_seed);
        eprintln!(
            "{command}: {:.1} minutes, master seed {master}; all of it again: \
             cargo xtask {command} --minutes M --seed {master} {}",
            time.as_secs_f64() / 60.0,
            self.size,
            command = self.command
        );
        let run = |seed: u64, output: &Path| {
            for (program, executable) in self.programs.iter().zip(&executables) {
                let mut command = executable.command(program, Some(seed));
                command.env("TMPDIR", &scratch.0);
                match run_watched(command, output, &stop)? {
                    RoundEnd::Passed => {}
                    end @ (RoundEnd::Failed(_) | RoundEnd::Stopped) => return Ok(end),
                }
            }
            Ok(RoundEnd::Passed)
        };
        let result = self.run_rounds(time, master, &scratch.0.join("output"), run);
        done.store(true, Ordering::Relaxed);
        if result.is_ok() || stop.load(Ordering::Relaxed) {
            scratch.remove();
        } else {
            eprintln!("the files of the failed round are in {}", scratch.0.display());
        }
        result
    }

    /// # Errors
    /// [`Impossible`] if a program cannot run here.
    fn check_obstacles(&self, executables: &[Executable]) -> Outcome {
        for (program, executable) in self.programs.iter().zip(executables) {
            if let Some(reason) = executable.obstacle(program)? {
                return Err(Impossible(reason).into());
            }
        }
        Ok(())
    }

    fn run_rounds(
        &self,
        time: Duration,
        master: u64,
        output: &Path,
        run: impl Fn(u64, &Path) -> io::Result<RoundEnd>,
    ) -> Outcome {
        let begin = Instant::now();
        let mut totals = Tally::default();
        let mut rounds = 0;
        while begin.elapsed() < time {
            let seed = round_seed(master, rounds);
            rounds += 1;
            drop(File::create(output)?);
            let end = run(seed, output)?;
            let printed = String::from_utf8_lossy(&fs::read(output)?).into_owned();
            let at = begin.elapsed().as_secs();
            match end {
                RoundEnd::Passed => {}
                RoundEnd::Failed(status) => {
                    eprintln!("{printed}\n{at:>5} s  round {rounds}, seed {seed}: {status}");
                    let again = self.reproduction(seed);
                    return Err(format!(
                        "{} in round {rounds}, after {totals}; again: {again}",
                        self.failure
                    )
                    .into());
                }
                RoundEnd::Stopped => {
                    return Err(Stopped(format!("stopped in round {rounds}, after {totals}")).into());
                }
            }
            let tally = Tally::parse(&printed);
            eprintln!("{at:>5} s  round {rounds}, seed {seed}: {tally}");
            totals.add(&tally);
        }
        eprintln!(
            "{}: {rounds} rounds in {} s, no failure: {totals}",
            self.command,
            begin.elapsed().as_secs()
        );
        Ok(())
    }
}

/// The error of a proof that a signal ended.
#[derive(Debug)]
pub(crate) struct Stopped(String);

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Stopped {}

/// The reason for which a proof cannot run here: a missing tool or privilege.
#[derive(Debug)]
pub(crate) struct Impossible(String);

impl fmt::Display for Impossible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Impossible {}

/// The end of a round.
#[derive(Debug)]
enum RoundEnd {
    Passed,
    Failed(ExitStatus),
    /// This process received a signal.
    Stopped,
}

/// Runs a program to its end in its own process group. A signal to this process kills the group, so that nothing of a
/// round survives Ctrl-C.
fn run_watched(mut command: Command, output: &Path, stop: &AtomicBool) -> io::Result<RoundEnd> {
    let output = File::options().append(true).open(output)?;
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).process_group(0);
    let mut child = command.spawn()?;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(if status.success() { RoundEnd::Passed } else { RoundEnd::Failed(status) });
        }
        if stop.load(Ordering::Relaxed) {
            // The child is not reaped yet, so the id of the group cannot be in use by others.
            kill_process_group(Pid::from_child(&child), Signal::KILL)?;
            child.wait()?;
            return Ok(RoundEnd::Stopped);
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// The temporary folder of all rounds. Its path is short because sockets are created in it.
struct ScratchFolder(PathBuf);

impl ScratchFolder {
    fn new() -> io::Result<Self> {
        let folder = std::env::temp_dir().join(format!("soak-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        Ok(Self(folder))
    }

    fn remove(&self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("removing {}: {error}", self.0.display());
        }
    }
}

/// Creates a random seed, short enough to be typed.
pub(crate) fn new_seed() -> u64 {
    RandomState::new().hash_one(std::process::id()) >> 32
}

/// Returns the seed of a round (`SplitMix64`), short enough to be typed.
const fn round_seed(master: u64, round: u64) -> u64 {
    let mut z = master.wrapping_add(round.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) >> 32
}

#[cfg(test)]
mod tests;
