//! Ends the processes that a killed supervisor left behind, and only those: a supervisor knows its tree, whereas here a
//! process can only be recognised by its environment. A process that has cleared its environment is not found.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};
use session_core::async_trait::async_trait;
use session_core::backend::{Leftovers, LocalPresence};
use session_core::{SessionError, SessionId};
use tokio::time::Instant;

use super::entry::VERB;
use super::messages::ORPHAN_GRACE;
use crate::procfs::{Process, environ, variables};
use crate::report::socket::{listener_of, record_of_left};
use crate::variables::{SESSION_VARIABLE, SOCKET_VARIABLE};

/// Time that the supervisor of a dead owner has to end its tree.
const SUPERVISOR_TIMEOUT: Duration = Duration::from_secs(5);
/// Time after which a supervisor that was stopped is continued.
const WAKE_SUPERVISOR_AFTER: Duration = Duration::from_millis(200);
/// Time to search on after the kill signal was due, and the interval between two scans.
const KILL_TIMEOUT: Duration = Duration::from_secs(3);
const SCAN_INTERVAL: Duration = Duration::from_millis(10);

/// Kills every process that has this owner's socket in its environment. No two owners have the same socket.
pub(crate) async fn kill(socket: &Path) {
    let mark = [SOCKET_VARIABLE.as_bytes(), b"=", socket.as_os_str().as_bytes()].concat();
    end(|environ| variables(environ).any(|variable| variable == mark), Duration::ZERO).await;
}

/// The programs of sessions whose owner died, for a manager: their processes are ended before the session's end is
/// recorded, and before its log is deleted. What was left running on purpose is spared.
#[derive(Debug, Clone)]
pub struct ProgramLeftovers {
    locks: LocalPresence,
}

impl ProgramLeftovers {
    /// Creates them for a store, whose owners and programs hold these locks.
    #[must_use]
    pub const fn new(locks: LocalPresence) -> Self {
        Self { locks }
    }
}

#[async_trait]
impl Leftovers for ProgramLeftovers {
    async fn end(&self, id: SessionId) -> Result<(), SessionError> {
        end_orphan(&self.locks, id).await.map(drop)
    }
}

/// Ends the processes of a session whose owner is dead, and returns their number: waits for the supervisor, which ends its
/// tree, and ends what a killed one has left.
pub(crate) async fn end_orphan(locks: &LocalPresence, id: SessionId) -> Result<usize, SessionError> {
    let lock = locks.session_lock(id);
    let start = Instant::now();
    let mut is_woken = false;
    let held = loop {
        if let Some(held) = lock.try_acquire()? {
            break held;
        }
        let waited = start.elapsed();
        if waited >= SUPERVISOR_TIMEOUT {
            return Err(SessionError::StillRunning { id, processes: former_runs(id) });
        }
        if waited >= WAKE_SUPERVISOR_AFTER && !is_woken {
            continue_supervisors(id);
            is_woken = true;
        }
        tokio::time::sleep(SCAN_INTERVAL).await;
    };
    let ended = end_former_runs(id).await;
    held.release();
    ended
}

/// Ends every process of a former run of this session whose owner is gone, and returns their number. The caller holds
/// the session's lock, so no supervisor is left that would do it.
///
/// # Errors
/// `StillRunning` if some could not be ended.
pub(crate) async fn end_former_runs(id: SessionId) -> Result<usize, SessionError> {
    let found = end(of_former_run(id), ORPHAN_GRACE).await;
    let processes = former_runs(id);
    if processes.is_empty() { Ok(found) } else { Err(SessionError::StillRunning { id, processes }) }
}

/// Returns the processes of former runs of this session whose owner is gone.
fn former_runs(id: SessionId) -> Vec<u32> {
    let is_leftover = of_former_run(id);
    let spared = self_and_ancestors();
    let processes = Process::all().unwrap_or_default().into_iter();
    processes
        .filter(|process| !process.has_ended() && !spared.contains(&process.pid))
        .filter(|process| is_leftover(&environ(process.pid)))
        .filter_map(|process| u32::try_from(process.pid.as_raw_nonzero().get()).ok())
        .collect()
}

/// Continues the supervisors of former runs that were stopped: they would never end their trees.
fn continue_supervisors(id: SessionId) {
    let is_leftover = of_former_run(id);
    let processes = Process::all().unwrap_or_default();
    let parents: HashSet<Pid> = processes
        .iter()
        .filter(|process| is_leftover(&environ(process.pid)))
        .filter_map(|process| process.parent)
        .collect();
    for process in processes.iter().filter(|process| process.is_stopped() && parents.contains(&process.pid)) {
        if is_supervisor(process.pid)
            && let Ok(handle) = pidfd_open(process.pid, PidfdFlags::empty())
            && is_supervisor(process.pid)
        {
            let _ = pidfd_send_signal(&handle, Signal::CONT);
        }
    }
}

/// Returns the test for the environment of a process of a former run.
///
/// The session's id alone proves nothing, because any process may have it in its environment. A process of a run also
/// names a socket, and so the owner that listened there. While that owner is alive, its processes are not touched.
/// Neither are they if the supervision of their tree has ended in order: then they were left running on purpose.
fn of_former_run(id: SessionId) -> impl Fn(&[u8]) -> bool {
    let session = format!("{SESSION_VARIABLE}={id}");
    let socket = format!("{SOCKET_VARIABLE}=");
    move |environ: &[u8]| {
        let mut names = variables(environ).filter_map(|variable| variable.strip_prefix(socket.as_bytes()));
        let is_left_behind = |socket: &[u8]| {
            listener_of(socket).is_some_and(|(pid, start_time)| is_gone(pid, start_time))
                && !record_of_left(Path::new(OsStr::from_bytes(socket))).exists()
        };
        variables(environ).any(|variable| variable == session.as_bytes())
            && names.next().is_some_and(is_left_behind)
    }
}

