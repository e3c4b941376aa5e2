//! Signals of the supervisor itself: notification of changed children, and survival of signals to the group it
//! supervises.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use nix::sys::signal::SigSet;
use rustix::process::Signal;

/// Signals that a terminal, a shell or a user sends to whole groups. They are caught and not ignored: an ignored signal
/// stays ignored in the program that is started, a caught one does not.
const OUTLIVED: [Signal; 10] = [
    Signal::HUP,
    Signal::INT,
    Signal::QUIT,
    Signal::TERM,
    Signal::USR1,
    Signal::USR2,
    Signal::ALARM,
    Signal::TSTP,
    Signal::TTIN,
    Signal::TTOU,
];
/// Signals that stop a program for using its terminal too early: if they were ignored, its first read would fail.
const NEVER_IGNORED: [Signal; 2] = [Signal::TTIN, Signal::TTOU];

/// A notification of children that have ended, stopped or continued.
#[derive(Debug)]
pub(crate) struct Children {
    wake: UnixStream,
}

impl Children {
    /// Catches all signals that this process must survive, and unblocks all. A signal that was already ignored stays
    /// ignored, here and in the program, as `nohup` requires. TTIN and TTOU are the exception, because a program in a
    /// group of its own may have to wait for its terminal.
    pub(crate) fn watch() -> io::Result<Self> {
        let (wake, write) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        signal_hook::low_level::pipe::register(Signal::CHILD.as_raw(), write)?;
        let caught = Arc::new(AtomicBool::new(false));
        let stays_ignored =
            |signal: Signal| session_inherit::is_ignored(signal.as_raw()) && !NEVER_IGNORED.contains(&signal);
        for signal in OUTLIVED.into_iter().filter(|signal| !stays_ignored(*signal)) {
            signal_hook::flag::register(signal.as_raw(), Arc::clone(&caught))?;
        }
        // A signal that the owner blocks would never reach the program, because the mask is inherited.
        SigSet::empty().thread_set_mask()?;
        Ok(Self { wake })
    }

    /// Returns `true` if a child has changed since the last [`clear`](Self::clear).
    pub(crate) fn have_changed(&self) -> bool {
        rustix::io::ioctl_fionread(&self.wake).is_ok_and(|pending| pending > 0)
    }

    /// Discards pending notifications. The caller checks all children next.
    pub(crate) fn clear(&self) {
        let mut buffer = [0; 64];
        while matches!((&self.wake).read(&mut buffer), Ok(1..)) {}
    }
}

impl AsFd for Children {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}
