//! All processes that descend from the supervised program, and signals for them and for nobody else.
//!
//! The supervisor is their subreaper: whoever loses its parent becomes its child, so that none can leave by forking
//! twice or by starting a session of its own. A process id alone names nobody, for ids are used again. A signal
//! therefore goes through a pidfd, opened before its holder's descent is read, and read twice: see [`Tree::is_ours`].

use std::io;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal};

use super::process::Process;

/// How many generations are looked at below the supervisor. Deeper ones move up when those above them end.
const GENERATIONS: usize = 256;
/// How often is looked for processes that still run, before all are killed.
const FREEZE_ROUNDS: usize = 64;

/// The descendants of this process.
#[derive(Debug)]
pub(crate) struct Tree {
    root: Pid,
    /// The supervised program while it has not been waited for: so long, its id and its group's mean nobody else.
    leader: Option<Pid>,
}

/// How a signal went.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    /// Who got it, the group's members aside.
    pub(crate) reached: usize,
    /// Who may not be signalled by this user.
    pub(crate) refused: Vec<Process>,
}

impl Tree {
    pub(crate) fn new(leader: Pid) -> Self {
        Self { root: rustix::process::getpid(), leader: Some(leader) }
    }

    pub(crate) fn leader(&self) -> Option<Pid> {
        self.leader
    }

    /// The program was waited for: from here on its id may mean anybody.
    pub(crate) fn clear_leader(&mut self) {
        self.leader = None;
    }

    /// Sends a signal to the program's process group, as a terminal would. Whether anybody got it.
    pub(crate) fn signal_group(&self, signal: Signal) -> bool {
        self.leader.is_some_and(|leader| kill_process_group(leader, signal).is_ok())
    }

    /// Sends a signal to the group, at one moment, and to all descendants outside of it, one after the other.
    pub(crate) fn signal_all(&self, signal: Signal) -> io::Result<Sent> {
        let group = self.leader.filter(|_| self.signal_group(signal));
        let mut outside = self.live_descendants()?;
        outside.retain(|process| group.is_none() || process.group != group);
        Ok(self.signal_each(&outside, signal))
    }

    /// Kills every descendant that is there now. `freeze` stops all of them first, until no new one turns up: those
    /// that fork faster than they can be found are caught that way.
    pub(crate) fn kill(&self, freeze: bool) -> io::Result<Sent> {
        let found = if freeze { self.freeze() } else { self.live_descendants() };
        // At one moment, and even where the others cannot be found.
        self.signal_group(Signal::KILL);
        Ok(self.signal_each(&found?, Signal::KILL))
    }

    fn freeze(&self) -> io::Result<Vec<Process>> {
        let mut found = self.live_descendants()?;
        for _ in 0..FREEZE_ROUNDS {
            let moving: Vec<Process> =
                found.iter().filter(|process| !process.is_stopped()).cloned().collect();
            if moving.is_empty() {
                break;
            }
            self.signal_each(&moving, Signal::STOP);
            found = self.live_descendants()?;
        }
        Ok(found)
    }

    /// The descendants that have not ended, those nearer to the supervisor first.
    pub(crate) fn live_descendants(&self) -> io::Result<Vec<Process>> {
        let mut rest = Process::all()?;
        let mut above = vec![self.root];
        let mut alive = Vec::new();
        for _ in 0..GENERATIONS {
            let (children, others): (Vec<_>, Vec<_>) = rest
                .into_iter()
                .partition(|process| process.parent.is_some_and(|parent| above.contains(&parent)));
            above = children.iter().map(|process| process.pid).collect();
            alive.extend(children.into_iter().filter(|process| !process.has_ended()));
            rest = others;
            if above.is_empty() {
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
                // It ended meanwhile.
                Err(_) => {}
            }
        }
        sent
    }

    /// Whether the holder of this id descends from the supervisor. Its pidfd is open already: if the holder is
    /// another one by the time of the signal, that one gets none.
    ///
    /// The line of parents is read twice. Had a parent ended while the first reading went up, and its id been used
    /// again by one of ours, its children would have been given to another parent, for ever; so the second reading
    /// would differ.
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
        assert!(!tree.is_ours(&parent), "the parent is a stranger");
        let stale = Process { start_time: 1, ..Process::read(pid).unwrap().unwrap() };
        assert!(!tree.is_ours(&stale), "an id alone names nobody");

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
        // From below: this process is nobody's subreaper, and would lose the grandchild with the child.
        alive.reverse();
        let sent = tree.signal_each(&alive, Signal::KILL);
        assert!(sent.refused.is_empty());
        assert_eq!(sent.reached, 2);
        child.wait().unwrap();
    }
}
