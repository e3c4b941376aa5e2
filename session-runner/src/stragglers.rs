//! Ends what a killed supervisor watched over. Only then: a supervisor knows its tree, here it can only be recognised.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::report::SOCKET_VARIABLE;
use crate::supervisor::process::Process;

/// How often, and how far apart, is looked for processes that were born meanwhile.
const ROUNDS: u32 = 100;
const APART: Duration = Duration::from_millis(10);

/// Kills every process that has this owner's socket in its environment: no other owner ever had the same. One that
/// threw its environment away is not found.
pub(crate) async fn kill(socket: &Path) {
    let mark = [SOCKET_VARIABLE.as_bytes(), b"=", socket.as_os_str().as_bytes()].concat();
    for _ in 0..ROUNDS {
        let mut found = false;
        for process in Process::all().unwrap_or_default().iter().filter(|process| !process.has_ended()) {
            found |= carries(process.pid, &mark) && kill_marked(process.pid, &mark);
        }
        if !found {
            return;
        }
        tokio::time::sleep(APART).await;
    }
}

fn kill_marked(pid: Pid, mark: &[u8]) -> bool {
    // Opened before the mark is read again: if the id is used again meanwhile, its holder gets no signal.
    let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return false };
    carries(pid, mark) && pidfd_send_signal(handle, Signal::KILL).is_ok()
}

fn carries(pid: Pid, mark: &[u8]) -> bool {
    let environ = std::fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero())).unwrap_or_default();
    environ.split(|byte| *byte == 0).any(|variable| variable == mark)
}
