//! The supervisor: the small process between an owner and its program, which outlives a killed owner and then ends the
//! whole tree. It is the same binary, started with a hidden verb; `entry` has the functions that recognise it.

pub(crate) mod entry;
pub(crate) mod process;
pub(crate) mod program_marker;
pub(crate) mod protocol;
mod signals;
mod start;
mod termination;
mod tree;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};

use self::process::Process;
use self::program_marker::show_program;
use self::protocol::{Ended, Escaped, Inbox, Order, Outbox, Report, Start};
use self::signals::Children;
use self::termination::{Action, Termination};
use self::tree::Tree;

/// Interval and timeout of checking that a tree has stopped.
const HALT_INTERVAL: Duration = Duration::from_millis(5);
const HALT_TIMEOUT: Duration = Duration::from_millis(500);

/// Supervises one program, as the order of the owner at the other end of stdin says.
fn supervise() -> io::Result<()> {
    let owner = start::take_socket()?;
    let children = Children::watch()?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let mut inbox = Inbox::default();
    let order = loop {
        if let Some(order) = inbox.next()? {
            break order;
        }
        if !inbox.receive(&owner)? {
            // The owner died before it sent the first order.
            return Ok(());
        }
    };
    let Order::Start(start) = order else { return Err(io::ErrorKind::InvalidData.into()) };
    let mut outbox = Outbox::default();
    match start::start(&start, inbox.take_descriptors()) {
        Ok((pid, start_time, lock)) => {
            let program_marker = show_program(pid);
            outbox.push(&Report::Started { pid: pid_number(pid), start_time });
            Supervisor {
                owner: Some(owner),
                inbox,
                outbox,
                children,
                tree: Tree::new(pid),
                termination: Termination::NotRequested,
                halting: None,
                halted: false,
                program_marker,
                _lock: lock,
                start: *start,
            }
            .run();
        }
        Err((step, error)) => {
            start::clean_up(&start);
            outbox.push(&Report::NotStarted { step, errno: error.raw_os_error().unwrap_or(0) });
            outbox.send(&owner);
        }
    }
    Ok(())
}

/// A supervisor whose program was started.
struct Supervisor {
    /// `None` once the owner is gone.
    owner: Option<OwnedFd>,
    inbox: Inbox,
    outbox: Outbox,
    children: Children,
    tree: Tree,
    termination: Termination,
    /// Deadline of an ordered halt, and whether no process was running at the last check.
    halting: Option<(Instant, bool)>,
    /// `true` while a halt is ordered: then a stop of the program is our own and not reported.
    halted: bool,
    /// Shows the program to other processes until it has ended.
    program_marker: Option<OwnedFd>,
    /// Held until the tree is empty: a process that runs the session again waits for it.
    _lock: Option<OwnedFd>,
    start: Start,
}

impl Supervisor {
    /// Runs until the tree is empty. No failure ends the supervisor before that: a failed step is retried with the next
    /// action.
    fn run(mut self) {
        loop {
            let empty = self.reap();
            if empty {
                self.outbox.push(&Report::Empty);
                break;
            }
            if self.tree.leader().is_none() {
                // Processes that the program left behind are ended.
                self.end(self.orphan_grace());
            }
            if let Some(action) = self.termination.tick(Instant::now())
                && self.execute(action) == AfterAction::GiveUp
            {
                break;
            }
            self.check_halt();
            self.flush();
            if self.owner.is_none() {
                // Detected by a read or a write, so before the next wait, which may have no timeout.
                self.end(self.orphan_grace());
            }
            self.wait();
            if self.handle_orders().is_err() {
                // A peer that breaks the protocol is not an owner.
                self.owner = None;
            }
        }
        start::clean_up(&self.start);
        self.flush();
    }

    const fn orphan_grace(&self) -> Duration {
        Duration::from_millis(self.start.orphan_grace_ms)
    }

