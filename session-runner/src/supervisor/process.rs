//! The process that supervises: starts the program, carries out its owner's orders, and ends with its tree.

mod halt;
mod outputs;
mod signals;
mod start;
mod stay;
mod termination;
mod tree;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};

use self::halt::{HALT_INTERVAL, Halt, HaltCheck};
use self::outputs::Outputs;
use self::signals::Children;
use self::start::Started;
use self::termination::{Action, Termination};
use self::tree::Tree;
use super::messages::{
    Background, BackgroundKind, BackgroundProcess, Ended, Escaped, Inbox, Order, Outbox, Report, Spare, Start,
};
use super::program_marker::show_program;

/// Interval of looking for processes that are left after the program: the end of one that is no child is not notified.
const BACKGROUND_INTERVAL: Duration = Duration::from_millis(100);

/// Supervises one program, as the order of the owner at the other end of stdin says.
pub(crate) fn supervise() -> io::Result<()> {
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
        Ok(Started { pid, start_time, outputs, terminal, lock }) => {
            let program_marker = show_program(pid);
            outbox.push(&Report::Started { pid: pid_number(pid), start_time });
            Supervisor {
                owner: Some(owner),
                inbox,
                outbox,
                children,
                tree: Tree::new(pid),
                outputs: Outputs::new(outputs, terminal.as_ref().map(AsFd::as_fd)),
                terminal,
                background: Vec::new(),
                termination: Termination::NotRequested,
                spare: Spare::Everything,
                signals_program: false,
                halt: Halt::default(),
                program_marker,
                lock,
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
    outputs: Outputs,
    /// The slave of the program's terminal until the program has ended: while it is open, reading the master is no error.
    terminal: Option<OwnedFd>,
    /// The processes that are left after the program, as last reported.
    background: Vec<Background>,
    termination: Termination,
    /// The processes that the requested termination leaves running.
    spare: Spare,
    /// `true` if the program was still running when its end was requested.
    signals_program: bool,
    halt: Halt,
    /// Shows the program to other processes until it has ended.
    program_marker: Option<OwnedFd>,
    /// Held until the tree has ended: a process that runs the session again waits for it.
    lock: Option<OwnedFd>,
    start: Start,
}

impl Supervisor {
    /// Runs until the tree has ended. No failure ends the supervisor before that: a failed step is retried with the next
    /// action.
    fn run(mut self) {
        let left = loop {
            let childless = self.reap();
            if let Some(left) = self.left(childless) {
                break left;
            }
            if let Some(action) = self.termination.tick(Instant::now(), self.start.terminal)
                && self.execute(action) == AfterAction::GiveUp
            {
                break Vec::new();
            }
            self.check_halt();
            self.flush();
            if self.owner.is_none() {
                // Detected by a read or a write, so before the next wait, which may have no timeout.
                self.end(self.orphan_grace(), Spare::OwnSession);
            }
            self.wait();
            if self.handle_orders().is_err() {
                // A peer that breaks the protocol is not an owner.
                self.owner = None;
            }
        };
        if !left.is_empty() {
            stay::record(&self.start, &left);
        }
        start::clean_up(&self.start);
        // Before the last report, after which the owner takes it.
        self.lock = None;
        self.flush();
        self.owner = None;
        if !left.is_empty() && self.outputs.have_writers() {
            stay::discard(self.outputs, &self.children);
        }
    }

    /// Returns the processes that stay, once only those are left; the last report then says so.
    fn left(&mut self, childless: bool) -> Option<Vec<BackgroundProcess>> {
        if childless {
            self.outbox.push(&Report::Empty);
            return Some(Vec::new());
        }
        if self.tree.leader().is_some() {
            return None;
        }
        let found = self.find_background()?;
        if self.background != found {
            self.background.clone_from(&found);
            if !self.termination.is_requested() {
                self.outbox.push(&Report::Background { processes: found.clone() });
            }
        }
        // A process that was running when the search began was found, or has ended since, and so has the child of this
        // process above it: then the search says nothing. Members of a chain that forks and exits are seldom found.
        if self.children.have_changed() {
            return None;
        }
        if found.is_empty() {
            if !self.tree.has_excluded() {
                // Only the system knows: it will say that no child is left.
                return None;
            }
            self.outbox.push(&Report::Empty);
            return Some(Vec::new());
        }
        if !self.termination.is_requested() || !found.iter().all(|found| found.kind.is_spared(self.spare)) {
            return None;
        }
        let processes: Vec<BackgroundProcess> = found.into_iter().map(|found| found.process).collect();
        self.outbox.push(&Report::Left { processes: processes.clone() });
        Some(processes)
    }

    fn find_background(&mut self) -> Option<Vec<Background>> {
        self.tree.background(&self.outputs.identities()).ok()
    }

    const fn orphan_grace(&self) -> Duration {
        Duration::from_millis(self.start.orphan_grace_ms)
    }

    /// Waits for an order, a change of a child, or the time of the next action.
    fn wait(&mut self) {
        let now = Instant::now();
        let background = self.tree.leader().is_none().then_some(BACKGROUND_INTERVAL);
        let wait = [
            self.termination.next_action_in(now),
            self.halt.is_checking().then_some(HALT_INTERVAL),
            background,
        ]
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
        let read_here = if self.owner.is_none() { self.outputs.open().collect() } else { Vec::new() };
        sources.extend(read_here.iter().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        match poll(&mut sources, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            // The kernel is out of memory: wait before the next call.
            Err(_) => std::thread::sleep(HALT_INTERVAL),
        }
        let owner_is_ready = self.owner.is_some()
            && sources.get(1).is_some_and(|owner| {
                owner.revents().intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR)
            });
        if owner_is_ready && let Some(owner) = &self.owner {
            // A failing socket is treated like an owner that is gone.
            if !self.inbox.receive(owner).unwrap_or(false) {
                self.owner = None;
            }
        }
        if self.owner.is_none() {
            self.outputs.discard();
        }
    }

    fn handle_orders(&mut self) -> io::Result<()> {
        while let Some(order) = self.inbox.next()? {
            match order {
                Order::Start(_) => return Err(io::ErrorKind::InvalidData.into()),
                Order::Signal { signal } => {
                    if let Some(signal) = Signal::from_named_raw(signal)
                        && self.tree.signal_program(signal)
                    {
                        self.outbox.push(&Report::Signalled { signal: signal.as_raw() });
                    }
                }
                Order::Halt => {
                    self.signal_all(Signal::STOP, Spare::Nothing);
                    self.halt.order(Instant::now());
                }
                Order::Continue => {
                    self.halt.lift();
                    self.signal_all(Signal::CONT, Spare::Nothing);
                }
                Order::Wake => {
                    let _ = self.tree.signal_group(Signal::CONT);
                }
                Order::End { grace_ms, spare } => self.end(Duration::from_millis(grace_ms), spare),
                Order::CloseOutput { place } => self.outputs.close(place),
                Order::Exclude { pid, start_time } => {
                    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                        self.tree.exclude(pid, start_time);
                    }
                }
            }
        }
        Ok(())
    }

    /// Requests the end of the tree. A second request can only shorten the grace period and spare fewer processes.
    fn end(&mut self, grace: Duration, spare: Spare) {
        if spare < self.spare {
            // Those that are no longer spared have not been asked yet.
            self.spare = spare;
            self.termination = Termination::NotRequested;
        }
        if let Some(action) = self.termination.request(Instant::now(), grace) {
            self.signals_program = self.tree.leader().is_some();
            self.report_ending();
            self.execute(action);
        }
    }

    /// Reports the background processes that are going to be ended. While the program runs, only those that are
    /// separate from it: the others end with it.
    fn report_ending(&mut self) {
        let with_program = self.tree.leader().is_some();
        let Some(found) = self.find_background() else { return };
        let is_named = |found: &Background| {
            let ends_with_program = with_program && found.kind == BackgroundKind::Attached;
            !found.kind.is_spared(self.spare) && !ends_with_program
        };
        let processes: Vec<BackgroundProcess> =
            found.into_iter().filter(is_named).map(|found| found.process).collect();
        if !processes.is_empty() {
            self.outbox.push(&Report::Ending { processes });
        }
    }

    fn execute(&mut self, action: Action) -> AfterAction {
        match action {
            Action::Terminate => {
                self.halt.lift();
                self.signal_all(Signal::CONT, Spare::Nothing);
                self.signal_all(Signal::TERM, self.spare);
            }
            Action::HangUp => {
                self.signal_all(Signal::HUP, self.spare);
                self.signal_all(Signal::CONT, self.spare);
            }
            Action::Kill { freeze } => {
                if self.halt.lift() && self.spare > Spare::Nothing {
                    // Those that stay must not stay stopped.
                    let _ = self.tree.signal(Signal::CONT, Spare::Nothing);
                }
                if self.termination.is_first_kill() {
                    self.report_signal(Signal::KILL);
                }
                let _ = self.tree.kill(freeze, self.spare);
            }
            Action::ReportEscaped => {
                let (Ok(sent), Ok(left)) = (self.tree.kill(true, self.spare), self.tree.targets(self.spare))
                else {
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

    fn signal_all(&mut self, signal: Signal, spare: Spare) {
        if self.tree.signal(signal, spare).is_ok() {
            self.report_signal(signal);
        }
    }

    /// Reports a signal to the program with its tree. Background processes alone are named when they are ended.
    fn report_signal(&mut self, signal: Signal) {
        if self.signals_program || self.tree.leader().is_some() {
            self.outbox.push(&Report::Signalled { signal: signal.as_raw() });
        }
    }

    fn check_halt(&mut self) {
        if !self.halt.is_checking() {
            return;
        }
        let alive = self.tree.targets(Spare::Nothing).unwrap_or_default();
        match self.halt.check(Instant::now(), &alive) {
            Some(HaltCheck::Stopped) => self.outbox.push(&Report::Halted),
            Some(HaltCheck::SignalAgain) => drop(self.tree.signal(Signal::STOP, Spare::Nothing)),
            None => {}
        }
    }

    /// Processes every child that has ended, stopped or continued. Returns `true` if none is left. Because every
    /// descendant without a parent is a child of this process, the tree is empty then.
    fn reap(&mut self) -> bool {
        self.children.clear();
        let mut ended = None;
        let childless = loop {
            let options = WaitOptions::NOHANG | WaitOptions::UNTRACED | WaitOptions::CONTINUED;
            match rustix::process::wait(options) {
                Ok(Some((pid, status))) if Some(pid) == self.tree.leader() => {
                    ended = self.on_leader_status(status).or(ended);
                }
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Err(Errno::CHILD) => break true,
                Ok(None) | Err(_) => break false,
            }
        };
        if let Some(status) = ended {
            self.tree.clear_leader();
            self.program_marker = None;
            if let Some(terminal) = self.terminal.take() {
                // As from a shell, the keys do not reach background processes. The end of this process would hang up
                // those that are in the foreground.
                let _ = rustix::termios::tcsetpgrp(terminal, rustix::process::getpid());
            }
            self.background = if childless { None } else { self.find_background() }.unwrap_or_default();
            self.outbox.push(&Report::Ended { status, background: self.background.clone() });
        }
        childless
    }

    /// Reports a stop or continuation of the program. Returns its end.
    fn on_leader_status(&mut self, status: WaitStatus) -> Option<Ended> {
        let report = match (status.exit_status(), status.terminating_signal(), status.stopping_signal()) {
            (Some(code), _, _) => return Some(Ended::Exited(code)),
            (_, Some(signal), _) => return Some(Ended::Signalled(signal)),
            (_, _, Some(_)) if self.halt.is_ordered() => return None,
            (_, _, Some(signal)) => Report::Stopped { signal },
            (None, None, None) => Report::Continued,
        };
        self.outbox.push(&report);
        None
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
