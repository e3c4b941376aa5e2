//! The kernel lock that restricts a store to one process. Its holder writes its pid into the file, so that another
//! process can name it in an error.

use std::fs::{File, TryLockError};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use session_core::StorageError;
use session_storage_engine::{Folders, IoContext as _};

use crate::error::unavailable;
use crate::files::{self, OpenMode};

const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);
/// Bytes of the holder's line, fixed so that a new line overwrites the old one completely.
const HOLDER: usize = 16;

/// The held lock, released on drop.
#[derive(Debug)]
pub(crate) struct StoreLock {
    _file: File,
}

/// Acquires the lock, trying until `deadline`, at least once.
pub(crate) fn acquire(path: &Path, deadline: Instant) -> Result<StoreLock, StorageError> {
    Folders::is_file(path)?;
    let file = files::open(path, OpenMode::Create).context("open", path)?;
    let mut pause = FIRST_PAUSE;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::Error(error)) => return Err(error).context("lock", path),
            Err(TryLockError::WouldBlock) => {}
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(held_error(&file, path));
        }
        thread::sleep(pause.min(left));
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    // Only for error messages: a lock without a pid is held as well.
    let line = format!("{:<1$}\n", format!("pid {}", std::process::id()), HOLDER - 1);
    drop(file.write_all_at(line.as_bytes(), 0));
    Ok(StoreLock { _file: file })
}

fn held_error(file: &File, path: &Path) -> StorageError {
    let mut line = [0; HOLDER];
    let read = file.read_at(&mut line, 0).unwrap_or(0);
    let text = line.get(..read).and_then(|line| std::str::from_utf8(line).ok()).unwrap_or_default();
    let pid = text.trim().strip_prefix("pid ").and_then(|pid| pid.parse::<u32>().ok());
    let store = path.parent().unwrap_or(path).display();
    unavailable(match pid {
        Some(pid) if pid == std::process::id() => format!(
            "the store {store} is held by this process (pid {pid}), whose database has not closed, or by process {pid} of \
             another container: end the process, then try again"
        ),
        Some(pid) => format!(
            "the store {store} is held by process {pid}, and sled allows only one: wait for that process or stop it; \
             programs inside its sessions report through it (`sessionctl report`)"
        ),
        None => format!(
            "the store {store} is held by another process, and sled allows only one: wait for that process or stop it"
        ),
    })
}
