//! The terminal that this process belongs to, and who has it: this process, or the program that it runs.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;

use rustix::fs::{FileType, OFlags, fstat};
use rustix::io::Errno;
use rustix::process::{Pid, getpgrp, test_kill_process_group};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr, tcsetpgrp};

/// How far up the line of parents is looked for the program.
const GENERATIONS: usize = 256;

/// The controlling terminal. However this ends, the terminal is as it was before the program got it.
///
/// Whoever has it is the foreground process group, a fact of the system's. What is kept here is whether the program
/// got it from here: only then may it be taken back. Signals that stop a process in the background for changing its
/// terminal have to be blocked.
#[derive(Debug)]
pub(crate) struct Terminal {
    tty: std::fs::File,
    own: Pid,
    program: Pid,
    /// How it was before the program got it, until it is taken back. A shell may have done that.
    given: Option<Termios>,
    /// How the program left it, and which group of its own had it.
    left: Option<(Pid, Termios)>,
}

impl Terminal {
    /// The terminal, for the program that leads this group; `None` where there is none.
    pub(crate) fn open(program: Pid) -> Option<Self> {
        let flags = i32::try_from((OFlags::NOCTTY | OFlags::CLOEXEC).bits()).unwrap_or(0);
        let named = OpenOptions::new().read(true).write(true).custom_flags(flags).open("/dev/tty").ok();
        let tty = named.or_else(|| {
            // A folder of devices may lack it.
            tcgetpgrp(io::stdin()).ok()?;
            Some(io::stdin().as_fd().try_clone_to_owned().ok()?.into())
        })?;
        Some(Self { tty, own: getpgrp(), program, given: None, left: None })
    }

    /// Whether the program has it, by gift.
    pub(crate) fn is_given(&self) -> bool {
        self.given.is_some()
            && self.foreground().is_ok_and(|group| group != self.own && self.is_programs(group))
    }

    /// Whether it is this process's to give.
    pub(crate) fn is_own(&self) -> bool {
        self.foreground().is_ok_and(|group| group == self.own)
    }

    /// Hands it to the program, as that left it, if it is this process's to give. Whether the program has it now.
    pub(crate) fn give(&mut self) -> bool {
        let Ok(foreground) = self.foreground() else { return false };
        if foreground != self.own {
            return self.given.is_some() && foreground == self.program;
        }
        let Some(own) = self.given.take().or_else(|| tcgetattr(&self.tty).ok()) else { return false };
        let left = self.left.take();
        let group = left.as_ref().map_or(self.program, |(group, _)| *group);
        let given = tcsetpgrp(&self.tty, group).or_else(|_| tcsetpgrp(&self.tty, self.program));
        self.given = Some(own);
        if given.is_err() {
            // It has ended.
            self.take();
            return false;
        }
        if let Some((_, modes)) = left {
            let _ = tcsetattr(&self.tty, OptionalActions::Now, &modes);
        }
        true
    }

    /// Takes it back, and makes it what it was.
    pub(crate) fn take(&mut self) {
        let Some(own) = self.given.take() else { return };
        let Ok(foreground) = self.foreground() else { return };
        if foreground != self.own {
            if !self.is_programs(foreground) {
                return;
            }
            self.left = tcgetattr(&self.tty).ok().map(|modes| (foreground, modes));
            if tcsetpgrp(&self.tty, self.own).is_err() {
                return;
            }
        }
        // Not once all is printed: a terminal that was held with a key would hold this process, too.
        let _ = tcsetattr(&self.tty, OptionalActions::Now, &own);
    }

    fn foreground(&self) -> io::Result<Pid> {
        Ok(tcgetpgrp(&self.tty)?)
    }

    /// Whether a group is the program's, one that the program made, or one that is no more.
    fn is_programs(&self, group: Pid) -> bool {
        group == self.program || test_kill_process_group(group) == Err(Errno::SRCH) || self.is_below(group)
    }

    fn is_below(&self, group: Pid) -> bool {
        let line = std::iter::successors(Some(group), |pid| parent(*pid));
        line.take(GENERATIONS).any(|pid| pid == self.program)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.take();
    }
}

/// Whether the program is to have the terminal before it asks for it: it reads from there, and nobody else of this
/// process's group is in sight who might. Somebody who reads what it prints could be a pager.
pub(crate) fn is_wanted() -> bool {
    let shared = fstat(io::stdout()).is_ok_and(|stdout| {
        matches!(FileType::from_raw_mode(stdout.st_mode), FileType::Fifo | FileType::Socket)
    });
    // An error says that it is another terminal than the one that this process belongs to.
    !shared && tcgetpgrp(io::stdin()).is_ok()
}

/// proc(5): behind the name, which stands in parentheses and may hold anything, come the state and the parent.
fn parent(pid: Pid) -> Option<Pid> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    Pid::from_raw(fields.split(' ').nth(1)?.parse().ok()?)
}
