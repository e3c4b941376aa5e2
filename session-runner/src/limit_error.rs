//! Errors of limits of the system: of processes and threads, and of open files.

use std::io;

use rustix::io::Errno;

/// Returns `true` for an error of a limit: `fork` and the start of a thread fail with EAGAIN.
pub(crate) fn is_limit(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::AGAIN | Errno::MFILE | Errno::NFILE))
}

pub(crate) fn limit_text(error: &io::Error) -> &'static str {
    if error.raw_os_error() == Some(Errno::AGAIN.raw_os_error()) {
        "no process or thread could be started, by the limit of this user (`ulimit -u`) or of its control group"
    } else {
        "no more files can be opened, by the limit of this process (`ulimit -n`) or of the system"
    }
}
