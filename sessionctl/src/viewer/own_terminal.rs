//! The terminal of a viewer: read and written without waiting, in raw modes while the viewer has it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, OutputModes, Termios, tcgetattr, tcsetattr};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::display::has_foreground;

/// Bytes of output that may wait for a slow terminal.
const MAX_WAITING: usize = 64 * 1024;
/// Bytes of one read.
const READ_BYTES: usize = 16 * 1024;

/// The terminal of a viewer. Dropping it restores the modes.
#[derive(Debug)]
pub(super) struct OwnTerminal {
    /// Opened for this viewer alone: its lock and its flags are nobody else's.
    file: AsyncFd<OwnedFd>,
    /// The modes before they were raw, and the raw ones, while this viewer has the terminal.
    modes: Option<(Termios, Termios)>,
    waiting: VecDeque<u8>,
    /// `false` once the terminal is gone.
    is_open: bool,
}

impl OwnTerminal {
    /// Opens the terminal behind a descriptor.
    #[expect(
        deprecated,
        reason = "its successor is unsafe, for descriptors that are not owned; this one is owned"
    )]
    pub(super) fn open(terminal: BorrowedFd<'_>) -> io::Result<Self> {
        let path = format!("/proc/self/fd/{}", terminal.as_raw_fd());
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        // After `su`, the terminal belongs to another user: then flags and lock are shared with other processes.
        let file = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(file) => file,
            Err(_) => terminal.try_clone_to_owned()?,
        };
        let file = AsyncFd::new(file)?;
        Ok(Self { file, modes: None, waiting: VecDeque::new(), is_open: true })
    }

    /// Returns `true` if this process may set the modes and read the keys: no other viewer does, and its job is in the
    /// foreground. Another viewer cannot as long as this one has the terminal.
    pub(super) fn try_lock(&self) -> bool {
        has_foreground(self.file.get_ref())
            && flock(self.file.get_ref(), FlockOperation::NonBlockingLockExclusive).is_ok()
    }

    /// Returns `true` if the terminal was closed.
    pub(super) fn is_gone(&self) -> bool {
        tcgetattr(self.file.get_ref()).is_err()
    }

    /// Passes keys on as they are, and output as the program's terminal has prepared it.
    pub(super) fn set_raw(&mut self) -> bool {
        let Ok(saved) = tcgetattr(self.file.get_ref()) else { return false };
        let mut raw = saved.clone();
        raw.make_raw();
        raw.output_modes.remove(OutputModes::OPOST);
        let set = tcsetattr(self.file.get_ref(), OptionalActions::Now, &raw).is_ok();
        if set {
            self.modes = Some((saved, raw));
        }
        set
    }

    pub(super) const fn is_raw(&self) -> bool {
        self.modes.is_some()
    }

    /// Gives the terminal up if another process has changed its modes, as a shell does while its job is stopped. Returns
    /// `true` if so.
    pub(super) fn give_up_if_changed(&mut self) -> bool {
        let flags = |modes: &Termios| (modes.input_modes, modes.output_modes, modes.local_modes);
        let Some((_, raw)) = &self.modes else { return false };
        let changed = tcgetattr(self.file.get_ref()).is_ok_and(|now| flags(&now) != flags(raw));
        if changed {
            self.modes = None;
            let _ = flock(self.file.get_ref(), FlockOperation::Unlock);
        }
        changed
    }

    /// Restores the modes and lets another viewer have the terminal.
    pub(super) fn release(&mut self) {
        if let Some((saved, _)) = self.modes.take() {
            let _ = tcsetattr(self.file.get_ref(), OptionalActions::Now, &saved);
        }
        let _ = flock(self.file.get_ref(), FlockOperation::Unlock);
    }

    /// Queues output.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.is_open {
            self.waiting.extend(bytes);
            self.flush();
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < MAX_WAITING
    }

    /// Reads what was typed into `typed`, and writes what waits. Returns when something was read; `false` at the end of
    /// the terminal. The future may be dropped.
    pub(super) async fn progress(&mut self, reads: bool, typed: &mut Vec<u8>) -> bool {
        loop {
            if !self.is_open {
                return false;
            }
            let mut interest = Interest::ERROR;
            if reads {
                interest |= Interest::READABLE;
            }
            if !self.waiting.is_empty() {
                interest |= Interest::WRITABLE;
            }
            let Ok(mut found) = self.file.ready(interest).await else { return false };
            if found.ready().is_writable() && !self.waiting.is_empty() {
                let (next, _) = self.waiting.as_slices();
                match rustix::io::write(found.get_inner(), next) {
                    Ok(written) => drop(self.waiting.drain(..written)),
                    Err(Errno::AGAIN) => found.clear_ready_matching(tokio::io::Ready::WRITABLE),
                    Err(Errno::INTR) => {}
                    Err(_) => {
                        self.is_open = false;
                        continue;
                    }
                }
                if self.waiting.is_empty() {
                    return true;
                }
                continue;
            }
            if reads && found.ready().is_readable() {
                let mut buffer = [0; READ_BYTES];
                match rustix::io::read(found.get_inner(), &mut buffer) {
                    Ok(0) => return false,
                    Ok(read) => {
                        typed.extend(buffer.get(..read).unwrap_or_default());
                        return true;
                    }
                    Err(Errno::AGAIN) => found.clear_ready_matching(tokio::io::Ready::READABLE),
                    Err(Errno::INTR) => {}
                    Err(_) => {
                        self.is_open = false;
                    }
                }
                continue;
            }
            if found.ready().is_error() || found.ready().is_read_closed() || found.ready().is_write_closed() {
                self.is_open = false;
                continue;
            }
            found.clear_ready();
        }
    }

    /// Writes what waits without waiting.
    fn flush(&mut self) {
        while !self.waiting.is_empty() {
            let (next, _) = self.waiting.as_slices();
            match rustix::io::write(self.file.get_ref(), next) {
                Ok(written) => drop(self.waiting.drain(..written)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                // Closed: nothing is to be kept for it.
                Err(_) => {
                    self.is_open = false;
                    self.waiting.clear();
                }
            }
        }
    }

    /// Returns `true` if all output was written, or cannot be.
    pub(super) fn is_drained(&self) -> bool {
        self.waiting.is_empty() || !self.is_open
    }
}

impl AsFd for OwnTerminal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.get_ref().as_fd()
    }
}

impl Drop for OwnTerminal {
    fn drop(&mut self) {
        self.release();
    }
}