    /// Waits for an order, a change of a child, or the time of the next action.
    fn wait(&mut self) {
        let now = Instant::now();
        let wait = [self.termination.next_action_in(now), self.halting.map(|_| HALT_INTERVAL)]
            .into_iter()
            .flatten()
            .min();
        let timeout = wait.map(|wait| Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(wait.subsec_nanos()),
        });
        let mut events = PollFlags::IN;
        if !self.outbox.is_empty() {
            events |= PollFlags::OUT;
        }
        let mut sources = vec![PollFd::new(&self.children, PollFlags::IN)];
        sources.extend(self.owner.as_ref().map(|owner| PollFd::new(owner, events)));
        match poll(&mut sources, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            // The kernel is out of memory: wait before the next call.
            Err(_) => std::thread::sleep(HALT_INTERVAL),
        }
        let owner_is_ready = sources
            .get(1)
            .is_some_and(|owner| owner.revents().intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR));
        if owner_is_ready && let Some(owner) = &self.owner {
            // A failing socket is treated like an owner that is gone.
            if !self.inbox.receive(owner).unwrap_or(false) {
                self.owner = None;
            }
        }
    }

    fn handle_orders(&mut self) -> io::Result<()> {
        while let Some(order) = self.inbox.next()? {
            match order {
                Order::Start(_) => return Err(io::ErrorKind::InvalidData.into()),
                Order::Signal { signal } => {
                    if let Some(signal) = Signal::from_named_raw(signal)
                        && self.tree.signal(signal)
                    {
                        self.outbox.push(&Report::Signalled { signal: signal.as_raw() });
                    }
                }
                Order::Halt => {
                    self.halted = true;
                    self.signal_all(Signal::STOP);
                    self.halting = Some((Instant::now() + HALT_TIMEOUT, false));
                }
                Order::Continue => {
                    self.halting = None;
                    self.halted = false;
                    self.signal_all(Signal::CONT);
                }
                Order::Wake => {
                    let _ = self.tree.signal_group(Signal::CONT);
                }
                Order::End { grace_ms } => self.end(Duration::from_millis(grace_ms)),
            }
        }
        Ok(())
    }

    fn end(&mut self, grace: Duration) {
        if let Some(action) = self.termination.request(Instant::now(), grace) {
            self.halting = None;
            self.execute(action);
        }
    }

    fn execute(&mut self, action: Action) -> AfterAction {
        match action {
            Action::Terminate => {
                self.halted = false;
                self.signal_all(Signal::CONT);
                self.signal_all(Signal::TERM);
            }
            Action::Kill { freeze } => {
                if self.termination.is_first_kill() {
                    self.outbox.push(&Report::Signalled { signal: Signal::KILL.as_raw() });
                }
                let _ = self.tree.kill(freeze);
            }
            Action::ReportEscaped => {
                let (Ok(sent), Ok(left)) = (self.tree.kill(true), self.tree.live_descendants()) else {
                    return AfterAction::Continue;
                };
                let processes =
                    left.iter().map(|process| Escaped::new(pid_number(process.pid), process.name.clone()));
                self.outbox.push(&Report::Escaped { processes: processes.collect() });
                if !left.is_empty() && sent.refused.len() == left.len() {
                    return AfterAction::GiveUp;
                }
            }
        }
        AfterAction::Continue
    }

    fn signal_all(&mut self, signal: Signal) {
        if self.tree.signal_all(signal).is_ok() {
            self.outbox.push(&Report::Signalled { signal: signal.as_raw() });
        }
    }

    /// Checks that the whole tree has stopped, and stops processes that were forked while the signal was being sent.
    ///
    /// A process that waits inside the kernel with the signal pending stops on its way out, so from the second check on
    /// it is treated as stopped. A shell whose child was stopped between `vfork` and `exec` waits in the kernel for as
    /// long as the halt lasts.
    fn check_halt(&mut self) {
        let Some((until, signalled)) = self.halting else { return };
        let alive = self.tree.live_descendants().unwrap_or_default();
        let all = |is_quiet: fn(&Process) -> bool| !alive.is_empty() && alive.iter().all(is_quiet);
        let quiet = all(|process| process.is_stopped() || process.is_in_kernel());
        if all(Process::is_stopped) || quiet && signalled || Instant::now() >= until {
            self.halting = None;
            self.outbox.push(&Report::Halted);
        } else {
            let _ = self.tree.signal_all(Signal::STOP);
            self.halting = Some((until, quiet));
        }
    }

    /// Processes every child that has ended, stopped or continued. Returns `true` if none is left. Because every
    /// descendant without a parent is a child of this process, the tree is empty then.
    fn reap(&mut self) -> bool {
        self.children.clear();
        loop {
            let options = WaitOptions::NOHANG | WaitOptions::UNTRACED | WaitOptions::CONTINUED;
            match rustix::process::wait(options) {
                Ok(Some((pid, status))) if Some(pid) == self.tree.leader() => self.on_leader_status(status),
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Err(Errno::CHILD) => return true,
                Ok(None) | Err(_) => return false,
            }
        }
    }

    fn on_leader_status(&mut self, status: WaitStatus) {
        let report = match (status.exit_status(), status.terminating_signal(), status.stopping_signal()) {
            (Some(code), _, _) => Report::Ended { status: Ended::Exited(code) },
            (_, Some(signal), _) => Report::Ended { status: Ended::Signalled(signal) },
            (_, _, Some(_)) if self.halted => return,
            (_, _, Some(signal)) => Report::Stopped { signal },
            (None, None, None) => Report::Continued,
        };
        if matches!(report, Report::Ended { .. }) {
            self.tree.clear_leader();
            self.program_marker = None;
        }
        self.outbox.push(&report);
    }

    fn flush(&mut self) {
        if let Some(owner) = &self.owner
            && !self.outbox.send(owner.as_fd())
        {
            self.owner = None;
        }
    }
}

/// The next step after an action.
#[derive(Debug, PartialEq, Eq)]
enum AfterAction {
    Continue,
    /// All processes that are left belong to other users. They may run forever, and this process cannot end them.
    GiveUp,
}

fn pid_number(pid: Pid) -> u32 {
    pid.as_raw_nonzero().get().unsigned_abs()
}
