//! The supervisor's copies of a program's output pipes. They are read only while there is no owner to do it, so that no
//! process that is left fails to write.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// Bytes of one read: the capacity of a pipe of the default size.
const READ_BYTES: usize = 64 * 1024;

/// The read ends of stdout and stderr, as far as they are open.
#[derive(Debug)]
pub(crate) struct Outputs {
    open: [Option<OwnedFd>; 2],
}

impl Outputs {
    pub(crate) fn new([stdout, stderr]: [OwnedFd; 2]) -> Self {
        Self { open: [Some(stdout), Some(stderr)] }
    }

    /// Closes one of them, so that a program that writes to it meets EPIPE.
    pub(crate) fn close(&mut self, stderr: bool) {
        if let Some(open) = self.open.get_mut(usize::from(stderr)) {
            *open = None;
        }
    }

    pub(crate) fn open(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.open.iter().flatten().map(AsFd::as_fd)
    }

    /// Returns device and inode of each.
    pub(crate) fn identities(&self) -> Vec<(u64, u64)> {
        self.open().filter_map(|pipe| rustix::fs::fstat(pipe).ok()).map(|s| (s.st_dev, s.st_ino)).collect()
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
        for open in &mut self.open {
            let Some(pipe) = open else { continue };
            let mut sources = [PollFd::new(pipe, PollFlags::IN)];
            if !matches!(poll(&mut sources, Some(&no_wait)), Ok(1..)) {
                continue;
            }
            match rustix::io::read(&*pipe, &mut buffer) {
                Ok(1..) | Err(Errno::INTR | Errno::AGAIN) => {}
                Ok(0) | Err(_) => *open = None,
            }
        }
    }
}
