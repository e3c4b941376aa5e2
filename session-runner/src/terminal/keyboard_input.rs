//! The bytes that were typed and that the program's terminal has not taken yet.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;

/// Bytes that may wait. More is left with the viewers.
const MAX_WAITING: usize = 64 * 1024;

/// The queue of what was typed.
#[derive(Debug, Default)]
pub(crate) struct Typing {
    waiting: VecDeque<u8>,
}

impl Typing {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.waiting.extend(bytes);
    }

    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(crate) fn has_room(&self) -> bool {
        self.waiting.len() < MAX_WAITING
    }

    /// Returns `true` if so many bytes fit.
    pub(crate) fn has_room_for(&self, length: usize) -> bool {
        self.waiting.len() + length <= MAX_WAITING
    }

    /// Writes as much as the terminal takes without waiting.
    pub(crate) fn write(&mut self, master: BorrowedFd<'_>) {
        while !self.waiting.is_empty() {
            let (next, _) = self.waiting.as_slices();
            match rustix::io::write(master, next) {
                Ok(written) => drop(self.waiting.drain(..written)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                // No process has the terminal open.
                Err(_) => return self.clear(),
            }
        }
    }

    pub(crate) fn clear(&mut self) {
        self.waiting.clear();
    }
}
