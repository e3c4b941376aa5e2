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
    our_group: Pid,
    program_group: Pid,
    /// How it was before the program got it, until it is taken back. A shell may have done that.
    saved_modes: Option<Termios>,
    /// How the program left it, and which group of its own had it.
    program_state: Option<(Pid, Termios)>,
}

impl Terminal {
    /// The terminal, for the program that leads this group; `None` where there is none.
    pub(crate) fn open(program_group: Pid) -> Option<Self> {
        let flags = i32::try_from((OFlags::NOCTTY | OFlags::CLOEXEC).bits()).unwrap_or(0);
        let named = OpenOptions::new().read(true).write(true).custom_flags(flags).open("/dev/tty").ok();
        let tty = named.or_else(|| {
            // A folder of devices may lack it.
            tcgetpgrp(io::stdin()).ok()?;
            Some(io::stdin().as_fd().try_clone_to_owned().ok()?.into())
        })?;
        Some(Self { tty, our_group: getpgrp(), program_group, saved_modes: None, program_state: None })
    }

    /// Whether the program has it, by gift.
    pub(crate) fn is_handed_over(&self) -> bool {
        self.saved_modes.is_some()
            && self.foreground().is_ok_and(|group| group != self.our_group && self.belongs_to_program(group))
    }

    /// Whether it is this process's to give.
    pub(crate) fn is_ours(&self) -> bool {
        self.foreground().is_ok_and(|group| group == self.our_group)
    }

    /// Hands it to the program, as that left it, if it is this process's to give. Whether the program has it now.
    pub(crate) fn hand_over(&mut self) -> bool {
        let Ok(foreground) = self.foreground() else { return false };
        if foreground != self.our_group {
            return self.saved_modes.is_some() && foreground == self.program_group;
        }
        let Some(modes) = self.saved_modes.take().or_else(|| tcgetattr(&self.tty).ok()) else { return false };
        let program_state = self.program_state.take();
        let group = program_state.as_ref().map_or(self.program_group, |(group, _)| *group);
        let handed_over = tcsetpgrp(&self.tty, group).or_else(|_| tcsetpgrp(&self.tty, self.program_group));
        self.saved_modes = Some(modes);
        if handed_over.is_err() {
            // It has ended.
            self.reclaim();
            return false;
        }
        if let Some((_, modes)) = program_state {
            let _ = tcsetattr(&self.tty, OptionalActions::Now, &modes);
        }
        true
    }

    /// Takes it back, and makes it what it was.
    pub(crate) fn reclaim(&mut self) {
        let Some(modes) = self.saved_modes.take() else { return };
        let Ok(foreground) = self.foreground() else { return };
        if foreground != self.our_group {
            if !self.belongs_to_program(foreground) {
                return;
            }
            self.program_state = tcgetattr(&self.tty).ok().map(|modes| (foreground, modes));
            if tcsetpgrp(&self.tty, self.our_group).is_err() {
                return;
            }
        }
        // Not once all is printed: a terminal that was held with a key would hold this process, too.
        let _ = tcsetattr(&self.tty, OptionalActions::Now, &modes);
    }

    fn foreground(&self) -> io::Result<Pid> {
        Ok(tcgetpgrp(&self.tty)?)
    }

    /// Whether a group is the program's, one that the program made, or one that is no more.
    fn belongs_to_program(&self, group: Pid) -> bool {
        group == self.program_group
            || test_kill_process_group(group) == Err(Errno::SRCH)
            || self.descends_from_program(group)
    }

    fn descends_from_program(&self, group: Pid) -> bool {
        let ancestors = std::iter::successors(Some(group), |pid| parent(*pid));
        ancestors.take(GENERATIONS).any(|pid| pid == self.program_group)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.reclaim();
    }
}

/// Whether the program is to have the terminal before it asks for it: it reads from there, and nobody else of this
/// process's group is in sight who might. Somebody who reads what it prints could be a pager.
pub(crate) fn wants_terminal() -> bool {
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
