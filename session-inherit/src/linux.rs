//! The part that needs `unsafe`.

use std::os::fd::RawFd;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{io, mem, ptr};

const SIGNALS: std::ops::RangeInclusive<i32> = 1..=64;
/// The last one that may be ignored for this crate: nothing catches the real-time signals after it.
const LAST_STANDARD: i32 = 31;
static IGNORED: AtomicU64 = AtomicU64::new(0);
static BLOCKED: AtomicU64 = AtomicU64::new(0);

// SAFETY: the linker's list of functions to call before `main` has pointers to functions of this type. This one
// uses nothing of the standard library that is set up later.
#[used]
#[unsafe(link_section = ".init_array")]
static READ: extern "C" fn() = read;

extern "C" fn read() {
    // SAFETY: both are structures of integers, for which zeros are valid.
    let (mut action, mut mask) = unsafe { mem::zeroed::<(libc::sigaction, libc::sigset_t)>() };
    // SAFETY: without a new mask, the call only writes the current one.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), &raw mut mask) };
    for signal in SIGNALS {
        // SAFETY: without a new action, the call only writes the current one, or nothing for an unknown signal.
        let found =
            signal <= LAST_STANDARD && unsafe { libc::sigaction(signal, ptr::null(), &raw mut action) } == 0;
        let ignored = found && action.sa_sigaction == libc::SIG_IGN;
        // SAFETY: the mask was initialised above.
        let blocked = unsafe { libc::sigismember(&raw const mask, signal) } == 1;
        IGNORED.fetch_or(u64::from(ignored) << (signal - 1), Ordering::Relaxed);
        BLOCKED.fetch_or(u64::from(blocked) << (signal - 1), Ordering::Relaxed);
    }
}

pub(crate) fn started_with() -> (u64, u64) {
    (IGNORED.load(Ordering::Relaxed), BLOCKED.load(Ordering::Relaxed))
}

pub(crate) fn prepare(command: &mut Command, ignored: Vec<i32>, terminal: Option<RawFd>) {
    let apply = move || {
        // SAFETY: `signal`, `tcsetpgrp` and `getpid` may be called in a signal handler, and so between `fork` and `exec`, too.
        let ignore = |signal| unsafe { libc::signal(signal, libc::SIG_IGN) } != libc::SIG_ERR;
        let mut done = ignored.iter().all(|signal| ignore(*signal));
        if let Some(terminal) = terminal {
            // A process in the background that calls `tcsetpgrp` is stopped by SIGTTOU.
            done &= ignore(libc::SIGTTOU);
            // SAFETY: as above.
            let own_group = unsafe { libc::getpid() };
            // SAFETY: as above.
            done &= unsafe { libc::tcsetpgrp(terminal, own_group) } == 0;
            // SAFETY: as above.
            done &= unsafe { libc::signal(libc::SIGTTOU, libc::SIG_DFL) } != libc::SIG_ERR;
        }
        if done { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // SAFETY: the closure allocates nothing, takes no lock and only calls the functions above.
    unsafe { command.pre_exec(apply) };
}
