//! Ends what a killed supervisor watched over. Only then: a supervisor knows its tree, here it can only be recognised
//! by what stands in its environment. A process that threw its environment away is not found.

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};
use session_core::SessionId;
use tokio::time::Instant;

use crate::report::SOCKET_VARIABLE;
use crate::runner::SESSION_VARIABLE;
use crate::socket::listener_of;
use crate::supervisor::VERB;
use crate::supervisor::process::Process;
use crate::supervisor_client::ORPHAN_GRACE;

/// How long is looked for processes after those that were found were to be killed, and how far apart the looks are.
const KILL_TIMEOUT: Duration = Duration::from_secs(3);
const SCAN_INTERVAL: Duration = Duration::from_millis(10);

/// Kills every process that has this owner's socket in its environment: no other owner ever had the same.
pub(crate) async fn kill(socket: &Path) {
    let mark = [SOCKET_VARIABLE.as_bytes(), b"=", socket.as_os_str().as_bytes()].concat();
    end(|environ| variables(environ).any(|variable| variable == mark), Duration::ZERO).await;
}

/// Ends every process that is left of a run of this session whose owner is gone, and returns how many there were. The
/// session's lock is held: so no supervisor is there that would do it.
///
/// The session's id alone is no proof, for anybody may have it in the environment: such a process also names a socket,
/// and with that the owner that listened there. As long as that owner lives, its processes are its own.
pub(crate) async fn end_former_runs(id: SessionId) -> usize {
    let session = format!("{SESSION_VARIABLE}={id}");
    let socket = format!("{SOCKET_VARIABLE}=");
    let is_leftover = |environ: &[u8]| {
        let mut names = variables(environ).filter_map(|variable| variable.strip_prefix(socket.as_bytes()));
        variables(environ).any(|variable| variable == session.as_bytes())
            && names.next().and_then(listener_of).is_some_and(|(pid, start_time)| is_gone(pid, start_time))
    };
    end(is_leftover, ORPHAN_GRACE).await
}

/// Asks marked processes to end, and kills those that are there after the grace, never this process or one above it.
async fn end(is_marked: impl Fn(&[u8]) -> bool, grace: Duration) -> usize {
    let spared = self_and_ancestors();
    let kill_at = Instant::now() + grace;
    let mut asked = HashSet::new();
    loop {
        let now = Instant::now();
        let mut left = false;
        for process in Process::all().unwrap_or_default() {
            let pid = process.pid;
            if process.has_ended() || spared.contains(&pid) || !is_marked(&environ(pid)) {
                continue;
            }
            left = true;
            let first = asked.insert((pid, process.start_time));
            // What another supervisor watches over is not marked, and would lose it: it ends by itself, and its tree
            // before, once the owner is gone that is ended here.
            if !is_supervisor(pid) {
                let signals: &[Signal] = match (now >= kill_at, first) {
                    (true, _) => &[Signal::KILL],
                    (false, true) => &[Signal::CONT, Signal::TERM],
                    (false, false) => &[],
                };
                send(pid, &is_marked, signals);
            }
        }
        if !left || now >= kill_at + KILL_TIMEOUT {
            return asked.len();
        }
        tokio::time::sleep(SCAN_INTERVAL).await;
    }
}

fn send(pid: Pid, is_marked: impl Fn(&[u8]) -> bool, signals: &[Signal]) {
    // Opened before the mark is read again: if the id is used again meanwhile, its holder gets no signal.
    let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    if is_marked(&environ(pid)) {
        for signal in signals {
            // It may have ended meanwhile, or belong to another user: the next look shows it.
            let _ = pidfd_send_signal(&handle, *signal);
        }
    }
}

/// Whoever was started by what is left of a session must not end itself.
fn self_and_ancestors() -> HashSet<Pid> {
    let mut ancestors = HashSet::new();
    let mut next = Some(getpid());
    while let Some(pid) = next.filter(|pid| ancestors.insert(*pid)) {
        next = Process::read(pid).ok().flatten().and_then(|process| process.parent);
    }
    ancestors
}

/// Whether the process of this id and start time is there no more. One that cannot be looked at may be.
fn is_gone(pid: Pid, start_time: u64) -> bool {
    Process::read(pid).is_ok_and(|now| now.is_none_or(|now| now.start_time != start_time || now.has_ended()))
}

fn is_supervisor(pid: Pid) -> bool {
    let arguments = std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
    variables(&arguments).nth(1) == Some(VERB.as_bytes())
}

fn environ(pid: Pid) -> Vec<u8> {
    std::fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero())).unwrap_or_default()
}

fn variables(environ: &[u8]) -> impl Iterator<Item = &[u8]> {
    environ.split(|byte| *byte == 0)
}
