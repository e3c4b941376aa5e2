//! The standard error output of this process: terminal check, width and non-blocking writes.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::termios::tcgetwinsize;

use super::Sink;

/// Columns of a terminal that does not report its width.
const COLUMNS: u16 = 80;

/// Returns `true` if it is a terminal whose cursor can be moved.
pub(super) fn is_terminal() -> bool {
    let moves = |term: std::ffi::OsString| !term.is_empty() && term != "dumb";
    io::stderr().is_terminal() && std::env::var_os("TERM").is_some_and(moves)
}

pub(super) fn columns() -> u16 {
    let size = tcgetwinsize(io::stderr()).ok();
    size.map(|size| size.ws_col).filter(|columns| *columns > 0).unwrap_or(COLUMNS)
}

#[derive(Debug)]
pub(super) struct Stderr {
    /// The terminal, if it is one, reopened so that no write blocks.
    terminal: Option<File>,
}

impl Stderr {
    pub(super) fn open() -> Self {
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let path = "/proc/self/fd/2";
        let terminal =
            io::stderr().is_terminal().then(|| rustix::fs::open(path, flags, Mode::empty()).ok()).flatten();
        Self { terminal: terminal.map(File::from) }
    }
}

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.terminal {
            Some(terminal) => terminal.write(bytes),
            None => io::stderr().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl Sink for Stderr {
    /// Returns `false` for a terminal that was stopped (Ctrl-S) and for a full pipe. A ready terminal may have room for
    /// a single byte only; a ready pipe has enough.
    fn is_ready(&self) -> bool {
        let stderr = io::stderr();
        let mut fds = [PollFd::new(&stderr, PollFlags::OUT)];
        let no_wait = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut fds, Some(&no_wait)).is_ok()
            && fds.iter().any(|stderr| stderr.revents().contains(PollFlags::OUT))
    }
}
