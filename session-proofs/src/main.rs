//! Proofs of `sessionctl` as a whole, which `cargo xtask proofs` runs: failing system calls, power cuts of real file
//! systems, and crowds of processes on one store.

mod calls;
mod chaos;
mod command;
mod cuts;
mod processes;
mod random;

use std::error::Error;
use std::io::Write as _;
use std::process::ExitCode;

/// The exit code of a proof that cannot run here, as test harnesses use it. The reason is on stdout.
const NOT_RUN: u8 = 77;

/// The outcome of a proof that did not fail.
#[derive(Debug)]
pub(crate) enum End {
    Passed,
    NotRun(String),
}

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let (proof, probe, seed) = match *words {
        [proof, "--probe"] => (proof, true, 0),
        [proof, "--seed", seed] => (proof, false, seed.parse().unwrap_or(0)),
        _ => {
            print("usage: session-proofs calls|chaos|ext4|xfs|btrfs --probe|--seed N");
            return ExitCode::from(2);
        }
    };
    let end = match proof {
        "calls" => calls::run(seed, probe),
        "chaos" => chaos::run(seed, probe),
        "ext4" | "xfs" | "btrfs" => cuts::run(proof, seed, probe),
        other => Err(format!("there is no proof `{other}`").into()),
    };
    match end {
        Ok(End::Passed) => ExitCode::SUCCESS,
        Ok(End::NotRun(reason)) => {
            print(&reason);
            ExitCode::from(NOT_RUN)
        }
        Err(error) => {
            print(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// Prints a line. A closed stdout ends no proof.
pub(crate) fn print(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// Returns a number from the environment.
pub(crate) fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// Returns the binary under test: the one that was built with this one.
pub(crate) fn binary() -> Result<std::path::PathBuf> {
    if let Some(path) = std::env::var_os("SESSION_PROOF_BINARY") {
        return Ok(path.into());
    }
    let path = std::env::current_exe()?.with_file_name("sessionctl");
    if path.exists() { Ok(path) } else { Err(format!("{} is not built", path.display()).into()) }
}

/// Returns the folder for scratch files: in memory where there is one, so that only the proof itself flushes.
pub(crate) fn scratch(prefix: &str) -> Result<tempfile::TempDir> {
    let memory = std::path::Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    Ok(tempfile::Builder::new().prefix(prefix).tempdir_in(parent)?)
}
