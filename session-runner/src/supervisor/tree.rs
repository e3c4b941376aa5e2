//! The processes that descend from the supervised program, and signals to them and to no other process.
//!
//! The supervisor is their subreaper: a process that loses its parent becomes its child, so none can escape by forking
//! twice or by starting a session of its own. A process id alone identifies no process, because ids are reused. A
//! signal therefore goes through a pidfd that is opened before the holder's ancestors are read, which is done twice:
//! see [`Tree::is_ours`].

use std::io;

use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, kill_process, kill_process_group, pidfd_open, pidfd_send_signal,
};

use super::process::Process;

/// Generations below the supervisor that are searched. Deeper processes move up when those above them end.
const GENERATIONS: usize = 256;
/// Maximum scans for processes that still run, before all are killed.
const FREEZE_ROUNDS: usize = 64;

/// Signals for the program as a whole. Any other, such as USR1, is for the process that was started.
const FOR_GROUPS: [Signal; 8] = [
    Signal::INT,
    Signal::QUIT,
    Signal::TERM,
    Signal::HUP,
    Signal::CONT,
    Signal::TSTP,
    Signal::STOP,
    Signal::KILL,
];

/// The descendants of this process.
#[derive(Debug)]
pub(crate) struct Tree {
    root: Pid,
    /// The supervised program until it is reaped. Until then its id and its group's id cannot be reused.
    leader: Option<Pid>,
}

/// The result of sending a signal.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    /// The number of processes that got it, without the members of the group.
    pub(crate) reached: usize,
    /// Processes that this user may not signal.
    pub(crate) refused: Vec<Process>,
}

impl Tree {
    pub(crate) fn new(leader: Pid) -> Self {
        Self { root: rustix::process::getpid(), leader: Some(leader) }
    }

    pub(crate) fn leader(&self) -> Option<Pid> {
        self.leader
    }

    /// Forgets the program after it was reaped, because its id may be reused from then on.
    pub(crate) fn clear_leader(&mut self) {
        self.leader = None;
    }

    /// Sends a signal to the program's process group if terminals and shells send it to whole groups, else to the
    /// program's first process. Returns `true` if a process got it.
    pub(crate) fn signal(&self, signal: Signal) -> bool {
        if FOR_GROUPS.contains(&signal) {
            return self.signal_group(signal);
        }
        self.leader.is_some_and(|leader| kill_process(leader, signal).is_ok())
    }

    /// Sends a signal to the program's process group, as a terminal would. Returns `true` if a process got it.
    pub(crate) fn signal_group(&self, signal: Signal) -> bool {
        self.leader.is_some_and(|leader| kill_process_group(leader, signal).is_ok())
    }

    /// Sends a signal to the group atomically, and to all descendants outside of it one after the other.
    pub(crate) fn signal_all(&self, signal: Signal) -> io::Result<Sent> {
        let group = self.leader.filter(|_| self.signal_group(signal));
        let mut outside = self.live_descendants()?;
        outside.retain(|process| group.is_none() || process.group != group);
        Ok(self.signal_each(&outside, signal))
    }

    /// Kills every current descendant. `freeze` stops all of them first, until no new one appears, which catches
    /// processes that fork faster than they can be found.
    pub(crate) fn kill(&self, freeze: bool) -> io::Result<Sent> {
        let found = if freeze { self.freeze() } else { self.live_descendants() };
        // Atomically, and even if the others cannot be listed.
        self.signal_group(Signal::KILL);
        Ok(self.signal_each(&found?, Signal::KILL))
    }

    fn freeze(&self) -> io::Result<Vec<Process>> {
        let mut found = self.live_descendants()?;
        for _ in 0..FREEZE_ROUNDS {
            let running: Vec<Process> =
                found.iter().filter(|process| !process.is_stopped()).cloned().collect();
            if running.is_empty() {
                break;
            }
            self.signal_each(&running, Signal::STOP);
            found = self.live_descendants()?;
        }
        Ok(found)
    }

    /// Returns the descendants that have not ended, those nearer to the supervisor first.
    pub(crate) fn live_descendants(&self) -> io::Result<Vec<Process>> {
        let mut rest = Process::all()?;
        let mut parents = vec![self.root];
        let mut alive = Vec::new();
        for _ in 0..GENERATIONS {
            let (children, others): (Vec<_>, Vec<_>) = rest
                .into_iter()
                .partition(|process| process.parent.is_some_and(|parent| parents.contains(&parent)));
            parents = children.iter().map(|process| process.pid).collect();
            alive.extend(children.into_iter().filter(|process| !process.has_ended()));
            rest = others;
            if parents.is_empty() {
                break;
            }
        }
        Ok(alive)
    }

    fn signal_each(&self, processes: &[Process], signal: Signal) -> Sent {
        let mut sent = Sent::default();
        for process in processes {
            let Ok(handle) = pidfd_open(process.pid, PidfdFlags::empty()) else { continue };
            if !self.is_ours(process) {
                continue;
            }
            match pidfd_send_signal(&handle, signal) {
                Ok(()) => sent.reached += 1,
                Err(Errno::PERM) => sent.refused.push(process.clone()),
                // It has ended.
                Err(_) => {}
            }
        }
        sent
    }

    /// Returns `true` if the holder of this id descends from the supervisor. Its pidfd is already open: if another
    /// process holds the id by the time of the signal, that process gets none.
    ///
    /// The ancestors are read twice. If a parent ended during the first read and one of our processes reused its id,
    /// its children were permanently assigned to another parent, so the second read differs.
    fn is_ours(&self, process: &Process) -> bool {
        let ancestors = self.ancestors_up_to_root(process.pid);
        ancestors
            .as_ref()
            .is_some_and(|ancestors| ancestors.first().is_some_and(|(_, start)| *start == process.start_time))
            && ancestors == self.ancestors_up_to_root(process.pid)
    }

    fn ancestors_up_to_root(&self, pid: Pid) -> Option<Vec<(Pid, u64)>> {
        let mut ancestors = Vec::new();
        let mut next = pid;
        while next != self.root {
            let process = Process::read(next).ok()??;
            ancestors.push((next, process.start_time));
            if ancestors.len() > GENERATIONS {
                return None;
            }
            next = process.parent?;
        }
        Some(ancestors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_descendants_are_signalled() {
        let mut child =
            std::process::Command::new("sh").args(["-c", "sleep 600 & wait"]).spawn().expect("sh starts");
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        let tree = Tree::new(pid);
        let parent = Process::read(rustix::process::getppid().unwrap()).unwrap().unwrap();
        assert!(!tree.is_ours(&parent), "the parent is no descendant");
        let stale = Process { start_time: 1, ..Process::read(pid).unwrap().unwrap() };
        assert!(!tree.is_ours(&stale), "an id alone identifies no process");

        let mut alive = Vec::new();
        for _ in 0..1000 {
            alive = tree.live_descendants().unwrap();
            alive.retain(|process| process.pid == pid || process.parent == Some(pid));
            if alive.len() == 2 {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert_eq!(alive.len(), 2, "sh and sleep: {alive:?}");
        // Bottom-up: this process is not a subreaper, and would lose the grandchild with the child.
        alive.reverse();
        let sent = tree.signal_each(&alive, Signal::KILL);
        assert!(sent.refused.is_empty());
        assert_eq!(sent.reached, 2);
        child.wait().unwrap();
    }
}
