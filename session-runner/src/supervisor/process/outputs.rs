//! The supervisor's copies of a program's output pipes, and of the master of its terminal. They are read only while there is no owner to do it, so that no
//! process that is left fails to write.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// Bytes of one read: the capacity of a pipe of the default size.
const READ_BYTES: usize = 64 * 1024;

/// The read ends of the outputs that are open, with the places of their streams.
#[derive(Debug)]
pub(crate) struct Outputs {
    open: Vec<(usize, OwnedFd)>,
    /// Device and inode of the slave of the terminal, which differ from those of its master.
    terminal: Option<(u64, u64)>,
}

impl Outputs {
    /// Creates them from the open ones, and the slave of the terminal.
    pub(crate) fn new(open: Vec<(usize, OwnedFd)>, terminal: Option<BorrowedFd<'_>>) -> Self {
        Self { open, terminal: terminal.and_then(identity) }
    }

    /// Closes one of them, so that a program that writes to it meets EPIPE.
    pub(crate) fn close(&mut self, place: usize) {
        self.open.retain(|(open, _)| *open != place);
    }

    pub(crate) fn open(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.open.iter().map(|(_, output)| output.as_fd())
    }

    /// Returns device and inode of each.
    pub(crate) fn identities(&self) -> Vec<(u64, u64)> {
        self.open().filter_map(identity).chain(self.terminal).collect()
    }

    /// Returns `true` if a process can still write to one of them.
    pub(crate) fn have_writers(&self) -> bool {
        let no_wait = Timespec { tv_sec: 0, tv_nsec: 0 };
        self.open().any(|pipe| {
            let mut sources = [PollFd::new(&pipe, PollFlags::empty())];
            let polled = poll(&mut sources, Some(&no_wait));
            polled.is_err() || !sources.iter().any(|source| source.revents().contains(PollFlags::HUP))
        })
    }

    /// Discards what can be read without waiting, and closes those that have ended.
    pub(crate) fn discard(&mut self) {
        let no_wait = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut buffer = vec![0; READ_BYTES];
        self.open.retain(|(_, output)| {
            let mut sources = [PollFd::new(output, PollFlags::IN)];
            if !matches!(poll(&mut sources, Some(&no_wait)), Ok(1..)) {
                return true;
            }
            // A terminal that no process has open reads as an error. One that opens it later has to wait for a reader, if
            // it prints more than the terminal holds; it is about to be ended.
            matches!(rustix::io::read(output, &mut buffer), Ok(1..) | Err(Errno::INTR | Errno::AGAIN))
        });
    }
}

fn identity(file: BorrowedFd<'_>) -> Option<(u64, u64)> {
    rustix::fs::fstat(file).ok().map(|found| (found.st_dev, found.st_ino))
}