/// The result of ending processes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndedProcesses {
    /// The ids of processes that could not be ended.
    pub left: Vec<u32>,
    /// The ids of processes that were left running because they have a session of their own.
    pub separate: Vec<u32>,
}

/// Ends every process with this variable (`NAME=value`) in its environment, and their descendants. Spares those whose session
/// is not `session`, if that is given.
pub(crate) async fn end_with_variable(variable: &[u8], session: Option<Pid>) -> EndedProcesses {
    let spared = self_and_ancestors();
    let kill_at = Instant::now() + ORPHAN_GRACE;
    let mut asked = HashSet::new();
    let mut empty_scans = 0;
    loop {
        let now = Instant::now();
        let processes = Process::all().unwrap_or_default();
        let (found, separate): (Vec<&Process>, Vec<&Process>) = with_descendants(&processes, variable)
            .into_iter()
            .filter(|process| !spared.contains(&process.pid))
            .partition(|process| session.is_none() || process.session == session);
        let ids = |processes: &[&Process]| {
            processes
                .iter()
                .filter_map(|process| u32::try_from(process.pid.as_raw_nonzero().get()).ok())
                .collect()
        };
        // One that was forked while the first scan ran is found by the second.
        empty_scans = if found.is_empty() { empty_scans + 1 } else { 0 };
        if empty_scans == 2 || now >= kill_at + KILL_TIMEOUT {
            return EndedProcesses { left: ids(&found), separate: ids(&separate) };
        }
        for process in found {
            let first = asked.insert((process.pid, process.start_time));
            let signals: &[Signal] = match (now >= kill_at, first) {
                (true, _) => &[Signal::KILL],
                (false, true) => &[Signal::CONT, Signal::TERM],
                (false, false) => &[],
            };
            signal_same(process, signals);
        }
        if empty_scans == 0 {
            tokio::time::sleep(SCAN_INTERVAL).await;
        }
    }
}

/// Returns the processes that have a variable in their environment, and their descendants.
fn with_descendants<'a>(processes: &'a [Process], variable: &[u8]) -> Vec<&'a Process> {
    let alive = || processes.iter().filter(|process| !process.has_ended());
    let mut found: Vec<&Process> =
        alive().filter(|process| variables(&environ(process.pid)).any(|other| other == variable)).collect();
    let mut known: HashSet<Pid> = found.iter().map(|process| process.pid).collect();
    loop {
        let children: Vec<&Process> = alive()
            .filter(|process| !known.contains(&process.pid))
            .filter(|process| process.parent.is_some_and(|parent| known.contains(&parent)))
            .collect();
        if children.is_empty() {
            return found;
        }
        known.extend(children.iter().map(|process| process.pid));
        found.extend(children);
    }
}

/// Signals a process, unless another one has its id by now.
fn signal_same(process: &Process, signals: &[Signal]) {
    let Ok(handle) = pidfd_open(process.pid, PidfdFlags::empty()) else { return };
    if Process::read(process.pid).is_ok_and(|now| now.is_some_and(|now| now.start_time == process.start_time))
    {
        for signal in signals {
            let _ = pidfd_send_signal(&handle, *signal);
        }
    }
}

/// Sends TERM to marked processes, and KILL to those that remain after the grace period. Spares this process and its
/// ancestors.
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
            // The tree of another supervisor is not marked. That supervisor ends its tree and then itself once its
            // owner, which is ended here, is gone.
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
    // Opened before the mark is read again: if the id was reused meanwhile, its new holder gets no signal.
    let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    if is_marked(&environ(pid)) {
        for signal in signals {
            // It may have ended, or belong to another user: the next scan shows it.
            let _ = pidfd_send_signal(&handle, *signal);
        }
    }
}

/// Returns this process and its ancestors: a process that leftovers started must not end itself.
fn self_and_ancestors() -> HashSet<Pid> {
    let mut ancestors = HashSet::new();
    let mut next = Some(getpid());
    while let Some(pid) = next.filter(|pid| ancestors.insert(*pid)) {
        next = Process::read(pid).ok().flatten().and_then(|process| process.parent);
    }
    ancestors
}

/// Returns `true` if the process with this id and start time is gone. One that cannot be read may still exist.
fn is_gone(pid: Pid, start_time: u64) -> bool {
    Process::read(pid).is_ok_and(|now| now.is_none_or(|now| now.start_time != start_time || now.has_ended()))
}

pub(crate) fn is_supervisor(pid: Pid) -> bool {
    let arguments = std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
    variables(&arguments).nth(1) == Some(VERB.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_dead_owner_left_behind_is_of_a_former_run() {
        let folder = tempfile::tempdir().unwrap();
        let me = Process::read(getpid()).unwrap().unwrap();
        let id = SessionId::random();
        let socket = |start: u64| folder.path().join(format!("{}-{start}-x.sock", me.pid.as_raw_nonzero()));
        let environ =
            |start| format!("{SESSION_VARIABLE}={id}\0{SOCKET_VARIABLE}={}\0", socket(start).display());
        let is_of_former_run = |start| of_former_run(id)(environ(start).as_bytes());
        assert!(!is_of_former_run(me.start_time), "its owner is alive");
        // Another process had the id of this one before.
        let former = me.start_time - 1;
        assert!(is_of_former_run(former));
        assert!(!of_former_run(SessionId::random())(environ(former).as_bytes()), "another session");
        std::fs::write(record_of_left(&socket(former)), "").unwrap();
        assert!(!is_of_former_run(former), "left running on purpose");
    }
}
