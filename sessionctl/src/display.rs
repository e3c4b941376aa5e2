//! The terminal that shows what this command prints.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;
use rustix::termios::{isatty, tcgetpgrp};

/// The output of this process that is a terminal.
#[derive(Debug)]
pub(crate) enum Display {
    Stdout(io::Stdout),
    Stderr(io::Stderr),
}

impl AsFd for Display {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Stdout(stdout) => stdout.as_fd(),
            Self::Stderr(stderr) => stderr.as_fd(),
        }
    }
}

/// Returns the output of this process that is a terminal, if one is.
pub(crate) fn display() -> Option<Display> {
    if isatty(io::stdout()) {
        Some(Display::Stdout(io::stdout()))
    } else if isatty(io::stderr()) {
        Some(Display::Stderr(io::stderr()))
    } else {
        None
    }
}

/// Returns `true` if this process is in the foreground of the terminal that shows what it prints, or there is none.
pub(crate) fn is_in_foreground() -> bool {
    display().is_none_or(|display| has_foreground(&display))
}

/// Returns `true` if the job of this process is in the foreground of a terminal.
pub(crate) fn has_foreground(terminal: impl AsFd) -> bool {
    match tcgetpgrp(terminal) {
        // As nix says it: in a PID namespace, the group may be one that rustix has no id for.
        Ok(group) => group.as_raw_nonzero().get() == nix::unistd::getpgrp().as_raw(),
        // Not the controlling terminal, so that there is no job control on it.
        Err(error) => error == Errno::NOTTY,
    }
}
