//! The controlling terminal, and its transfer between this process and the program that it runs.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;

use rustix::fs::{FileType, OFlags, fstat};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process_group};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr, tcsetpgrp};

/// Limit of ancestors searched for the program.
const MAX_ANCESTORS: usize = 256;

/// The controlling terminal. Dropping this restores the modes that it had before the program got it.
///
/// The kernel knows which process group is in the foreground. This type remembers whether this process handed the
/// terminal to the program: only then may it reclaim it. Signals that stop a background process for changing its
/// terminal have to be blocked.
#[derive(Debug)]
pub(crate) struct Terminal {
    tty: std::fs::File,
    our_group: Pid,
    program_group: Pid,
    /// Modes before the program got the terminal; `None` while it is not handed over. A shell may have taken it since.
    saved_modes: Option<Termios>,
    /// The program's group that last had the terminal, and the modes that it left.
    program_state: Option<(Pid, Termios)>,
}

impl Terminal {
    /// Opens the controlling terminal for the program that leads this group; `None` if there is none, or if it cannot be
    /// handed over, because this process's group is outside its PID namespace.
    pub(crate) fn open(program_group: Pid) -> Option<Self> {
        let our_group = Pid::from_raw(nix::unistd::getpgrp().as_raw())?;
        let flags = i32::try_from((OFlags::NOCTTY | OFlags::CLOEXEC).bits()).unwrap_or(0);
        let named = OpenOptions::new().read(true).write(true).custom_flags(flags).open("/dev/tty").ok();
        let tty = named.or_else(|| {
            // `/dev/tty` may be missing, for example in a container.
            tcgetpgrp(io::stdin()).ok()?;
            Some(io::stdin().as_fd().try_clone_to_owned().ok()?.into())
        })?;
        Some(Self { tty, our_group, program_group, saved_modes: None, program_state: None })
    }

    /// Returns `true` if the program has the terminal, handed over by this process.
    pub(crate) fn is_handed_over(&self) -> bool {
        self.saved_modes.is_some()
            && self.foreground().is_ok_and(|group| group != self.our_group && self.belongs_to_program(group))
    }

    /// Returns `true` if this process's group is in the foreground.
    pub(crate) fn is_ours(&self) -> bool {
        self.foreground().is_ok_and(|group| group == self.our_group)
    }

    /// Hands the terminal to the program, with the modes that the program last left, if this process has it. Returns
    /// `true` if the program has it now.
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
            // The program has ended.
            self.reclaim();
            return false;
        }
        if let Some((_, modes)) = program_state {
            let _ = tcsetattr(&self.tty, OptionalActions::Now, &modes);
        }
        true
    }

    /// Returns the terminal to this process and restores its modes.
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
        // Not after draining the output: a terminal halted with Ctrl-S would block this process.
        let _ = tcsetattr(&self.tty, OptionalActions::Now, &modes);
    }

    fn foreground(&self) -> io::Result<Pid> {
        Ok(tcgetpgrp(&self.tty)?)
    }

    /// Returns `true` if a group is the program's, descends from it, or no longer exists.
    fn belongs_to_program(&self, group: Pid) -> bool {
        group == self.program_group
            || test_kill_process_group(group) == Err(Errno::SRCH)
            || self.descends_from_program(group)
    }

    fn descends_from_program(&self, group: Pid) -> bool {
        let ancestors = std::iter::successors(Some(group), |pid| parent(*pid));
        ancestors.take(MAX_ANCESTORS).any(|pid| pid == self.program_group)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.reclaim();
    }
}

/// Returns `true` if the program gets the terminal from the start: stdin is the terminal, and stdout is not a pipe,
/// whose reader could be a pager that needs the terminal.
pub(crate) fn wants_terminal() -> bool {
    let shared = fstat(io::stdout()).is_ok_and(|stdout| {
        matches!(FileType::from_raw_mode(stdout.st_mode), FileType::Fifo | FileType::Socket)
    });
    // An error means that stdin is not the controlling terminal.
    !shared && tcgetpgrp(io::stdin()).is_ok()
}

/// Returns the parent of a process. proc(5): the state and the parent follow the name, which is in parentheses and may
/// contain anything.
fn parent(pid: Pid) -> Option<Pid> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    Pid::from_raw(fields.split(' ').nth(1)?.parse().ok()?)
}
