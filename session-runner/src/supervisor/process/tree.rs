//! The processes that descend from the supervised program, and signals to them and to no other process.
//!
//! The supervisor is their subreaper: a process that loses its parent becomes its child, so none can escape by forking
//! twice or by starting a session of its own. A process id alone identifies no process, because ids are reused. A
//! signal therefore goes through a pidfd that is opened before the holder's ancestors are read, which is done twice:
//! see [`Tree::is_ours`].

use std::collections::{HashMap, HashSet};
use std::io;

use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, kill_process, kill_process_group, pidfd_open, pidfd_send_signal,
};

use crate::procfs::Process;
use crate::supervisor::messages::{Background, BackgroundKind, BackgroundProcess, STAYING, Spare};

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
    /// The session that the program was started in.
    session: Option<Pid>,
    /// `true` if the program was started with HUP ignored.
    hangup_was_ignored: bool,
    /// Processes that own a session of their own, with all descendants that were seen so far: one that loses its
    /// parent becomes a child of this process.
    excluded: HashSet<(Pid, u64)>,
}

/// A descendant, and the way in which it is separate from the tree.
#[derive(Debug, Clone)]
struct Member {
    process: Process,
    kind: BackgroundKind,
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
        Self {
            root: rustix::process::getpid(),
            leader: Some(leader),
            session: own_session(),
            hangup_was_ignored: session_inherit::is_ignored(Signal::HUP.as_raw()),
            excluded: HashSet::new(),
        }
    }

    pub(crate) fn leader(&self) -> Option<Pid> {
        self.leader
    }

    /// Forgets the program after it was reaped, because its id may be reused from then on.
    pub(crate) fn clear_leader(&mut self) {
        self.leader = None;
    }

    /// Leaves this process and its descendants alone from now on.
    pub(crate) fn exclude(&mut self, pid: Pid, start_time: u64) {
        self.excluded.insert((pid, start_time));
    }

    /// Sends a signal to the program's process group if terminals and shells send it to whole groups, else to the
    /// program's first process. Returns `true` if a process got it.
    pub(crate) fn signal_program(&self, signal: Signal) -> bool {
        if FOR_GROUPS.contains(&signal) {
            return self.signal_group(signal);
        }
        self.leader.is_some_and(|leader| kill_process(leader, signal).is_ok())
    }

    pub(crate) fn has_excluded(&self) -> bool {
        !self.excluded.is_empty()
    }

    /// Sends a signal to the program's process group, as a terminal would. Returns `true` if a process got it.
    pub(crate) fn signal_group(&self, signal: Signal) -> bool {
        self.leader.is_some_and(|leader| kill_process_group(leader, signal).is_ok())
    }

    /// Sends a signal to all descendants except the spared ones: to the group atomically, to all others one after the
    /// other.
    pub(crate) fn signal(&mut self, signal: Signal, spare: Spare) -> io::Result<Sent> {
        let group = self.leader.filter(|_| takes_whole_group(spare) && self.signal_group(signal));
        let mut outside = self.targets(spare)?;
        outside.retain(|process| group.is_none() || process.group != group);
        Ok(self.signal_each(&outside, signal))
    }

    /// Kills every current descendant except the spared ones. `freeze` stops them first, until no new one appears,
    /// which catches processes that fork faster than they can be found.
    pub(crate) fn kill(&mut self, freeze: bool, spare: Spare) -> io::Result<Sent> {
        let found = if freeze { self.freeze(spare) } else { self.targets(spare) };
        if takes_whole_group(spare) {
            // Atomically, and even if the others cannot be listed.
            self.signal_group(Signal::KILL);
        }
        Ok(self.signal_each(&found?, Signal::KILL))
    }

    fn freeze(&mut self, spare: Spare) -> io::Result<Vec<Process>> {
        let mut found = self.targets(spare)?;
        for _ in 0..FREEZE_ROUNDS {
            let running: Vec<Process> =
                found.iter().filter(|process| !process.is_stopped()).cloned().collect();
            if running.is_empty() {
                break;
            }
            self.signal_each(&running, Signal::STOP);
            found = self.targets(spare)?;
        }
        Ok(found)
    }

    /// Returns the descendants that have not ended and are not spared, those nearer to the supervisor first.
    pub(crate) fn targets(&mut self, spare: Spare) -> io::Result<Vec<Process>> {
        let members = self.members(spare >= Spare::Background)?;
        let leader = self.leader;
        let is_target = |member: &Member| Some(member.process.pid) == leader || !member.kind.is_spared(spare);
        Ok(members.into_iter().filter(is_target).map(|member| member.process).collect())
    }

    /// Returns the topmost processes of each kind besides the program. `outputs` are the files that a process may hold
    /// open; who does is determined only for processes that ignore HUP.
    pub(crate) fn background(&mut self, outputs: &[(u64, u64)]) -> io::Result<Vec<Background>> {
        let mut found: Vec<Background> = Vec::new();
        let mut places: HashMap<Pid, (BackgroundKind, usize)> = HashMap::new();
        for Member { process, kind } in self.members(true)? {
            if Some(process.pid) == self.leader {
                continue;
            }
            let above = process.parent.and_then(|parent| places.get(&parent)).copied();
            let place = above.filter(|(above, _)| *above == kind).map_or(found.len(), |(_, place)| place);
            if place == found.len() {
                found.push(Background { process: described(&process), kind, holds_output: false });
            }
            places.insert(process.pid, (kind, place));
            if let Some(entry) = found.get_mut(place)
                && kind == BackgroundKind::IgnoresHangup
                && !entry.holds_output
            {
                entry.holds_output = process.holds(outputs);
            }
        }
        Ok(found)
    }

    /// Returns the descendants that have not ended, without excluded ones; those nearer to the supervisor first. A
    /// process is as separate from the tree as its parent, at least. Who ignores HUP is determined only if
    /// `with_hangup`.
    fn members(&mut self, with_hangup: bool) -> io::Result<Vec<Member>> {
        // A program that ignores HUP itself passes that on to processes that nobody meant to be separate.
        let leader = self.leader.and_then(|leader| Process::read(leader).ok().flatten());
        let with_hangup = with_hangup
            && !self.hangup_was_ignored
            && leader.is_none_or(|leader| !leader.ignores(Signal::HUP));
        let mut rest = Process::all()?;
        let mut parents = HashMap::from([(self.root, BackgroundKind::Attached)]);
        let mut members = Vec::new();
        for _ in 0..GENERATIONS {
            let (children, others): (Vec<_>, Vec<_>) = rest
                .into_iter()
                .partition(|process| process.parent.is_some_and(|parent| parents.contains_key(&parent)));
            rest = others;
            let mut next = HashMap::new();
            for process in children {
                let above = process.parent.and_then(|parent| parents.get(&parent)).copied();
                if self.excluded.contains(&(process.pid, process.start_time)) {
                    rest = self.exclude_descendants(process.pid, rest);
                    continue;
                }
                let kind = above.unwrap_or(BackgroundKind::Attached).max(self.kind(&process, with_hangup));
                next.insert(process.pid, kind);
                if !process.has_ended() {
                    members.push(Member { process, kind });
                }
            }
            parents = next;
            if parents.is_empty() {
                break;
            }
        }
        Ok(members)
    }

    fn kind(&self, process: &Process, with_hangup: bool) -> BackgroundKind {
        if Some(process.pid) == self.leader {
            // What the program itself is says nothing about its children.
            BackgroundKind::Attached
        } else if process.session != self.session || process.name.as_bytes() == STAYING.to_bytes() {
            BackgroundKind::OwnSession
        } else if with_hangup && process.ignores(Signal::HUP) {
            BackgroundKind::IgnoresHangup
        } else {
            BackgroundKind::Attached
        }
    }

    /// Excludes the descendants of an excluded process. Returns the other processes.
    fn exclude_descendants(&mut self, pid: Pid, mut rest: Vec<Process>) -> Vec<Process> {
        let mut parents = HashSet::from([pid]);
        while !parents.is_empty() {
            let (children, others): (Vec<_>, Vec<_>) = rest
                .into_iter()
                .partition(|process| process.parent.is_some_and(|parent| parents.contains(&parent)));
            self.excluded.extend(children.iter().map(|process| (process.pid, process.start_time)));
            parents = children.iter().map(|process| process.pid).collect();
            rest = others;
        }
        rest
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

/// Returns `true` if no member of the program's group is spared: a group has one session.
fn takes_whole_group(spare: Spare) -> bool {
    spare <= Spare::OwnSession
}

/// Returns the session of this process; `None` if its leader is outside this process's PID namespace, as under
/// `docker exec`: the system then says 0, there and in `/proc`.
fn own_session() -> Option<Pid> {
    Pid::from_raw(nix::unistd::getsid(None).ok()?.as_raw())
}

fn described(process: &Process) -> BackgroundProcess {
    let pid = process.pid.as_raw_nonzero().get().unsigned_abs();
    BackgroundProcess::new(pid, process.start_time, process.name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_descendants_are_signalled() {
        let mut child =
            std::process::Command::new("sh").args(["-c", "sleep 600 & wait"]).spawn().expect("sh starts");
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        let mut tree = Tree::new(pid);
        let parent = Process::read(rustix::process::getppid().unwrap()).unwrap().unwrap();
        assert!(!tree.is_ours(&parent), "the parent is no descendant");
        let stale = Process { start_time: 1, ..Process::read(pid).unwrap().unwrap() };
        assert!(!tree.is_ours(&stale), "an id alone identifies no process");

        let mut alive = Vec::new();
        for _ in 0..1000 {
            alive = tree.targets(Spare::Nothing).unwrap();
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
