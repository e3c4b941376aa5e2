//! The processes of a proof, found by the tag in their environment.

use std::fs;
use std::time::{Duration, Instant};
use std::{io, thread};

use rustix::process::{Pid, Signal, kill_process};

use crate::command::TAG;

/// A running process.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pid: Pid,
    pub(crate) command: String,
}

/// Lists the running processes with a tag, zombies not included.
pub(crate) fn tagged(tag: &str) -> io::Result<Vec<Process>> {
    let wanted = format!("{TAG}={tag}");
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let folder = entry?.path();
        let Some(pid) =
            folder.file_name().and_then(|name| name.to_str()?.parse().ok()).and_then(Pid::from_raw)
        else {
            continue;
        };
        let Ok(environment) = fs::read(folder.join("environ")) else { continue };
        if !environment.split(|byte| *byte == 0).any(|line| line == wanted.as_bytes()) {
            continue;
        }
        let command = fs::read(folder.join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        found.push(Process { pid, command });
    }
    Ok(found)
}

/// Waits until no process with a tag is running. Returns those that are left when the time is up.
pub(crate) fn wait_for_end(tag: &str, limit: Duration) -> io::Result<Vec<Process>> {
    let end = Instant::now() + limit;
    loop {
        let left = tagged(tag)?;
        if left.is_empty() || Instant::now() > end {
            return Ok(left);
        }
        thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn kill(processes: &[Process]) {
    for process in processes {
        // It may have ended by itself.
        let _ = kill_process(process.pid, Signal::KILL);
    }
}
