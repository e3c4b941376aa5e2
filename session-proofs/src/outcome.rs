//! Outcomes and settings of the proofs.

use std::error::Error;
use std::io::Write as _;

/// The outcome of a proof that did not fail.
#[derive(Debug)]
pub(crate) enum End {
    Passed,
    NotRun(String),
}

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

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
