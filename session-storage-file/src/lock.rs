//! Kernel locks on files, with a bounded wait. The holder writes its pid into the file, so that a waiter that
//! times out can name it.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use session_core::StorageError;

use crate::disk::{DiskFile, LockMode};
use crate::error::IoContext;
use crate::scan::read_exactly;

const FIRST_PAUSE: Duration = Duration::from_micros(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);
/// The length of the holder's line in bytes, so that a new line covers the old one completely.
const HOLDER: usize = 16;

/// Takes a file's lock, retrying until `deadline`; tries at least once.
pub(crate) fn acquire(
    file: &dyn DiskFile,
    path: &Path,
    mode: LockMode,
    deadline: Instant,
) -> Result<(), StorageError> {
    acquire_unsigned(file, path, mode, deadline)?;
    // A reader leaves the file unchanged.
    if mode == LockMode::Exclusive {
        sign(file);
    }
    Ok(())
}

/// Like [`acquire`], for a file with other content.
pub(crate) fn acquire_unsigned(
    file: &dyn DiskFile,
    path: &Path,
    mode: LockMode,
    deadline: Instant,
) -> Result<(), StorageError> {
    let mut pause = FIRST_PAUSE;
    while !file.try_lock(mode).context("lock", path)? {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(StorageError::Unavailable {
                what: format!(
                    "lock {} is held by {}: let it finish, or stop it if it hangs, then try again",
                    path.display(),
                    holder(file)
                ),
                source: None,
            });
        }
        thread::sleep(pause.min(left));
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    Ok(())
}

/// Writes the holder's pid into the lock file, best effort: it only helps people, and the lock is held even if
/// this fails.
fn sign(file: &dyn DiskFile) {
    let line = format!("{:<1$}\n", format!("pid {}", std::process::id()), HOLDER - 1);
    if !matches!(read_exactly(file, 0, HOLDER), Ok(Some(bytes)) if bytes == line.as_bytes()) {
        drop(file.write_at(line.as_bytes(), 0));
    }
}

fn holder(file: &dyn DiskFile) -> String {
    let line = read_exactly(file, 0, HOLDER).ok().flatten().unwrap_or_default();
    let pid = std::str::from_utf8(&line).ok().and_then(|line| line.trim().strip_prefix("pid "));
    match pid.and_then(|pid| pid.parse::<u32>().ok()) {
        Some(pid) if pid == std::process::id() => {
            format!("this process (pid {pid}), or process {pid} of another container")
        }
        Some(pid) => format!("process {pid}"),
        None => "another process".to_owned(),
    }
}
